-- By lane: how far it is folded, and how many ledger rows and outcome rows have ids in it; rows of no lane, too.
select
    coalesce(lane.lane, record.lane) as lane,
    coalesce(lane.applied, 0) as applied,
    coalesce(record.rows, 0) as rows
from os_core.lanes as lane
full join (
    select id >> 42 as lane, count(*) as rows
    from (
        select work_order_event_id as id from os_core.work_order_ledger
        union all
        select event_id from os_core.work_order_outcomes
    ) as held
    group by 1
) as record on record.lane = lane.lane
order by 1
