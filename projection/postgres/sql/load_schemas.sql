-- The writer schemas that are registered for a range of lanes, the oldest first.
select lane, fingerprint, first_offset, registered_at
from os_core.registered_schemas
where lane between %b and %b
order by registered_at, fingerprint, lane
