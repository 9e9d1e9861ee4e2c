"""A model of Kafka: the ledger topic, consumers, transactional producers that fence each other, and the audit topic."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from core_tables.schemas.audit import decode_audit
from core_tables.schemas.events import AuditEvent
from core_tables.schemas.reasons import UnavailableError

from .scheduler import Scheduler

UNREADABLE: Final = b"what the client cannot decompress"


class Message:
    """A record as a consumer hands it out, or an error in its place."""

    def __init__(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        self._at, self._key, self._value = (partition, offset), key, value

    def partition(self) -> int:
        return self._at[0]

    def offset(self) -> int:
        return self._at[1]

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._BAD_COMPRESSION, "simulated") if self._value is UNREADABLE else None

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 5


class Broker:
    """Topics, and who holds which transactional id."""

    def __init__(self, scheduler: Scheduler, partitions: int) -> None:
        self.scheduler = scheduler
        self.partitions = partitions
        self.ledger: list[list[tuple[bytes, bytes] | None]] = [[] for _ in range(partitions)]  # None: a gap
        self.audit: list[list[AuditEvent]] = [[] for _ in range(partitions)]  # all there ever was
        self.wiped = [0] * partitions  # how many of them retention has taken away
        self.epochs: dict[str, int] = {}
        self.transactions: dict[str, list[tuple[int, AuditEvent]]] = {}
        self.faults = 0.0  # how likely a call to the broker goes wrong

    def goes_wrong(self) -> bool:
        return self.scheduler.chance.random() < self.faults

    def messages(self, partition: int, start: int, end: int) -> list[Message]:
        """The records of a range of offsets."""
        log = self.ledger[partition]
        found = [(offset, log[offset]) for offset in range(start, min(end, len(log)))]
        return [Message(partition, offset, *record) for offset, record in found if record is not None]

    def gaps(self, partition: int, start: int) -> dict[int, int]:
        """The gaps among the next records from an offset on."""
        self.scheduler.edge()
        if self.goes_wrong():
            raise UnavailableError("kafka", "simulated")
        offsets = [message.offset() for message in self.messages(partition, start, len(self.ledger[partition]))]
        offsets = offsets[: self.scheduler.chance.randint(1, 5)]
        pairs = zip([start, *(offset + 1 for offset in offsets)], offsets, strict=False)
        return {expected: offset for expected, offset in pairs if offset != expected}

    def ledger_end(self, partition: int) -> int:
        """The end of a ledger partition."""
        self.scheduler.edge()
        return len(self.ledger[partition])

    def ends(self) -> dict[int, "Future[Any]"]:
        """Where the ledger's logs end: only metrics come of it, so this goes right."""
        answers: dict[int, Future[Any]] = {partition: Future() for partition in range(self.partitions)}
        for partition, answer in answers.items():
            answer.set_result(SimpleNamespace(offset=len(self.ledger[partition])))
        return answers

    def check(self) -> None:
        """The topics are what they were: nobody deletes one here."""
        self.scheduler.edge()
        if self.goes_wrong():
            raise UnavailableError("kafka", "simulated")

    def last_event_id(self, partition: int) -> int | None:
        """The tail of an audit partition."""
        self.scheduler.edge()
        if self.goes_wrong():
            raise failure(KafkaError._TIMED_OUT)
        audits = self.audit[partition]
        return audits[-1].event_id if len(audits) > self.wiped[partition] else None


def failure(code: int, *, fatal: bool = False) -> KafkaException:
    """An error as the client raises it."""
    return KafkaException(KafkaError(code, "simulated", fatal))


