-- Repair: hold lanes while their rows are compared and replaced; their worker waits.
select lane, applied
from os_core.lanes
where lane = any(%b::integer[])
order by lane
for update
