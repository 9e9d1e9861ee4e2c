-- The work orders that correlation_ids are bound to.
select
    row.tenant_id, row.correlation_id::text, row.work_order_id
from json_to_recordset(%b::json) as asked (/* record Correlation */ tenant_id text, correlation_id numeric /* end */)
inner join os_core.work_orders_current as row
    on row.tenant_id = asked.tenant_id and row.correlation_id = asked.correlation_id
