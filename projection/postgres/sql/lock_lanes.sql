-- Repair and registration: hold lanes while rows are compared and replaced, or schemas are added; their worker waits.
select lane, applied
from os_core.lanes
where lane = any(%b::integer[])
order by lane
for update
