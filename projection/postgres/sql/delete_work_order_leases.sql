-- Repair: delete the rows of work orders that differ from the ledger, so that they can be written again. Their lanes are locked, so
-- no row moves meanwhile.
delete from os_core.work_order_leases
where ctid = any(
    array(
        select row.ctid
        from jsonb_to_recordset(%b::jsonb) as differing (/* record WorkOrderName */ tenant_id text, work_order_id text /* end */)
        cross join lateral (
            select candidate.ctid
            from os_core.work_order_leases as candidate
            where candidate.tenant_id = differing.tenant_id and candidate.work_order_id = differing.work_order_id
            offset 0
        ) as row
    )
)
