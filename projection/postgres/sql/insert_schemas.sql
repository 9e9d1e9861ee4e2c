-- Register writer schemas for lanes, each from an offset on.
insert into os_core.registered_schemas (lane, fingerprint, first_offset)
select lane, fingerprint, first_offset
from jsonb_to_recordset(%b::jsonb) as new (
    /* record Registration */
    lane bigint, fingerprint text, first_offset bigint
    /* end */
)
