-- Guard: move lanes from where this worker believes them to be; a lane that somebody else moved or repaired is not returned.
update os_core.lanes as lane
set applied = batch.reached, audited = greatest(lane.audited, least(batch.audited, batch.reached))
from
    unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[])
    as batch (lane, applied, epoch, reached, audited)
where lane.lane = batch.lane and lane.applied = batch.applied and lane.epoch = batch.epoch
returning lane.lane
