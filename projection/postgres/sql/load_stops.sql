-- The stops that no lane has got past.
select stop.lane, stop.event_id, stop.cause, stop.sentence, stop.worker, stop.since
from os_core.lane_stops as stop
where stop.cleared is null
order by stop.lane
