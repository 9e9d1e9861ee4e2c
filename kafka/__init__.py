"""Everything that talks to the broker goes through here: clients, topics, logs, errors."""
