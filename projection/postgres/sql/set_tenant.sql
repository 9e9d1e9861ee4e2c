-- The tenant this transaction may see (enforced by the policies of row-level security).
select set_config('core_tables.tenant_id', %b, true)
