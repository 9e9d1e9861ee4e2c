"""The benchmark: Core Tables beside what a user would pick instead, and beside the ceilings of its parts, in one run."""
