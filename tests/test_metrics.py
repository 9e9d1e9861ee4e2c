"""The metrics of a worker: those of the table in docs/OPERATIONS.md, true at each scrape, and none with a tenant."""

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from prometheus_client.samples import Sample

from core_tables.cli import wiring
from core_tables.cli.certificate_metrics import CertificateCollector
from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.audit_queue import LaneQueue
from core_tables.consumer.caught_up import CaughtUp
from core_tables.consumer.counts import Durations, WorkerCounts
from core_tables.consumer.metric_families import metrics_page
from core_tables.consumer.worker_metrics import WorkerCollector
from core_tables.kafka.current_ends import KEEP_S, AskedEnds, CurrentEnds, EndsAnswer
from core_tables.kafka.log import LogEnd
from core_tables.schemas.outcomes import ACCEPTED, Accepted, Refused, Replayed
from core_tables.schemas.reasons import CONTRACT_VALIDATION_FAILED, LaneStoppedError, UnavailableError

from .builders import make
from .certificates import Authority
from .metric_tables import OF_THE_LEDGER, all_samples, documented, of_lanes, samples, scrape, scraped
from .world import DEADLINE_S, RunningWorker, World, wait_until


def followed(world: World, running: RunningWorker) -> WorkerCollector:
    """A collector of the metrics of a worker of this process."""
    collector = WorkerCollector()
    ends = wiring.current_ends(world.settings, running.worker.topic, DEADLINE_S)
    collector.follow(running.worker, ends, world.settings.group_id)
    return collector


def value(text: str, name: str, **labels: str) -> float:
    (found,) = [sample for sample in samples(text, name) if sample.labels == labels]
    return found.value


def lanes_of(text: str) -> set[int]:
    return set(of_lanes(samples(text, "core_tables_lane_applied_offset")))


def assert_states_sum_to_one(text: str) -> None:
    sums: dict[str, float] = {}
    found: list[Sample] = samples(text, "core_tables_lane_state")
    for sample in found:
        sums[sample.labels["lane"]] = sums.get(sample.labels["lane"], 0.0) + sample.value
    assert set(sums.values()) <= {1.0}, sums
    assert len(found) == 3 * len(sums)


@pytest.mark.stack
def test_a_real_worker_shows_the_metrics_of_the_table_and_never_a_tenant(world: World, tmp_path: Path) -> None:
    trusted = {"ssl.ca.location": str(Authority(tmp_path).certificate)}
    with world.working() as running:
        collector = followed(world, running)
        assert scrape(WorkerCollector()) == "", "a worker that is not there yet shows none"
        assert world.outcome(make("WORK_ORDER_CREATED", idempotency_key="k")) == Accepted()
        assert isinstance(world.outcome(make("WORK_ORDER_CREATED", idempotency_key="k")), Replayed)
        assert isinstance(world.outcome(make("LEASE_RELEASED")), Refused)
        world.drain()
        lane = wait_until(lambda: running.worker.lanes.get(7), "a lane to be assigned")
        lane.stopped, lane.opened = LaneStoppedError("planted", "records_lost"), False
        certificates = CertificateCollector(world.settings.model_copy(update={"kafka": trusted}))
        text = metrics_page(collector, certificates)().body.decode()
        lane.stopped, lane.opened = None, True
        table = {row for row in documented().values() if not row.name.startswith(OF_THE_LEDGER)}
        assert set(scraped(text).values()) == table
        assert {sample.name for sample in all_samples(text)} >= {"process_cpu_seconds_total", "process_open_fds"}
        values = [label for sample in all_samples(text) for pair in sample.labels.items() for label in pair]
        assert not [each for each in values if "acme" in each or "tenant" in each or "order-1" in each or "/" in each]
        assert_states_sum_to_one(text)
        stopped = [sample.labels for sample in samples(text, "core_tables_lane_stopped_info")]
        assert stopped == [{"lane": "7", "cause": "records_lost"}]
        records = "core_tables_records_total"
        assert value(text, records, outcome="accepted", reason="") == 1
        assert value(text, records, outcome="replayed", reason="OS_WORK_ORDER_IDEMPOTENCY_REPLAY") == 1
        assert sum(sample.value for sample in samples(text, records)) == 3
        assert value(text, "core_tables_batches_total", result="committed") == 3
        assert value(text, "core_tables_commit_age_seconds_count") == 3
        assert value(text, "core_tables_batch_step_seconds_count", step="load") == 3
        assert sum(of_lanes(samples(text, "core_tables_lane_lag_records")).values()) == 0
        assert sum(of_lanes(samples(text, "core_tables_lane_log_end_offset")).values()) == 3
        assert sum(of_lanes(samples(text, "core_tables_audit_lag_records")).values()) == 0


@pytest.mark.stack
def test_a_lane_that_was_handed_over_is_gone_with_the_next_scrape_and_states_sum_to_one_throughout(
    world: World,
) -> None:
    with world.working() as first:
        wait_until(lambda: len(first.probes.ready().body["lanes"]) == 12 and first.probes.ready().ok, "all lanes")
        collector = followed(world, first)
        assert lanes_of(scrape(collector)) == set(range(12))
        with world.working() as second:
            other = followed(world, second)
            while len(second.worker.lanes) < 6 or len(first.worker.lanes) > 6:
                assert_states_sum_to_one(scrape(collector))
                assert_states_sum_to_one(scrape(other))
            ours, theirs = lanes_of(scrape(collector)), lanes_of(scrape(other))
            assert (len(ours), len(theirs)) == (6, 6)
            assert ours | theirs == set(range(12))
        text = scrape(collector)
        assert value(text, "core_tables_rebalances_total", kind="revoked") >= 1


