-- The positions of lanes, as (lane, applied, audited, epoch, fold_version).
select lane, applied, audited, epoch, fold_version
from os_core.lanes
where lane = any(%b::integer[])
order by lane
