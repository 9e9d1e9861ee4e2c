"""Ask somebody for an approval, and wait for the answer.

    python examples/approval_wait.py TENANT_ID WORK_ORDER_ID TARGET
    python examples/approval_wait.py TENANT_ID WORK_ORDER_ID TARGET --answer APPROVED

A worker must be running. The first waits; the second, in another terminal, answers. Stop the first and run it again: it waits
for the same answer.
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zlib import crc32

from core_tables import CurrentRecord, Ledger

TIMEOUT_S = 30.0
REASON = 1  # reason codes are your own
VALID = timedelta(minutes=10)


def answer_all(ledger: Ledger, tenant_id: str, target: str, decision: str) -> None:
    """Answer everything that waits for a user."""
    for record in ledger.reads().awaited_approvals(tenant_id, target).all():
        request = record.external_approval_request_id or ""
        order = ledger.work_order(tenant_id, record.work_order_id, reason_code=REASON)
        print(f"{record.work_order_id}: {decision}:", order.resolve_approval(request, decision).outcome(TIMEOUT_S))


def wait(ledger: Ledger, tenant_id: str, work_order_id: str, target: str) -> str | None:
    """Ask for the approval, unless that was done, and wait; what was decided, or None if nobody answered."""
    order = ledger.work_order(tenant_id, work_order_id, reason_code=REASON)
    order.create(
        correlation_id=crc32(work_order_id.encode()) + 1,  # in your program: the id of the conversation
        requester_user_id="ada",
        status="CONFIRM",
    ).outcome(TIMEOUT_S)
    request = f"{work_order_id}:pay"
    asked = order.request_approval(request, target_user_id=target, expires_at=datetime.now(UTC) + VALID)
    asked.outcome(TIMEOUT_S)
    # After a replay it is not asked again: the record says what is waited for, and until when.
    record = ledger.reads().current(tenant_id, work_order_id, at_least=asked.event_id())
    left = VALID.total_seconds()
    if record is not None and record.external_approval_expires_at is not None:
        left = (record.external_approval_expires_at - time.time_ns()) / 1e9
    print(f"waiting for {target}", flush=True)

    def is_answered(record: CurrentRecord) -> bool:
        return record.external_approval_request_id == request and not record.external_approval_pending

    answered = ledger.wait_until(tenant_id, work_order_id, is_answered, timeout=max(0.0, left))
    return None if answered is None else answered.external_approval_decision


def main(tenant_id: str, work_order_id: str, target: str, answer: str | None) -> None:
    """Wait for an answer, or give one."""
    with Ledger.connect() as ledger:
        if answer is not None:
            answer_all(ledger, tenant_id, target, answer)
        else:
            print("decision:", wait(ledger, tenant_id, work_order_id, target))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("work_order_id")
    parser.add_argument("target")
    parser.add_argument("--answer", metavar="DECISION")
    with suppress(KeyboardInterrupt):
        main(**vars(parser.parse_args()))
