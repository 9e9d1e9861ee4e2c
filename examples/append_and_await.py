"""Append an event, wait for its outcome, send it a second time, and cancel the work order.

    python examples/append_and_await.py TENANT_ID WORK_ORDER_ID

A worker must be running. Use a new WORK_ORDER_ID for each run, or see how everything is a replay.
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from zlib import crc32

from core_tables import Accepted, ContractError, Ledger, LedgerEvent, Outcome, Refused, Replayed, WorkOrderCreated

TIMEOUT_S = 30.0


def created(tenant_id: str, work_order_id: str) -> LedgerEvent:
    """The first event of a work order. The idempotency key makes it safe to send it again."""
    return LedgerEvent(
        created_at=time.time_ns(),
        tenant_id=tenant_id,
        work_order_id=work_order_id,
        correlation_id=crc32(work_order_id.encode()) + 1,  # in your program: the id of the conversation
        turn_id=1,
        event_type="WORK_ORDER_CREATED",
        work_order_status="DRAFT",
        reason_code=1,
        idempotency_key=f"{work_order_id}:create",
        payload=WorkOrderCreated(requester_user_id="ada"),
    )


def describe(outcome: Outcome | None) -> str:
    """An outcome in words."""
    match outcome:
        case Accepted():
            return "accepted"
        case Replayed():
            return f"replayed: event {outcome.first_event_id} was the first with this key, and nothing changed"
        case Refused():
            return f"refused: {outcome.reason_code} ({outcome.field}): {outcome.sentence}"
        case None:
            return "not decided yet; is a worker running?"


def main(tenant_id: str, work_order_id: str) -> None:
    """Append, append again, and cancel."""
    # Elsewhere: Ledger.connect(LedgerSettings("kafka:9092", "postgresql://core_tables_reader@db/core_tables"))
    with Ledger.connect() as ledger:
        receipt = ledger.append(created(tenant_id, work_order_id))  # returns at once
        print("durable as event", receipt.event_id())  # waits for the broker
        print("create:", describe(receipt.outcome(TIMEOUT_S)))  # waits for a worker

        # After a crash or a timeout, send the event again: nothing can happen twice.
        print("again:", describe(ledger.append(created(tenant_id, work_order_id)).outcome(TIMEOUT_S)))

        cancel = ledger.cancel(tenant_id, work_order_id, reason_code=7, idempotency_key=f"{work_order_id}:cancel")
        print("cancel:", describe(cancel.outcome(TIMEOUT_S)))

        try:
            ledger.append(created("", work_order_id))
        except ContractError as error:  # checked before anything is sent
            print("not sent:", error.reason_code, error.field, error.message)


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("work_order_id")
    main(**vars(parser.parse_args()))
