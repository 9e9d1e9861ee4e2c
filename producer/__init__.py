"""Append and cancel: validate, encode, produce, and wait for the outcome."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_tables.producer.ledger import Ledger
    from core_tables.producer.ledger_settings import LedgerSettings
    from core_tables.producer.receipt import Receipt

__all__ = ["Ledger", "LedgerSettings", "Receipt"]

_HOMES = {"Ledger": "ledger", "LedgerSettings": "ledger_settings", "Receipt": "receipt"}


def __getattr__(name: str) -> object:
    """A name's module is imported when the name is first used: reads need no client of Kafka."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found
