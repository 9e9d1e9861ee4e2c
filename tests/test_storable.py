"""Whatever the fold accepts can be stored, and comes back as it was: a property, on the real Postgres."""

import pytest
from hypothesis import HealthCheck, given, settings

from core_tables.projection.fold.batch import fold_batch
from core_tables.projection.fold.values import Folded
from core_tables.projection.postgres.keys import Move
from core_tables.projection.postgres.store import Store
from core_tables.projection.verify.report import Scope
from core_tables.projection.verify.tables import verify
from core_tables.schemas.events import LedgerEvent
from core_tables.schemas.identity import lane_of

from .strategies import logs
from .test_laws import records_of
from .world import World

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def store(world: World) -> Store:
    """The worker's side of Postgres."""
    return world.store()


@given(logs)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_fold_accepts_postgres_stores(store: Store, events: list[LedgerEvent]) -> None:
    records = records_of(events)
    lanes = sorted({lane_of(record.event_id) for record in records})
    half = len(records) // 2
    try:
        # The second half loads what the first wrote; its BEGIN, in an open transaction, is a warning only.
        for at, part in enumerate((records[:half], records[half:]) if lanes else ()):
            held, loaded = store.begin([Move(lane, at, 0, at + 1, 0) for lane in lanes], part, {})
            assert held == set(lanes)
            _write(store, fold_batch(part, loaded))
        with store.connection.transaction():
            rows = store.connection.execute("select count(*) from os_core.work_order_ledger").fetchone()
        assert rows is not None
    finally:
        store.rollback()


def test_batches_that_load_what_earlier_ones_wrote_give_the_fold_of_the_ledger(store: Store) -> None:
    """Several logs one after the other, each loaded from the tables: then verify finds everything equal."""
    from .builders import day

    records = records_of(day(1200, tenants=3, orders=10))
    applied: dict[int, int] = {}
    for start in range(0, len(records), 100):
        part = records[start : start + 100]
        ends = {lane_of(record.event_id): start + 100 for record in part}
        moves = [Move(lane, applied.get(lane, 0), 0, end, 0) for lane, end in ends.items()]
        held, loaded = store.begin(moves, part, {})
        assert held == set(ends)
        _write(store, fold_batch(part, loaded))
        assert store.commit(ends)
        applied |= ends
    report = verify(store.connection, Scope())
    assert [found for found in report.differences if found.work_order_id is not None] == []
    assert report.compared == 30


def _write(store: Store, folded: Folded) -> None:
    store.write([folded.decided], folded.changed)
