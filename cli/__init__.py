"""The core-tables command: it wires the other rooms together."""
