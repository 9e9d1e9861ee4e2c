"""The settings that come from the environment: of the command, and of a ledger that is connected without others."""
