"""A ledger that lives in a real cluster while its workers are scaled, killed, evicted and replaced."""
