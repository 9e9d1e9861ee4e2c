-- Guard: move lanes from where this worker believes them to be; a lane that somebody else moved or repaired is not returned.
update os_core.lanes as lane
set applied = batch.reached, audited = greatest(lane.audited, least(batch.audited, batch.reached))
from jsonb_to_recordset(%b::jsonb) as batch (/* record Move */ lane bigint, applied bigint, epoch bigint, reached bigint, audited bigint /* end */)
where lane.lane = batch.lane and lane.applied = batch.applied and lane.epoch = batch.epoch
returning lane.lane
