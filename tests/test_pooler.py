"""Reads through a real PgBouncer in transaction mode: each transaction may get another session, which others used before."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from core_tables.projection.fold.pending import PendingQuery
from core_tables.projection.postgres.read_pool import ReadPool
from core_tables.projection.postgres.reads import Reads
from core_tables.schemas.outcomes import Accepted
from core_tables.schemas.reasons import UnavailableError

from .builders import START, make
from .poolers import MISSING, running_pooler
from .world import World, other_settings

pytestmark = [pytest.mark.stack, pytest.mark.skipif(shutil.which("pgbouncer") is None, reason=MISSING)]


@pytest.fixture(scope="module")
def pooler(world: World) -> Iterator[str]:
    """The reader's DSN through a pooler that has two sessions for everybody."""
    with running_pooler(world.settings.reader()) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def filled(world: World) -> World:
    """The world with a work order of each of eight tenants, whose ids are those of the tenants."""
    with world.working():
        for tenant in TENANTS:
            assert (
                world.outcome(make("WORK_ORDER_CREATED", tenant_id=tenant, work_order_id=f"of-{tenant}")) == Accepted()
            )
    return world


TENANTS = [f"pooled-{number}" for number in range(8)]


def test_every_read_through_a_pooler_is_that_of_a_session_and_sees_its_tenant_alone(filled: World, pooler: str) -> None:
    direct = Reads(ReadPool.connect(filled.settings.reader(), "test direct"))
    pooled = Reads(ReadPool.connect(pooler, "test pooled", size=8, pooled=True))

    def answers(reads: Reads, tenant: str) -> list[object]:
        query, order = PendingQuery(tenant, "ada", START), f"of-{tenant}"
        return [
            reads.current(tenant, order),
            reads.ledger(tenant),
            reads.ledger(tenant, order),
            reads.attempts(tenant, order),
            reads.active_lease(tenant, order, START),
            reads.refused(tenant),
            reads.pending(query),
            reads.outcomes(tenant, [entry.work_order_event_id for entry in reads.ledger(tenant)]),
            reads.topics(),
            reads.current("pooled-none", order),
        ]

    with closing(direct), closing(pooled), ThreadPoolExecutor(8) as threads:
        expected = {tenant: answers(direct, tenant) for tenant in TENANTS}
        assert all(found[0] is not None and found[-1] is None for found in expected.values())
        asked = TENANTS * 12
        assert list(threads.map(lambda tenant: answers(pooled, tenant) == expected[tenant], asked)) == [True] * len(
            asked
        )


@pytest.mark.usefixtures("filled")
def test_a_session_behind_the_pooler_keeps_nothing_of_a_read(pooler: str) -> None:
    with closing(Reads(ReadPool.connect(pooler, "test pooled", pooled=True))) as reads:
        assert reads.current(TENANTS[0], f"of-{TENANTS[0]}") is not None
    with psycopg.connect(pooler, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(8):
            kept = "select current_setting('core_tables.tenant_id', true), current_setting('search_path')"
            assert connection.execute(kept).fetchone() in ((None, '"$user", public'), ("", '"$user", public'))
            assert connection.execute("select count(*) from os_core.work_order_ledger").fetchone() == (0,)
            assert connection.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)


def test_outcomes_and_cancels_through_a_pooler_are_those_of_a_session(filled: World, pooler: str) -> None:
    program = other_settings(filled, reader_dsn=pooler, reader_pooled=True)
    with closing(program), filled.working():
        assert program.outcome(make("FIELD_SET", tenant_id=TENANTS[0], work_order_id="new")) == Accepted()
        receipt = program.ledger.cancel(TENANTS[1], f"of-{TENANTS[1]}", 7, "cancel", START, timeout=20)
        assert receipt.outcome(20) == Accepted()
        canceled = program.reads.current(TENANTS[1], f"of-{TENANTS[1]}")
    assert canceled is not None
    assert canceled.work_order_status == "CANCELED"


def test_a_pooler_that_is_not_named_in_the_settings_is_refused_with_its_own_words(pooler: str) -> None:
    with closing(Reads(ReadPool.connect(pooler, "test pooled"))) as reads, pytest.raises(UnavailableError) as refused:
        reads.topics()
    assert "startup parameter" in refused.value.message
    assert "check the DSN" in refused.value.message
