-- A page of the records that carry a correlation_id, in id order: the accepted events of its work order, and the records that were
-- replayed or refused. The keys are merged first, so that no more rows are read than the page has; they are ranges of pairs, as in
-- read_ledger_of_work_order.sql. correlation_id is left out of the rows: JSON numbers do not hold it.
with asked as (
    select %b as tenant_id, %b as correlation, %b as after, %b as most
)
select
    record.tenant_id, record.event_id, record.accepted,
    case
        when record.accepted then (
            select to_jsonb(named) - 'correlation_id'
            from (
                select
                    /* names LedgerRow */
                    tenant_id, work_order_event_id, schema_version, created_at, work_order_id, correlation_id,
                    turn_id, event_type, status_before, work_order_status, reason_code,
                    expected_last_event_id, step_id, step_input_hash, lease_owner_id, lease_token_hash,
                    lease_expires_at, idempotency_key, payload
                    /* end */
                from os_core.work_order_ledger as ledger
                where ledger.tenant_id = record.tenant_id and ledger.work_order_event_id = record.event_id
            ) as named
        )
        else (
            select to_jsonb(named) - 'correlation_id'
            from (
                select
                    /* names OutcomeRow */
                    tenant_id, event_id, work_order_id, event_type, correlation_id, turn_id, idempotency_key,
                    created_at, outcome, reason_code, field, sentence, first_event_id, request_differs
                    /* end */
                from os_core.work_order_outcomes as other
                where other.tenant_id = record.tenant_id and other.event_id = record.event_id
            ) as named
        )
    end as columns
from asked
cross join lateral (
    (
        select bound.tenant_id, bound.event_id, true as accepted
        from os_core.work_orders_current as current
        cross join lateral (
            select ledger.tenant_id, ledger.work_order_event_id as event_id
            from os_core.work_order_ledger as ledger
            where
                ledger.tenant_id = current.tenant_id and ledger.work_order_id <= current.work_order_id
                and (ledger.work_order_id, ledger.work_order_event_id) > (current.work_order_id, asked.after)
            order by ledger.work_order_id, ledger.work_order_event_id
            limit asked.most
        ) as bound
        where current.tenant_id = asked.tenant_id and current.correlation = asked.correlation
    )
    union all
    (
        select other.tenant_id, other.event_id, false as accepted
        from os_core.work_order_outcomes as other
        where
            other.tenant_id = asked.tenant_id and other.correlation <= asked.correlation
            and (other.correlation, other.event_id) > (asked.correlation, asked.after)
        order by other.correlation, other.event_id
        limit asked.most
    )
    order by event_id
    limit asked.most
) as record
order by record.event_id
