"""Everything that talks to the broker: clients, topics, logs, errors."""
