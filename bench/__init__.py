"""The benchmark of Core Tables and of the ceilings of its parts. `peers` adds what you might use instead."""
