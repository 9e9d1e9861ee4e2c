"""The Redis cache of pending lists."""
