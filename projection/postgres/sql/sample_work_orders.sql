-- Some work orders at random: those of pages that are chosen with given chances (in per cent), of current and of ledger.
select tenant_id, work_order_id
from (
    select tenant_id, work_order_id from os_core.work_orders_current tablesample system (%b::real)
    union
    select tenant_id, work_order_id from os_core.work_order_ledger tablesample system (%b::real)
) as chosen
order by random()
limit %b
