-- By lane: how far it is folded, and how many ledger rows and outcome rows it has.
select
    lane.lane, lane.applied,
    coalesce(ledger.rows, 0) as accepted,
    coalesce(outcome.rows, 0) as others
from os_core.lanes as lane
left join (
    select work_order_event_id >> 42 as lane, count(*) as rows from os_core.work_order_ledger group by 1
) as ledger on ledger.lane = lane.lane
left join (
    select event_id >> 42 as lane, count(*) as rows from os_core.work_order_outcomes group by 1
) as outcome on outcome.lane = lane.lane
order by lane.lane
