-- Whether a database was ever migrated.
select to_regclass('os_core.migrations') is not null as found
