"""Comparing the tables with the ledger, and repairing them."""