class Producer:
    """A transactional producer."""

    def __init__(self, broker: Broker, transactional_id: str) -> None:
        self.broker = broker
        self.id = transactional_id
        self.epoch = -1

    def init_transactions(self, _timeout: float) -> None:
        """Fence the producer that had the id, and abort what it had open."""
        self.broker.scheduler.edge()
        self.epoch = self.broker.epochs[self.id] = self.broker.epochs.get(self.id, 0) + 1
        self.broker.transactions.pop(self.id, None)
        if self.broker.goes_wrong():
            raise failure(KafkaError._TIMED_OUT)

    def begin_transaction(self) -> None:
        self._fenced()
        self.broker.transactions[self.id] = []

    def produce(
        self,
        _topic: str,
        value: bytes,
        _key: bytes,
        partition: int,
        headers: object,  # noqa: ARG002 - the client's
        on_delivery: object,  # noqa: ARG002 - never called: where a record lies is not known
    ) -> None:
        self._fenced()
        self.broker.transactions.setdefault(self.id, []).append((partition, decode_audit(value)))

    def flush(self, _timeout: float) -> int:
        return 0

    def commit_transaction(self, _timeout: float) -> None:
        """Commit; the request or its answer may get lost."""
        self.broker.scheduler.edge()
        self._fenced()
        if self.broker.goes_wrong():
            raise failure(KafkaError._TIMED_OUT)
        for partition, event in self.broker.transactions.pop(self.id, []):
            self.broker.audit[partition].append(event)
        if self.broker.goes_wrong():
            raise failure(KafkaError._TIMED_OUT)

    def _fenced(self) -> None:
        if self.broker.epochs.get(self.id) != self.epoch:
            raise failure(KafkaError._FENCED, fatal=True)


class Consumer:
    """A member of the group; the simulation says what it is assigned, whatever the others have."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.next_offsets: dict[int, int] = {}
        self.buffered: list[Message] = []
        self.callbacks: list[Callable[[], None]] = []
        self.on_assign: Any = None
        self.on_revoke: Any = None
        self.on_lost: Any = None
        self.lost_last = False

    def subscribe(self, _topics: Sequence[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign, self.on_revoke, self.on_lost = on_assign, on_revoke, on_lost

    def give(self, partitions: Sequence[int]) -> None:
        """Assign partitions, at the next poll."""
        self.callbacks.append(lambda: self.on_assign(self, [TopicPartition("ledger", p) for p in partitions]))

    def take(self, partitions: Sequence[int]) -> None:
        """Revoke partitions at the next poll, or let them be lost: in turns."""
        self.lost_last = lost = not self.lost_last
        targets = [TopicPartition("ledger", p) for p in partitions]
        self.callbacks.append(lambda: self.on_lost(self, targets) if lost else self.on_revoke(self, targets))

    def consume(self, count: int, _timeout: float) -> list[Message]:
        """Callbacks first, then messages: some of each partition, in order."""
        self.broker.scheduler.edge()
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()
        chance = self.broker.scheduler.chance
        if self.buffered and chance.random() < 0.5:  # fetched before a lane was reopened, handed out after
            stale, self.buffered = self.buffered, []
            return stale[:count]
        found: list[Message] = []
        for partition in chance.sample(sorted(self.next_offsets), len(self.next_offsets)):
            log, start = self.broker.ledger[partition], self.next_offsets[partition]
            end = min(len(log), start + chance.randint(0, 4), start + count - len(found))
            messages = self.broker.messages(partition, start, end)
            at_error = [message.offset() for message in messages if message.error() is not None]
            if at_error:  # the client gets no further
                end = at_error[0]
                messages = [message for message in messages if message.offset() <= end]
            found += messages
            self.next_offsets[partition] = max(start, end)
        return found

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        for target in partitions:
            assert target.partition not in self.next_offsets, "assigned twice"
            self.next_offsets[target.partition] = target.offset

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for target in partitions:
            start = self.next_offsets.pop(target.partition)
            self.buffered += self.broker.messages(target.partition, start, start + 2)

    def pause(self, _partitions: object) -> None:
        """Pausing is a hint."""

    resume = pause

    def commit(self, offsets: object, asynchronous: bool) -> None:
        """A gauge that nothing reads."""

    def get_watermark_offsets(
        self,
        target: TopicPartition,
        timeout: float = 0.0,  # noqa: ARG002
        cached: bool = False,  # noqa: ARG002
    ) -> tuple[int, int]:
        self.broker.scheduler.edge()
        if self.broker.goes_wrong():
            raise failure(KafkaError._TIMED_OUT)
        return 0, len(self.broker.ledger[target.partition])
