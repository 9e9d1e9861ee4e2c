"""Statements that travel together: answers in their order, errors where they happened, on the real Postgres."""

import gc

import psycopg
import pytest

from core_tables.projection.postgres.arrays import bigint_array, text_array
from core_tables.projection.postgres.connection import Connection, connect
from core_tables.projection.postgres.pipeline import FEW, Pipeline

from .builders import make
from .world import World

pytestmark = pytest.mark.stack


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
        answer = pipeline.add("set_tenant", ("acme",))
        rows = pipeline.add("count_work_orders_of_tenant", ("acme",))
        ended = pipeline.command(b"COMMIT")
    assert (begun.tag, ended.tag) == ("BEGIN", "COMMIT")
    assert answer.rows == [("acme",)]
    assert rows.rows == [(1,)]
    assert prepared(connection) == {"set_tenant", "count_work_orders_of_tenant"}


def test_a_pipeline_is_a_transaction_and_what_is_set_for_it_ends_with_it(connection: Connection) -> None:
    with Pipeline(connection) as pipeline:
        pipeline.add("set_tenant", ("acme",))
    left = connection.execute("select current_setting('core_tables.tenant_id', true)").fetchone()
    assert left in [("",), (None,)]


def test_a_failure_ends_the_pipeline_and_leaves_the_connection_good(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    with pytest.raises(psycopg.errors.SyntaxError), pipeline:  # noqa: PT012 - all of it is sent before any of it fails
        pipeline.add("set_tenant", ("acme",))
        pipeline.command(b"nonsense")
        after = pipeline.add("count_work_orders_of_tenant", ("acme",))
    assert (after.rows, after.tag) == ([], "")
    connection.rollback()
    with pipeline:
        again = pipeline.add("count_work_orders_of_tenant", ("acme",))
    assert again.rows == [(1,)]


def test_pipelines_of_one_connection_share_what_it_has_prepared(connection: Connection) -> None:
    for _ in range(2):
        with Pipeline(connection) as pipeline:
            answer = pipeline.add("set_tenant", ("acme",))
        gc.collect()
        assert answer.rows == [("acme",)]


def test_an_error_of_the_caller_leaves_the_connection_good(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    with pytest.raises(KeyError, match="planted"), pipeline:  # noqa: PT012
        pipeline.add("set_tenant", ("acme",))
        raise KeyError("planted")
    with pipeline:
        answer = pipeline.add("set_tenant", ("bells",))
    assert answer.rows == [("bells",)]


def test_more_than_any_buffer_holds_goes_both_ways(connection: Connection) -> None:
    long = "x" * 1_000_000
    with Pipeline(connection) as pipeline:
        answers = [pipeline.add("set_tenant", (long + str(number),)) for number in range(40)]
    assert [len(answer.rows[0][0]) for answer in answers] == [1_000_000 + len(str(number)) for number in range(40)]


def test_a_connection_that_ends_meanwhile_is_told_as_what_ended_it(connection: Connection, world: World) -> None:
    pipeline = Pipeline(connection)
    world.admin.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError), pipeline:
        pipeline.add("set_tenant", ("acme",))
    assert connection.closed
    with pytest.raises(psycopg.OperationalError), pipeline:
        pipeline.add("set_tenant", ("acme",))


def test_arrays_and_null_elements_arrive_as_they_are(connection: Connection) -> None:
    with Pipeline(connection) as pipeline:
        found = pipeline.add("recall_outcomes", [text_array(["acme", None]), bigint_array([1, None])])
    assert found.rows == []


@pytest.mark.parametrize("count", [1, FEW, FEW + 1])
def test_few_rows_and_many_are_answered_alike(connection: Connection, world: World, count: int) -> None:
    tenant, names = f"rows-{count}", [f"order-{number}" for number in range(count)]
    with world.working():
        for event_type in ("WORK_ORDER_CREATED", "STEP_STARTED"):
            world.append(*(make(event_type, tenant_id=tenant, work_order_id=name) for name in names))
        world.drain()
    attempts = [(tenant, name, "step-1", 0) for name in names]
    with Pipeline(connection) as pipeline:
        found = pipeline.add_rows("load_attempts", attempts)
        nothing = pipeline.add_rows("load_attempts", [(None, "order", "step", None)] * count)
    assert sorted(row[:4] for row in found.rows) == sorted(attempts)
    assert found.count == count
    assert (nothing.rows, nothing.count) == ([], 0)


def test_what_is_no_parameter_spoils_no_later_call(connection: Connection) -> None:
    pipeline = Pipeline(connection)
    with pytest.raises(AttributeError), pipeline:
        pipeline.add("set_tenant", (1.5,))  # type: ignore[arg-type]
    with pipeline:
        answer = pipeline.add("set_tenant", ("acme",))
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
        pipeline.add("set_tenant", ("acme",))
    assert connection.closed
