-- Wake the programs that wait for an outcome; a statement of its own after the commit, since a NOTIFY inside holds a global lock over fsync.
select pg_notify('core_tables', batch.lane || ':' || batch.reached)
from jsonb_to_recordset(%b::jsonb) as batch (/* record Position */ lane bigint, reached bigint /* end */)
