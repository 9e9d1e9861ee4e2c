-- Whether a database has our schema, and the table that says how it was made.
select to_regnamespace('os_core') is not null as has_schema, to_regclass('os_core.migrations') is not null as has_migrations
