-- How many work orders a tenant has.
select greatest(1, count(*)) as work_orders from os_core.work_orders_current where tenant_id = %b
