-- Idle lanes: raise the audited watermark, which never falls and never passes applied.
update os_core.lanes as lane
set audited = least(idle.reached, lane.applied)
from jsonb_to_recordset(%b::jsonb) as idle (/* record Position */ lane bigint, reached bigint /* end */)
where lane.lane = idle.lane and lane.audited < least(idle.reached, lane.applied)
