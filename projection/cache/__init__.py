"""Pending lists in Redis."""