@pytest.mark.stack
def test_a_transaction_of_a_stranger_holds_the_last_stable_offset_and_the_lane_is_behind(world: World) -> None:
    stranger = Producer(
        {"bootstrap.servers": world.stack.bootstrap_servers, "transactional.id": f"{world.name}.stranger"}
    )
    stranger.init_transactions(20)
    with world.working() as running:
        wait_until(lambda: running.probes.ready().ok, "the worker to be ready")
        stranger.begin_transaction()
        stranger.produce(world.settings.topic, b"x", b"acme", 3)
        stranger.flush(20)
        wait_until(
            lambda: running.worker.lanes[3].behind.behind_s(running.worker.turned_at) > 3, "the lane to fall behind"
        )
        text = scrape(followed(world, running))
        ends, stable = (
            of_lanes(samples(text, f"core_tables_lane_{which}_offset")) for which in ("log_end", "last_stable")
        )
        assert {lane for lane in ends if ends[lane] > stable[lane]} == {3}
        assert value(text, "core_tables_lane_lag_records", lane="3") >= 1
        others = of_lanes(samples(text, "core_tables_lane_behind_seconds"))
        assert max(behind for lane, behind in others.items() if lane != 3) < others[3]
        stranger.abort_transaction(20)
        wait_until(
            lambda: value(scrape(followed(world, running)), "core_tables_lane_lag_records", lane="3") == 0, "no lag"
        )


def test_a_position_is_caught_up_as_of_when_its_goal_was_the_end() -> None:
    follower = CaughtUp(100.0)
    follower.note(position=5, end=5, now=101.0)
    assert follower.behind_s(101.0) == 0.0
    follower.note(position=5, end=9, now=102.0)
    follower.note(position=8, end=12, now=103.0)
    assert follower.behind_s(103.0) == 2.0, "it has not reached what was the end at 102"
    follower.note(position=11, end=15, now=104.0)
    assert follower.behind_s(104.0) == 2.0, "9 was the end at 102"
    for second in range(200):
        follower.note(position=14 + second, end=18 + second, now=105.0 + second)
    assert follower.behind_s(304.0) <= 6.0, "one that follows a moving end closely is never far behind"
    assert follower.behind_s(404.0) >= 100.0, "one that nothing is noted of falls behind"


def test_what_is_counted_has_every_label_from_the_start() -> None:
    counts = WorkerCounts()
    assert len(counts.records) == 9
    refused = Refused(CONTRACT_VALIDATION_FAILED, "f", "a sentence")
    counts.decided(10, [Replayed(1, False), refused, refused, ACCEPTED], newest=[])
    assert {key: count for key, count in counts.records.items() if count} == {
        ("accepted", ""): 7,
        ("replayed", "OS_WORK_ORDER_IDEMPOTENCY_REPLAY"): 1,
        ("refused", CONTRACT_VALIDATION_FAILED): 2,
    }


def test_a_duration_is_counted_in_the_first_bucket_that_holds_it() -> None:
    durations = Durations((1.0, 2.0))
    for seconds in (0.5, 1.0, 1.5, 3.0):
        durations.observe(seconds)
    assert durations.cumulated() == [2, 3, 4]
    assert durations.sum == 6.0


def test_ends_are_asked_for_at_most_every_few_seconds_and_are_none_while_nobody_answers() -> None:
    now, answers, asked = 0.0, [{0: LogEnd(1, 1)}], list[float]()

    def ask() -> dict[int, LogEnd]:
        asked.append(now)
        if not answers:
            raise UnavailableError("kafka", "planted")
        return answers.pop()

    ends = CurrentEnds(ask, lambda: now)
    assert ends() == ends() == {0: LogEnd(1, 1)}
    now = KEEP_S
    assert ends() == ends() == {}
    assert asked == [0.0, KEEP_S]


def test_an_answer_about_the_ends_is_as_old_as_its_question_and_holds_what_the_broker_knew() -> None:
    now, sent = 0.0, list[dict[int, Future[Any]]]()

    def ask() -> dict[int, Future[Any]]:
        if now == 1.0:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        sent.append({0: Future(), 1: Future()})
        return sent[-1]

    ends = AskedEnds(ask, lambda: now)
    assert ends.answer() is None, "nothing was asked"
    now = 1.0
    ends.ask()
    assert ends.answer() is None, "the client could not ask"
    now = 2.0
    ends.ask()
    now = 9.0
    ends.ask()
    assert len(sent) == 1, "a question is open"
    sent[0][0].set_result(SimpleNamespace(offset=7))
    assert ends.answer() is None, "of one log nothing is known yet"
    sent[0][1].set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    assert ends.answer() == EndsAnswer(2.0, {0: 7})
    assert ends.answer() is None
    ends.ask()
    assert len(sent) == 2


def test_the_audit_counts_why_its_producers_are_replaced() -> None:
    counts = WorkerCounts()
    ports: Any = SimpleNamespace(counts=counts, clock=lambda: 0.0, chance=lambda: 0.0, release=lambda _: None)
    queue: Any = SimpleNamespace(stop=lambda *_: None)
    log: Any = SimpleNamespace(warning=lambda *_, **__: None)
    emitter = AuditEmitter(queue, "audit", 0, ports, log)
    for error in (
        KafkaException(KafkaError(KafkaError._FENCED)),
        KafkaException(KafkaError(KafkaError._TIMED_OUT)),
        UnavailableError("postgres", "planted"),
        RuntimeError("can't start new thread"),
    ):
        emitter._failed(LaneQueue(0, 0, 0), error)
    assert counts.audit_reopens == {"fenced": 1, "kafka": 1, "postgres": 1, "machine": 1}
