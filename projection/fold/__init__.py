"""What an event does to a work order, and whether it may. Pure: no I/O, no clock, no randomness."""
