"""Append and cancel: validate, encode, produce, await the outcome."""
