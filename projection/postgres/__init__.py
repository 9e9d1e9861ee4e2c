"""The tables: connections, statements, the store that workers write through, the reads."""
