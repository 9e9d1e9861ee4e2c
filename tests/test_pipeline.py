"""Statements that travel together: answers in their order, errors where they happened, on the real Postgres."""

from typing import NamedTuple

import psycopg
import pytest
from msgspec.structs import astuple

from core_tables.projection.postgres.connection import Connection, connect
from core_tables.projection.postgres.keys import AttemptName, RecordName
from core_tables.projection.postgres.pipeline import Pipeline
from core_tables.projection.postgres.row_types import AttemptRow, OutcomeRow

from .builders import make
from .world import World

pytestmark = pytest.mark.stack


class Tenant(NamedTuple):
    set_config: str


class Count(NamedTuple):
    work_orders: int


class Facts(NamedTuple):
    """A row of check_role.sql, its columns in another order."""

    name: str
    may_write: bool
    sees_all: bool


@pytest.fixture
def connection(world: World) -> Connection:
    """A worker's connection."""
    made = connect(world.settings.worker(), name="test pipeline")
    made.autocommit = True
    return made


def prepared(connection: Connection) -> set[object]:
    """The names of the statements that a connection has prepared."""
    return {row[0] for row in connection.execute("select name from pg_prepared_statements").fetchall()}


def test_answers_come_in_the_order_of_their_statements(connection: Connection) -> None:
    with Pipeline(connection) as pipeline:
        begun = pipeline.command(b"BEGIN")
        answer = pipeline.fetch(Tenant, "set_tenant", "acme")
        rows = pipeline.fetch(Count, "count_work_orders_of_tenant", "acme")
        ended = pipeline.command(b"COMMIT")
    assert (begun.tag, ended.tag) == ("BEGIN", "COMMIT")
    assert answer.rows == [("acme",)]
    assert rows.rows == [(1,)]
    assert prepared(connection) == {"set_tenant", "count_work_orders_of_tenant"}


def test_a_pipeline_is_a_transaction_and_what_is_set_for_it_ends_with_it(connection: Connection) -> None:
    with Pipeline(connection) as pipeline:
        pipeline.fetch(Tenant, "set_tenant", "acme")
    left = connection.execute("select current_setting('core_tables.tenant_id', true)").fetchone()
    assert left in [("",), (None,)]


def test_a_failure_ends_the_pipeline_and_leaves_the_connection_good(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    with pytest.raises(psycopg.errors.SyntaxError), pipeline:  # noqa: PT012 - all of it is sent before any of it fails
        pipeline.fetch(Tenant, "set_tenant", "acme")
        pipeline.command(b"nonsense")
        after = pipeline.fetch(Count, "count_work_orders_of_tenant", "acme")
    assert (after.rows, after.tag) == ([], "")
    connection.rollback()
    with pipeline:
        again = pipeline.fetch(Count, "count_work_orders_of_tenant", "acme")
    assert again.rows == [(1,)]


def test_what_is_prepared_once_serves_the_pipelines_after_it(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    for _ in range(2):
        with pipeline:
            answer = pipeline.fetch(Tenant, "set_tenant", "acme")
        assert answer.rows == [("acme",)]
    assert prepared(connection) == {"set_tenant"}


def test_an_error_of_the_caller_leaves_the_connection_good(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    with pytest.raises(KeyError, match="planted"), pipeline:  # noqa: PT012
        pipeline.fetch(Tenant, "set_tenant", "acme")
        raise KeyError("planted")
    with pipeline:
        answer = pipeline.fetch(Tenant, "set_tenant", "bells")
    assert answer.rows == [("bells",)]


def test_more_than_any_buffer_holds_goes_both_ways(connection: Connection) -> None:
    long = "x" * 1_000_000
    with Pipeline(connection) as pipeline:
        answers = [pipeline.fetch(Tenant, "set_tenant", long + str(number)) for number in range(40)]
    assert [len(answer.rows[0][0]) for answer in answers] == [1_000_000 + len(str(number)) for number in range(40)]


def test_a_connection_that_ends_meanwhile_is_told_as_what_ended_it(connection: Connection, world: World) -> None:
    pipeline = Pipeline(connection)
    world.admin.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError), pipeline:
        pipeline.fetch(Tenant, "set_tenant", "acme")
    assert connection.closed
    with pytest.raises(psycopg.OperationalError), pipeline:
        pipeline.fetch(Tenant, "set_tenant", "acme")


@pytest.mark.parametrize("count", [0, 1, 8, 1000])
def test_rows_are_answered_alike_however_many_they_are(connection: Connection, world: World, count: int) -> None:
    tenant, names = f"rows-{count}", [f"order-{number}" for number in range(count)]
    with world.working():
        for event_type in ("WORK_ORDER_CREATED", "STEP_STARTED"):
            world.append(*(make(event_type, tenant_id=tenant, work_order_id=name) for name in names))
        world.drain()
    attempts = [AttemptName(tenant, name, "step-1", 0) for name in names]
    with Pipeline(connection) as pipeline:
        found = pipeline.fetch(AttemptRow, "load_attempts", attempts)
        nothing = pipeline.fetch(OutcomeRow, "recall_outcomes", [RecordName(tenant, 1)] * count)
    assert sorted(row.key for row in found.rows) == sorted(astuple(name) for name in attempts)
    assert found.count == count
    assert (nothing.rows, nothing.count) == ([], 0)


def test_a_row_is_made_by_the_names_of_its_columns(connection: Connection) -> None:
    """Whatever their order; a column that the type has no place for is a defect."""
    pipeline = Pipeline(connection)
    with pipeline:
        swapped = pipeline.fetch(Facts, "check_role")
    assert swapped.rows == [Facts(name="core_tables_worker", may_write=True, sees_all=True)]
    with pytest.raises(psycopg.DataError, match=r"may_write.*are not those of Tenant"), pipeline:
        pipeline.fetch(Tenant, "check_role")


def test_what_is_no_parameter_spoils_no_later_call(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    with pytest.raises(TypeError, match=r"not 1\.5"), pipeline:
        pipeline.add("set_tenant", 1.5)  # type: ignore[arg-type]
    with pipeline:
        answer = pipeline.fetch(Tenant, "set_tenant", "acme")
    assert answer.rows == [("acme",)]


def test_an_interrupt_while_answers_are_read_ends_the_connection(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left unread would be mistaken for the answers of the next."""
    pipeline = Pipeline(connection)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt), pipeline:
        pipeline.fetch(Tenant, "set_tenant", "acme")
    assert connection.closed
