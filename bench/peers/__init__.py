"""What a user would pick instead, on the same events and into the same two tables.

Each peer is a module with NAME, LACKS and run(settings, folder, total_events). The programs (*_program.py) run in processes,
and one of them in an environment, of their own: neither they nor this file import core_tables.
"""
