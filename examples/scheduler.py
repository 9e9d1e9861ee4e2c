"""Act on what is due, over all tenants: retries, steps past their timeout, expired leases, expired approvals.

    python examples/scheduler.py [--once]

A worker must be running. Several of them may run: the acts have idempotency keys of their own, so each happens once. A time
is judged by the clock of this machine.
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress
from typing import assert_never

from core_tables import CurrentRecord, DueRetry, DueWork, GrantedLease, Ledger, Outcome, Receipt, Refused, TimedOutStep

TIMEOUT_S = 30.0
PAUSE_S = 5.0
TIMED_OUT, EXPIRED = 20, 21  # reason codes are your own


def act(ledger: Ledger, due: DueWork) -> Receipt | None:
    """Do what is due."""
    order = ledger.work_order(due.tenant_id, due.work_order_id, reason_code=TIMED_OUT)
    match due:
        case DueRetry():
            # In your program: tell an executor, which runs the step as step_with_retries.py does.
            return None
        case TimedOutStep():
            return order.fail_step(due.step_id, due.attempt_index, failure_reason_code=TIMED_OUT)
        case GrantedLease():
            return None  # it may be acquired by anybody now
        case CurrentRecord():
            request = due.external_approval_request_id or ""
            return order.resolve_approval(request, "EXPIRED", reason_code=EXPIRED)
        case _:
            assert_never(due)


def name(due: DueWork) -> str:
    """What is due, in words."""
    match due:
        case DueRetry():
            return f"retry of {due.step_id}, attempt {due.attempt_index}"
        case TimedOutStep():
            return f"timeout of {due.step_id}, attempt {due.attempt_index}"
        case GrantedLease():
            return f"lease of {due.lease_owner_id}"
        case CurrentRecord():
            return f"approval by {due.external_approval_target_user_id}"
        case _:
            assert_never(due)


def run_once(ledger: Ledger) -> None:
    """Act on everything that is due now."""
    acts = [(due, act(ledger, due)) for due in ledger.due(time.time_ns())]
    for due, receipt in acts:
        outcome: Outcome | None = None if receipt is None else receipt.outcome(TIMEOUT_S)
        done = "" if receipt is None else f": {'refused' if isinstance(outcome, Refused) else 'done'}"
        print(f"{due.tenant_id} {due.work_order_id}: {name(due)}{done}", flush=True)


def main(*, once: bool) -> None:
    """Again and again, until Ctrl-C."""
    with Ledger.connect() as ledger:
        run_once(ledger)
        while not once:
            time.sleep(PAUSE_S)
            run_once(ledger)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true")
    with suppress(KeyboardInterrupt):
        main(**vars(parser.parse_args()))
