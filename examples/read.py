"""Read a work order: its current record, its events, the record after its first event, and its requester's pending list.

    python examples/read.py TENANT_ID WORK_ORDER_ID

No worker is needed: everything is read from Postgres.
"""

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter

from core_tables import Ledger, PendingQuery


def main(tenant_id: str, work_order_id: str) -> None:
    """Read, and print what was found."""
    with Ledger.connect() as ledger:
        reads = ledger.reads()  # threads may share them
        current = reads.current(tenant_id, work_order_id)
        if current is None:
            print(f"{tenant_id} has no work order {work_order_id}")
            return
        print("now:", current.work_order_status, current.fields_json)

        entries = reads.ledger(tenant_id, work_order_id)  # a page of events, oldest first
        for entry in entries:
            print("event", entry.work_order_event_id, entry.event.event_type, entry.event.work_order_status)

        then = reads.current_at(tenant_id, work_order_id, entries[0].work_order_event_id)
        if then is not None:
            print("at first:", then.work_order_status)

        requester = current.requester_user_id
        if requester is not None:
            answer = reads.pending(PendingQuery(tenant_id, requester, now=time.time_ns()))
            print("pending:", [offer.work_order_id for offer in answer.offers])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("tenant_id")
    parser.add_argument("work_order_id")
    main(**vars(parser.parse_args()))
