"""What you might use instead, on the same events and into the same two tables, and the report that compares them.

The programs (*_program.py) run in processes of their own, one of them in an environment of its own: neither they nor this
file import core_tables or bench.
"""
