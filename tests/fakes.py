"""An audit emitter over a broker and a Postgres that are not there, for tests that need neither."""

from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from core_tables.consumer.audit_emitter import AuditEmitter, AuditPorts
from core_tables.consumer.audit_encoding import audit_record
from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.audit_record import AuditRecord
from core_tables.projection.fold.values import Decided
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.outcomes import ACCEPTED

from .builders import make


class Quiet:
    """A log that nobody reads."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


@dataclass
class Kept:
    """A log that keeps the codes of its lines."""

    events: list[str] = field(default_factory=list)

    def exception(self, event: str, **_fields: object) -> None:
        self.events.append(event)

    info = warning = error = exception


class RefusingProducer:
    """A producer that is refused."""

    def __init__(self, code: int) -> None:
        self.code = code

    def init_transactions(self, _timeout: float) -> None:
        raise KafkaException(KafkaError(self.code, "planted"))


def queue_of(offset: int) -> AuditQueue:
    """A queue of lane 0 with one outcome in it."""
    queue = AuditQueue(10)
    queue.open(0, 0, offset)
    queue.put([accepted(event_id_at(0, offset))])
    return queue


def accepted(event_id: int) -> AuditRecord:
    """What the audit tells of an event that was accepted."""
    return audit_record(Decided(event_id, "acme", make("FIELD_SET"), ACCEPTED, "DRAFT", 0, None))


def emitter_over(queue: AuditQueue, log: Any = None, **ports: Any) -> AuditEmitter:
    """An emitter whose ports are those given, and otherwise a broker and a Postgres where all is well and empty."""
    usual: dict[str, Any] = {
        "open_producer": lambda _: RefusingProducer(KafkaError._TIMED_OUT),
        "last_event_id": lambda _: None,
        "ledger_end": lambda _: 0,
        "audited": lambda _: 0,
        "check_topics": lambda: None,
        "for_each": lambda do, queues: [do(queue) for queue in queues],
        "release": lambda _: None,
    }
    return AuditEmitter(queue, "audit", 0, AuditPorts(**{**usual, **ports}), log or Quiet())


class IdleProducer:
    """A producer that takes everything."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None
