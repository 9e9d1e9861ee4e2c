"""The public surface of Core Tables: what an application imports, and what the versioning promise covers.

Everything else may change without notice. A name is imported when it is first used, so that `import core_tables` does not load
the Kafka and Postgres clients.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core_tables.producer.act import ActOptions, CommonOptions, LeaseClaim, StepOptions
    from core_tables.producer.async_held_lease import AsyncHeldLease
    from core_tables.producer.async_ledger import AsyncLedger
    from core_tables.producer.async_receipt import AsyncReceipt, AsyncWorkOrderHandle
    from core_tables.producer.async_step_run import run_step_async
    from core_tables.producer.due_work import DueWork
    from core_tables.producer.held_lease import HeldLease
    from core_tables.producer.lease_term import LeaseNotHeldError
    from core_tables.producer.ledger import Ledger
    from core_tables.producer.ledger_settings import LedgerSettings
    from core_tables.producer.receipt import Receipt
    from core_tables.producer.step_loop import RetryPolicy, StepNotDoneError
    from core_tables.producer.step_run import run_step
    from core_tables.producer.work_order_acts import WorkOrderEvents
    from core_tables.producer.work_order_handle import WorkOrderHandle
    from core_tables.projection.fold.pending import PendingOffer, PendingQuery
    from core_tables.projection.postgres.due_reads import DueTenant
    from core_tables.projection.postgres.ledger_reads import DecidedRecord, LedgerEntry, RefusedRecord
    from core_tables.projection.postgres.pending_reads import PendingAnswer
    from core_tables.projection.postgres.read_types import (
        ClosedWorkOrder,
        CurrentRecord,
        DueRetry,
        GrantedLease,
        StepAttempt,
        TimedOutStep,
        WholeWorkOrder,
    )
    from core_tables.projection.postgres.reads import Reads
    from core_tables.projection.postgres.tenant_reads import Page
    from core_tables.schemas.audit import decode_audit
    from core_tables.schemas.events import (
        AuditEvent,
        ExternalApprovalRequested,
        ExternalApprovalResolved,
        FieldAsked,
        FieldConflictResolved,
        FieldSet,
        LeaseAcquired,
        LeaseReleased,
        LeaseRenewed,
        LedgerEvent,
        StatusChanged,
        StepFailed,
        StepFinished,
        StepRetryScheduled,
        StepStarted,
        WorkOrderCanceled,
        WorkOrderCreated,
    )
    from core_tables.schemas.json_form import event_from_json, event_to_json
    from core_tables.schemas.outcomes import Accepted, Outcome, Refused, Replayed
    from core_tables.schemas.reasons import (
        ClosedError,
        ContractError,
        CoreTablesError,
        SetupError,
        UnavailableError,
        Violation,
    )

    __version__: str

__all__ = [
    "Accepted",
    "ActOptions",
    "AsyncHeldLease",
    "AsyncLedger",
    "AsyncReceipt",
    "AsyncWorkOrderHandle",
    "AuditEvent",
    "ClosedError",
    "ClosedWorkOrder",
    "CommonOptions",
    "ContractError",
    "CoreTablesError",
    "CurrentRecord",
    "DecidedRecord",
    "DueRetry",
    "DueTenant",
    "DueWork",
    "ExternalApprovalRequested",
    "ExternalApprovalResolved",
    "FieldAsked",
    "FieldConflictResolved",
    "FieldSet",
    "GrantedLease",
    "HeldLease",
    "LeaseAcquired",
    "LeaseClaim",
    "LeaseNotHeldError",
    "LeaseReleased",
    "LeaseRenewed",
    "Ledger",
    "LedgerEntry",
    "LedgerEvent",
    "LedgerSettings",
    "Outcome",
    "Page",
    "PendingAnswer",
    "PendingOffer",
    "PendingQuery",
    "Reads",
    "Receipt",
    "Refused",
    "RefusedRecord",
    "Replayed",
    "RetryPolicy",
    "SetupError",
    "StatusChanged",
    "StepAttempt",
    "StepFailed",
    "StepFinished",
    "StepNotDoneError",
    "StepOptions",
    "StepRetryScheduled",
    "StepStarted",
    "TimedOutStep",
    "UnavailableError",
    "Violation",
    "WholeWorkOrder",
    "WorkOrderCanceled",
    "WorkOrderCreated",
    "WorkOrderEvents",
    "WorkOrderHandle",
    "__version__",
    "decode_audit",
    "event_from_json",
    "event_to_json",
    "run_step",
    "run_step_async",
]

# The module of each name; names that are not listed are events.
_HOMES = {
    "core_tables.schemas.audit": ("decode_audit",),
    "core_tables.schemas.outcomes": ("Accepted", "Outcome", "Refused", "Replayed"),
    "core_tables.schemas.reasons": (
        *("ClosedError", "ContractError", "CoreTablesError", "SetupError", "UnavailableError", "Violation"),
    ),
    "core_tables.schemas.json_form": ("event_from_json", "event_to_json"),
    "core_tables.projection.fold.pending": ("PendingOffer", "PendingQuery"),
    "core_tables.projection.postgres.due_reads": ("DueTenant",),
    "core_tables.projection.postgres.ledger_reads": ("DecidedRecord", "LedgerEntry", "RefusedRecord"),
    "core_tables.projection.postgres.pending_reads": ("PendingAnswer",),
    "core_tables.projection.postgres.reads": ("Reads",),
    "core_tables.projection.postgres.read_types": (
        *(
            "ClosedWorkOrder",
            "CurrentRecord",
            "DueRetry",
            "GrantedLease",
            "StepAttempt",
            "TimedOutStep",
            "WholeWorkOrder",
        ),
    ),
    "core_tables.projection.postgres.tenant_reads": ("Page",),
    "core_tables.producer.act": ("ActOptions", "CommonOptions", "LeaseClaim", "StepOptions"),
    "core_tables.producer.async_ledger": ("AsyncLedger",),
    "core_tables.producer.async_receipt": ("AsyncReceipt", "AsyncWorkOrderHandle"),
    "core_tables.producer.async_held_lease": ("AsyncHeldLease",),
    "core_tables.producer.due_work": ("DueWork",),
    "core_tables.producer.held_lease": ("HeldLease",),
    "core_tables.producer.lease_term": ("LeaseNotHeldError",),
    "core_tables.producer.step_loop": ("RetryPolicy", "StepNotDoneError"),
    "core_tables.producer.step_run": ("run_step",),
    "core_tables.producer.async_step_run": ("run_step_async",),
    "core_tables.producer.ledger": ("Ledger",),
    "core_tables.producer.ledger_settings": ("LedgerSettings",),
    "core_tables.producer.receipt": ("Receipt",),
    "core_tables.producer.work_order_acts": ("WorkOrderEvents",),
    "core_tables.producer.work_order_handle": ("WorkOrderHandle",),
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # it imports a parser of mails

        return version("core-tables")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    homes = (home for home, names in _HOMES.items() if name in names)
    found: object = getattr(import_module(next(homes, "core_tables.schemas.events")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
