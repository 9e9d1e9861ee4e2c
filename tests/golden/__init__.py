"""The golden log: records and the outcomes they had when they were first decided. Lines are added, never changed."""
