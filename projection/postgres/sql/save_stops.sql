-- Keep why lanes stopped. One that stops again at the same record, for the same cause, keeps the time of the first stop.
insert into os_core.lane_stops as known (lane, event_id, cause, sentence, worker)
select stop.lane, stop.event_id, stop.cause, stop.sentence, stop.worker
from jsonb_to_recordset(%b::jsonb) as stop (/* record LaneStop */ lane bigint, event_id bigint, cause text, sentence text, worker text /* end */)
on conflict (lane) where cleared is null do update
set event_id = excluded.event_id,
    cause = excluded.cause,
    sentence = excluded.sentence,
    worker = excluded.worker,
    since = case
        when known.event_id = excluded.event_id and known.cause = excluded.cause then known.since
        else excluded.since
    end
