"""The tests. Modules named test_* run under pytest; the others are what they share."""
