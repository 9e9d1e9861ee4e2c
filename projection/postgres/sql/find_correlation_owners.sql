-- The work orders that correlation_ids are bound to.
select
    row.tenant_id, row.correlation_id::text, row.work_order_id
from jsonb_to_recordset(%b::jsonb) as asked (/* record Correlation */ tenant_id text, correlation_id text /* end */)
cross join lateral (
    select *
    from os_core.work_orders_current as candidate
    where candidate.tenant_id = asked.tenant_id and candidate.correlation = asked.correlation_id
    offset 0
) as row
