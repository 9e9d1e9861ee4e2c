"""An open producer of a lane's audit, and where what it sends lands."""

from dataclasses import dataclass, field

from confluent_kafka import KafkaError, Message, Producer

from core_tables.consumer.audit_queue import LaneQueue


@dataclass
class Landing:
    """The offset in the audit partition of the last record of a transaction; None while it is not known.

    The client keeps `delivered` until it has reported what became of the record. It must not lead to the producer, which would
    then stay open, with its threads and its transactional.id, if the record is never delivered.
    """

    offset: int | None = None

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Note the offset of a record that was delivered."""
        self.offset = message.offset() if error is None else None


@dataclass
class AuditOutput:
    """An open producer of a lane, and the offset of the next outcome to emit.

    `fresh`: nothing has been emitted since it was opened. `landing` is where this transaction lies, and `committed` the offset of
    the last record of the transaction before.
    """

    producer: Producer
    next_offset: int
    fresh: bool
    queue: LaneQueue
    landing: Landing = field(default_factory=Landing)
    committed: int = -1
