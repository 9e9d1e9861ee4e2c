"""The core-tables command: the only place that reads the environment and wires the rest."""
