-- The positions of lanes, and the writer schemas that are registered for them: from which offset on each may be used.
select row.lane, row.applied, row.audited, row.epoch, row.fold_version, registered.schemas
from jsonb_to_recordset(%b::jsonb) as asked (/* record LaneName */ lane bigint /* end */)
inner join os_core.lanes as row using (lane)
cross join lateral (
    select coalesce(json_object_agg(schema.fingerprint, schema.first_offset), '{}') as schemas
    from os_core.registered_schemas as schema
    where schema.lane = row.lane
) as registered
order by row.lane
