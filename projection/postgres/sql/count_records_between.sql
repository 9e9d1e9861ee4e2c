-- How many ledger rows and outcome rows have ids from one to another.
select
    (
        select count(*) from os_core.work_order_ledger as row
        where row.work_order_event_id between %b and %b
    )
    + (
        select count(*) from os_core.work_order_outcomes as row
        where row.event_id between %b and %b
    ) as rows
