"""Follow the audit topic: every outcome, once, in the order of each tenant.

    python examples/audit_consumer.py GROUP_ID [COUNT]

It ends after COUNT outcomes, or at Ctrl-C. A consumer of the same group continues where the one before it ended.
"""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress

from confluent_kafka import Consumer

from core_tables import AuditEvent, LedgerSettings, decode_audit

TOPIC = os.environ.get("CORE_TABLES_AUDIT_TOPIC", "core-tables.audit.v1")


def consumer(group_id: str) -> Consumer:
    """A consumer that sees an outcome only once it is final, and says itself how far it is."""
    settings = LedgerSettings.from_environment()
    return Consumer(
        {
            **settings.kafka,
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": group_id,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )


def handle(event: AuditEvent) -> None:
    """Your own work. If this program ends before its commit, an event comes again: `event_id` tells you that you had it."""
    why = f" ({event.outcome_reason})" if event.outcome_reason else ""
    print(event.event_id, event.tenant_id, event.work_order_id, event.event_type, event.outcome + why, flush=True)


def main(group_id: str, count: int | None) -> None:
    """Read, handle, commit."""
    reading = consumer(group_id)
    reading.subscribe([TOPIC])
    handled = 0
    try:
        while count is None or handled < count:
            message = reading.poll(1.0)
            if message is None:
                continue
            if error := message.error():
                if error.fatal():
                    sys.exit(str(error))
                continue  # the client tries again by itself
            handle(decode_audit(message.value() or b""))
            reading.commit(message=message, asynchronous=False)
            handled += 1
    finally:
        reading.close()


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("group_id")
    parser.add_argument("count", type=int, nargs="?")
    with suppress(KeyboardInterrupt):
        main(**vars(parser.parse_args()))
