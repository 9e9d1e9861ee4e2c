"""Append and cancel: validate, encode, produce, await the outcome."""

from core_tables.producer.ledger import Ledger, LedgerSettings, Receipt

__all__ = ["Ledger", "LedgerSettings", "Receipt"]
