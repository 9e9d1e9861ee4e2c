"""Append and cancel: validate, encode, produce, and wait for the outcome."""

from core_tables.producer.ledger import Ledger, LedgerSettings, Receipt

__all__ = ["Ledger", "LedgerSettings", "Receipt"]
