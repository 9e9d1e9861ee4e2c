-- Some work orders, each chosen with a given chance (in per cent).
select tenant_id, work_order_id
from os_core.work_orders_current tablesample bernoulli (%b::real)
limit %b
