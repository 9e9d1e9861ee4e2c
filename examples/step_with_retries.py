"""Run a step with retries, under a lease, so that of several programs one runs it at a time.

    python examples/step_with_retries.py TENANT_ID WORK_ORDER_ID OWNER_ID

A worker must be running. You play the airline: answer `yes` to book, anything else to fail. Start it in two terminals: the
second waits for the lease. Suspend the first with Ctrl-Z while it asks, and the second takes over; continue the first with
`fg`, answer, and see that what it reports is refused.
"""

import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress
from datetime import timedelta
from zlib import crc32

from core_tables import HeldLease, LeaseNotHeldError, Ledger, RetryPolicy, StepNotDoneError, run_step

TIMEOUT_S = 30.0
BOOKED, NO_SEATS = 10, 11  # reason codes are your own
TTL = timedelta(seconds=2)  # so that you need not wait for long; a minute is more usual
POLICY = RetryPolicy(
    max_retries=3,
    backoff=timedelta(milliseconds=100),
    timeout=timedelta(minutes=5),
    reason_code=BOOKED,
    failure_reason_code=NO_SEATS,
)


def book(attempt_index: int) -> str:
    """What the step does. It may be done twice, by two programs: let the airline know what is the same booking."""
    print(f"attempt {attempt_index}: book? ", end="", flush=True)
    if input().strip() != "yes":
        raise ValueError("there are no seats")
    return "BA-17"


def execute(ledger: Ledger, tenant_id: str, work_order_id: str, owner: str) -> None:
    """Run the step, once the lease is ours."""
    while True:
        try:
            with HeldLease(ledger, tenant_id, work_order_id, owner, ttl=TTL, reason_code=BOOKED) as lease:
                print(f"{owner} has the lease", flush=True)
                booking = run_step(ledger, tenant_id, work_order_id, "book", book, POLICY, lease=lease.claim)
                print("booked:", booking or "somebody has done so before")
                return
        except LeaseNotHeldError as error:
            print(f"{owner} waits: {error}", flush=True)
            time.sleep(1)


def main(tenant_id: str, work_order_id: str, owner: str) -> None:
    """Create the work order, unless it is there, and execute it."""
    with Ledger.connect() as ledger:
        order = ledger.work_order(tenant_id, work_order_id, reason_code=BOOKED)
        correlation_id = crc32(work_order_id.encode()) + 1  # in your program: the id of the conversation
        created = order.create(correlation_id=correlation_id, requester_user_id="ada", status="EXECUTING")
        created.outcome(TIMEOUT_S)
        try:
            execute(ledger, tenant_id, work_order_id, owner)
        except StepNotDoneError as error:
            sys.exit(f"{owner}: {error}")


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("work_order_id")
    parser.add_argument("owner")
    with suppress(KeyboardInterrupt):
        main(**vars(parser.parse_args()))
