"""`import core_tables`: the names an application may rely on, loaded when they are used, and seen by a type checker."""

import subprocess
import sys
from pathlib import Path

import core_tables

NAMES = """
    Ledger LedgerSettings Receipt
    AsyncLedger AsyncReceipt AsyncWorkOrderHandle WorkOrderHandle WorkOrderEvents LeaseClaim ActOptions CommonOptions
    StepOptions HeldLease AsyncHeldLease LeaseNotHeldError RetryPolicy StepNotDoneError run_step run_step_async DueWork
    Reads Page LedgerEntry DecidedRecord RefusedRecord DueRetry TimedOutStep DueTenant
    CurrentRecord WholeWorkOrder ClosedWorkOrder StepAttempt GrantedLease
    PendingQuery PendingAnswer PendingOffer
    LedgerEvent event_from_json event_to_json AuditEvent decode_audit
    WorkOrderCreated FieldSet FieldConflictResolved FieldAsked StatusChanged StepStarted StepFinished StepFailed
    StepRetryScheduled LeaseAcquired LeaseRenewed LeaseReleased ExternalApprovalRequested ExternalApprovalResolved
    WorkOrderCanceled
    Outcome Accepted Replayed Refused Violation
    ClosedError CoreTablesError ContractError UnavailableError SetupError
    __version__
"""
APPLICATION = """
from core_tables import Accepted, Ledger, LedgerSettings, __version__

def main(ledger: Ledger) -> str:
    reveal_type(ledger.append)
    reveal_type(Accepted())
    settings: int = LedgerSettings
    order = ledger.work_order("acme", "order-1", reason_code=1)
    reveal_type(order.ask("city", prompt_dedupe_key="p", turn_id=2))
    order.ask("city")
    order.change_status("MAYBE", idempotency_key="k")
    order.set_field("city", "Paris", idempotency_key="k", turn="2")
    return __version__
"""


def test_the_public_surface_is_these_names() -> None:
    assert set(core_tables.__all__) == set(NAMES.split())
    assert dir(core_tables) == core_tables.__all__ == sorted(core_tables.__all__)


def test_every_public_name_is_there_and_documented() -> None:
    for name in core_tables.__all__:
        value = getattr(core_tables, name)
        assert name in ("__version__", "Outcome", "DueWork") or value.__doc__, name
    assert not hasattr(core_tables, "import_module_of_nothing")


def test_importing_the_package_loads_no_client() -> None:
    """An event can be built and checked where neither Kafka's nor Postgres' client is loaded."""
    program = (
        "import sys, core_tables; core_tables.LedgerEvent; core_tables.ContractError; "
        "print(sorted({'confluent_kafka', 'psycopg', 'redis'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_type_checker_outside_of_the_clone_sees_the_types_of_an_editable_install(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    checker = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "application.py"]
    done = subprocess.run(checker, capture_output=True, text=True, cwd=tmp_path)
    assert '-> core_tables.producer.receipt.Receipt"' in done.stdout, done.stdout + done.stderr
    assert "core_tables.schemas.outcomes.Accepted" in done.stdout
    assert 'Incompatible types in assignment (expression has type "type[LedgerSettings]"' in done.stdout
    assert 'Revealed type is "core_tables.producer.receipt.Receipt"' in done.stdout
    assert 'Missing named argument "prompt_dedupe_key" for "ask"' in done.stdout
    assert 'Argument 1 to "change_status"' in done.stdout
    assert 'Unexpected keyword argument "turn" for "set_field"' in done.stdout
    assert "Found 4 errors in 1 file" in done.stdout
