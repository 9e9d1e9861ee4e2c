"""The audit thread: it outlives what goes wrong in a turn, and says so when it does not turn any more."""

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from core_tables.consumer.audit_emitter import AuditEmitter
from core_tables.consumer.audit_queue import AuditQueue, LaneQueue
from core_tables.consumer.audit_thread import AuditThread, release_in_background

from .fakes import IdleProducer, Kept, emitter_over, queue_of
from .world import wait_until


@contextlib.contextmanager
def running(thread: AuditThread) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        thread.close(flush=False)


def test_producers_that_cannot_be_opened_for_want_of_threads_are_opened_later() -> None:
    """A machine that starts no thread is met in the middle: some producers are open, and none of them may be used."""
    queue, log, turns = queue_of(3), Kept(), itertools.count()

    def for_each(do: Callable[[LaneQueue], object], queues: list[LaneQueue]) -> None:
        for each in queues:
            do(each)
        if next(turns) == 0:
            raise RuntimeError("can't start new thread")

    now = itertools.count(0.0, 60.0)
    emitter = emitter_over(
        queue,
        log,
        open_producer=lambda _: IdleProducer(),
        for_each=for_each,
        audited=lambda _: 3,
        clock=now.__next__,
    )
    emitter.step(0)
    assert log.events == ["audit_reopens"]
    assert not queue.stopped()
    emitter.step(0)
    assert queue.empty()


def test_a_turn_that_fails_is_logged_and_followed_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, log, turns = queue_of(0), Kept(), itertools.count()
    real = AuditEmitter.step

    def step(self: AuditEmitter, wait_s: float = 0.0, most: int | None = None) -> int:
        if next(turns) == 0:
            raise MemoryError
        return real(self, wait_s, most)

    monkeypatch.setattr(AuditEmitter, "step", step)
    monkeypatch.setattr("core_tables.consumer.audit_thread.FAILED_PAUSE_S", 0.01)
    emitter = emitter_over(queue, open_producer=lambda _: IdleProducer())
    with running(AuditThread(queue, emitter, log)):
        wait_until(queue.empty, "the outcome to be published")
    assert log.events == ["audit_turn_failed"]


def test_a_producer_is_released_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    release_in_background(Producer({"bootstrap.servers": "127.0.0.1:1", "transactional.id": "of nobody"}))


class StuckProducer(Producer):
    """A client of its own whose broker is never there, so that nothing is delivered; it can be seen whether it is closed."""

    def init_transactions(self, *_: float) -> None:
        pass

    def begin_transaction(self, *_: float) -> None:
        pass

    def commit_transaction(self, *_: float) -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


@pytest.mark.parametrize("left", [1, 0], ids=["flush leaves records", "the commit is not answered"])
def test_a_producer_whose_records_were_not_delivered_is_closed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(StuckProducer, "flush", lambda *_: left)
    opened: list[Any] = []

    def open_producer(_: str) -> StuckProducer:
        producer = StuckProducer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
        opened.append(weakref.ref(producer))
        return producer

    queue, log, now = queue_of(0), Kept(), itertools.count(0.0, 60.0)
    emitter = emitter_over(queue, log, open_producer=open_producer, release=release_in_background, clock=now.__next__)
    emitter.step(0)
    emitter.step(0)
    emitter.close()
    assert len(opened) == 2
    wait_until(lambda: not any(producer() for producer in opened), "the producers to be closed", 10)
    assert log.events == ["audit_reopens", "audit_reopens"]


def test_each_step_that_may_wait_and_each_turn_is_a_sign_of_life() -> None:
    now = [0.0]
    queue = AuditQueue(10, lambda: now[0])
    queue.open(0, 0, 0)
    silent: list[float] = []

    def open_producer(_: str) -> IdleProducer:
        silent.append(queue.silent_s())
        now[0] = 200.0
        return IdleProducer()

    now[0] = 100.0
    emitter = emitter_over(queue, open_producer=open_producer)
    assert queue.silent_s() == 100.0
    emitter.step(0)
    assert silent == [0.0]
    assert queue.silent_s() == 0.0
