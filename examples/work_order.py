"""Take a work order from its creation to its end: ask for what is missing, once, and run a step under a lease.

    python examples/work_order.py TENANT_ID WORK_ORDER_ID

A worker must be running. Stop it anywhere and run it again: what was done is a replay, and the rest is done.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress
from datetime import timedelta
from zlib import crc32

from core_tables import Accepted, HeldLease, Ledger, Receipt, Refused, Replayed, WorkOrderHandle

TIMEOUT_S = 30.0
BOOKED = 10  # reason codes are your own
NO_SEATS = 11
OWNER = "executor-1"


def done(what: str, receipt: Receipt) -> bool:
    """Wait for the outcome and print it. Whether it happened now; a replay happened before."""
    outcome = receipt.outcome(TIMEOUT_S)
    match outcome:
        case Accepted():
            print(f"{what}: accepted")
        case Replayed():
            print(f"{what}: replayed")
        case Refused():
            sys.exit(f"{what}: refused: {outcome.sentence}")
        case None:
            sys.exit(f"{what}: not decided yet; is a worker running?")
    return isinstance(outcome, Accepted)


def collect(order: WorkOrderHandle, work_order_id: str) -> None:
    """Create the work order and fill in what is missing."""
    # In your program: the id of the conversation.
    correlation_id = crc32(work_order_id.encode()) + 1
    done("create", order.create(correlation_id=correlation_id, requester_user_id="ada", missing_fields=["city"]))
    if done("ask", order.ask("city", prompt_dedupe_key=f"{work_order_id}:city", status="CLARIFY")):
        print("Which city?")  # only the one whose event is accepted shows the question
    done("answer", order.set_field("city", "Paris", idempotency_key=f"{work_order_id}:city:1", turn_id=2))


def execute(ledger: Ledger, order: WorkOrderHandle, tenant_id: str, work_order_id: str) -> None:
    """Run a step under a lease. Should somebody else have taken over, what this program reports is refused."""
    done("confirm", order.change_status("EXECUTING", idempotency_key=f"{work_order_id}:confirmed"))
    with HeldLease(ledger, tenant_id, work_order_id, OWNER, ttl=timedelta(minutes=1), reason_code=BOOKED) as lease:
        done("start", order.start_step("book", 0, timeout=timedelta(minutes=1), max_retries=2, lease=lease.claim))
        done("fail", order.fail_step("book", 0, failure_reason_code=NO_SEATS, lease=lease.claim))
        done("start again", order.start_step("book", 1, timeout=timedelta(minutes=1), lease=lease.claim))
        done("finish", order.finish_step("book", 1, lease=lease.claim))
    done("close", order.change_status("DONE", idempotency_key=f"{work_order_id}:done"))


def main(tenant_id: str, work_order_id: str) -> None:
    """Collect, then execute."""
    with Ledger.connect() as ledger:
        order = ledger.work_order(tenant_id, work_order_id, reason_code=BOOKED)
        collect(order, work_order_id)
        execute(ledger, order, tenant_id, work_order_id)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("work_order_id")
    with suppress(KeyboardInterrupt):
        main(**vars(parser.parse_args()))
