"""Core Tables: the system of record for work orders."""
