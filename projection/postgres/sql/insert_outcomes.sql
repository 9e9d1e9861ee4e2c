-- Append the outcomes of the records of a batch that were not accepted.
insert into os_core.work_order_outcomes (
    tenant_id, event_id, work_order_id, outcome, reason_code, field, sentence, first_event_id,
    payload_differs
)
select
    batch.tenant_id, batch.event_id, batch.work_order_id, batch.outcome, batch.reason_code, batch.field,
    batch.sentence, batch.first_event_id, batch.payload_differs
from
    unnest(
        %b::text[], %b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[],
        %b::boolean[]
    ) as batch (
        tenant_id, event_id, work_order_id, outcome, reason_code, field, sentence, first_event_id,
        payload_differs
    )
