-- What a session of ours has from its start, for one transaction of a session that a pooler shares.
select
    set_config('search_path', 'pg_catalog', true),
    set_config('row_security', 'on', true),
    set_config('datestyle', 'ISO', true),
    set_config('jit', 'off', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('enable_sort', 'off', true),
    set_config('enable_incremental_sort', 'off', true),
    set_config('statement_timeout', '30s', true),
    set_config('lock_timeout', '30s', true)
