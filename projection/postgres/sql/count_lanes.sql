-- How far each lane is folded.
select lane, applied
from os_core.lanes
order by lane
