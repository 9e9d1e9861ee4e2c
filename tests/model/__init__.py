"""Exhaustive searches of the restart rule and of the cache, by two workers that both believe they own the lane."""
