-- Wake whoever waits for an outcome; a statement of its own after the commit, since a NOTIFY inside holds a global lock over fsync.
select pg_notify('core_tables', payload) from unnest(%b::text[]) as batch (payload)
