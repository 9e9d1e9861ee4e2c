"""Append and cancel: validate, encode, produce, and wait for the outcome."""

from core_tables.producer.ledger import Ledger
from core_tables.producer.ledger_settings import LedgerSettings
from core_tables.producer.receipt import Receipt

__all__ = ["Ledger", "LedgerSettings", "Receipt"]
