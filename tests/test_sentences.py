"""The message about a stopped lane says what to do next: every sentence names a cause and a step."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from core_tables.consumer.audit_queue import AuditQueue
from core_tables.consumer.checks import check_log, defect, no_row
from core_tables.kafka.errors import UnreadableRecordError, translate_creation, translate_kafka
from core_tables.kafka.topics import (
    ClusterFacts,
    TopicFacts,
    check_identity,
    check_settings,
    check_topics,
)
from core_tables.projection.postgres.failures import translate
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.projection.postgres.registrations import check_registered
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.reasons import CoreTablesError
from core_tables.schemas.topic import LedgerTopic
from core_tables.schemas.wire import decode_event, lane_schemas

from .fakes import IdleProducer, accepted, emitter_over

STEP = re.compile(
    r"`core-tables [a-z]+`|docs/RELIABILITY\.md, Backup|docs/RUNBOOK\.md|set CORE_TABLES_|`kafka-configs "
    r"|ask an administrator|see that|check |deploy a worker|start this program again"
)
KEPT = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
}
ALONE = {**KEPT, "min.insync.replicas": "1"}
ROW = LedgerTopic(0, "ledger", "id-1", "cluster", 12, "audit", "id-2")
POSITION = LanePosition(3, 10, 5, 0, 1)


def facts(
    cluster: str = "cluster", ledger: tuple[str, int] = ("id-1", 12), settings: dict[str, str] = KEPT
) -> ClusterFacts:
    """A broker that is as ROW has it, except for what is given."""
    audit = TopicFacts("id-2", 12, KEPT)
    return ClusterFacts(cluster, {"ledger": TopicFacts(*ledger, settings), "audit": audit})


class Postgres(psycopg.Error):
    """An error as the server sends it."""

    def __init__(self, state: str) -> None:
        super().__init__("planted")
        self.sqlstate = state


def raised(call: Callable[[], object]) -> CoreTablesError:
    with pytest.raises(CoreTablesError) as caught:
        call()
    return caught.value


def of_the_audit(audited: int = 5, **ports: Any) -> CoreTablesError:
    """Why the audit of a lane stops whose queue begins at offset 5."""
    queue = AuditQueue(10)
    queue.open(0, audited, 5)
    queue.put([accepted(event_id_at(0, 5))])
    usual = {"open_producer": lambda _: IdleProducer(), "ledger_end": lambda _: 6}
    emitter_over(queue, **{**usual, **ports}).step(0)
    return queue.stopped()[0]


def stops() -> Iterator[CoreTablesError]:
    """Every way to stop that needs no server."""
    yield raised(lambda: check_log(POSITION, 5, 7, 20))
    yield raised(lambda: check_log(POSITION, 5, 0, 9))
    yield raised(lambda: check_identity(facts(cluster="other"), ROW))
    yield raised(lambda: check_identity(facts(ledger=("id-9", 12)), ROW))
    yield raised(lambda: check_identity(facts(ledger=("id-1", 11)), ROW))
    yield raised(lambda: check_topics(ClusterFacts("cluster", {}), ROW))
    yield raised(lambda: check_settings(facts(settings={**KEPT, "cleanup.policy": "compact"}), "ledger"))
    yield raised(
        lambda: check_settings(ClusterFacts("cluster", {"ledger": TopicFacts("id-1", 12, ALONE, 3)}), "ledger")
    )
    packed = ClusterFacts("cluster", {"ledger": TopicFacts("id-1", 12, KEPT), "audit": TopicFacts("id-2", 12, KEPT)})
    yield raised(lambda: check_topics(packed, ROW))
    yield UnreadableRecordError("ledger", 3, 7, "Decompression failed")
    yield no_row(3)
    yield defect("the fold failed", ZeroDivisionError())
    yield of_the_audit(last_event_id=lambda _: event_id_at(0, 1))
    yield of_the_audit(last_event_id=lambda _: event_id_at(0, 8))
    yield of_the_audit(last_event_id=lambda _: event_id_at(1, 5))
    yield of_the_audit(last_event_id=lambda _: 1 / 0)
    yield of_the_audit(audited=0, last_event_id=lambda _: event_id_at(0, 1))
    for code in (
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError._FATAL,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._TRANSPORT,
    ):
        yield translate_kafka(KafkaError(code))
    for state in ("42501", "42P01", "57P01", "23505"):
        yield translate(Postgres(state))
    policy = KafkaException(KafkaError(KafkaError.POLICY_VIOLATION))
    yield translate_creation("ledger", policy)
    later = b"\xc3\x01" + bytes(8) + b"later"
    yield raised(lambda: decode_event(later, 0, lane_schemas({"00" * 8: 0})))
    yield raised(lambda: check_registered(3, ["00" * 8]))


def test_every_message_of_a_stop_names_its_cause_and_the_next_step() -> None:
    found = [error.message for error in stops()]
    assert len(found) == len(set(found)) == 30
    for message in found:
        cause, separator, _ = message.partition("; ")
        assert separator or ": " in message, message
        assert len(cause) > 20, message
        assert STEP.search(message), f"no step: {message}"
