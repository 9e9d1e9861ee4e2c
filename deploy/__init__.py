"""Topic and role set-up, and the local stack."""
