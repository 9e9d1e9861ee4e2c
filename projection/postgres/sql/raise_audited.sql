-- Idle lanes: raise the audit audited, which never falls and never passes applied.
update os_core.lanes as lane
set audited = least(idle.audited, lane.applied)
from unnest(%b::integer[], %b::bigint[]) as idle (lane, audited)
where lane.lane = idle.lane and lane.audited < least(idle.audited, lane.applied)
