"""Decide and evolve, the stores they are kept in, the reads, verify and rebuild."""
