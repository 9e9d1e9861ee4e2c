-- The positions of lanes, as (lane, applied, audited, revision, fold_version).
select lane, applied, audited, revision, fold_version
from os_core.lanes
where lane = any(%b::integer[])
order by lane
