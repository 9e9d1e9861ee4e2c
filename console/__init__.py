"""The console: read-only pages for operators and support."""
