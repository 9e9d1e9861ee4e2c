-- Who this session is, whether it may do what a role of ours may, and the server's version and time.
select
    current_user::text as name,
    pg_has_role(current_user, %b::name, 'usage') as is_member,
    current_setting('server_version') as version,
    current_setting('server_version_num')::integer / 10000 as major,
    (extract(epoch from clock_timestamp()) * 1000000)::bigint as time_us
