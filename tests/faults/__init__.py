"""Faults on the real parts: each ends right without help, or stopped with a sentence that names the cause."""
