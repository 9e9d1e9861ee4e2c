"""The columns of the tables: the classes of row_types.py, the tables, and what the fold knows say the same."""

import types
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import orjson
import pytest
from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import asdict, replace

from core_tables.projection.fold.values import Decided
from core_tables.projection.fold.work_order import Lease, WorkOrder
from core_tables.projection.postgres.from_rows import (
    attempt_of_row,
    event_of_row,
    lease_of_row,
    outcome_of_row,
    state_of_row,
)
from core_tables.projection.postgres.generate import columns_of, with_lists
from core_tables.projection.postgres.read_types import (
    CurrentRecord,
    GrantedLease,
    StepAttempt,
    record_json,
    record_of_state,
)
from core_tables.projection.postgres.row_types import (
    KEY,
    AttemptRow,
    CurrentRow,
    LeaseRow,
    LedgerRow,
    OutcomeRow,
    Row,
)
from core_tables.projection.postgres.rows import attempt_rows, current_row, lease_rows, ledger_row, outcome_row
from core_tables.schemas.events import LedgerEvent, StatusChanged
from core_tables.schemas.outcomes import Refused, Replayed

from .world import World

TABLES: Final[dict[str, type[Row]]] = {
    "work_order_ledger": LedgerRow,
    "work_order_outcomes": OutcomeRow,
    "work_orders_current": CurrentRow,
    "work_order_step_attempts": AttemptRow,
    "work_order_leases": LeaseRow,
}
COLUMNS: Final = """
    select column_name, data_type, is_nullable = 'YES' from information_schema.columns
    where table_schema = 'os_core' and table_name = %s and is_generated = 'NEVER' order by ordinal_position
"""
PRIMARY_KEY: Final = """
    select attribute.attname from pg_index as index
    join pg_attribute as attribute on attribute.attrelid = index.indrelid and attribute.attnum = any(index.indkey)
    where index.indrelid = %s::regclass and index.indisprimary order by attribute.attnum
"""


def filled(hint: Any, numbers: "count[int]") -> Any:
    """A value of a type in which every field has a value of its own, none of them null."""
    of = get_origin(hint)
    if of is Annotated:
        return filled(get_args(hint)[0], numbers)
    if of in (Union, types.UnionType):
        return filled(next(each for each in get_args(hint) if each is not type(None)), numbers)
    if of is Literal:
        return get_args(hint)[-1]
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint(**{name: filled(each, numbers) for name, each in get_type_hints(hint, include_extras=True).items()})
    if of in (dict, Mapping):
        key, value = get_args(hint)
        return {filled(key, numbers): filled(value, numbers)}
    if of is tuple and get_args(hint)[-1] is not Ellipsis:
        return tuple(filled(each, numbers) for each in get_args(hint))
    if of in (tuple, list, Sequence):
        return (filled(get_args(hint)[0], numbers),)
    if is_typeddict(hint):
        return {name: filled(each, numbers) for name, each in get_type_hints(hint).items()}
    number = next(numbers)
    values: dict[Any, Any] = {int: number, str: f"text {number}", bytes: b"%d" % number, bool: True}
    return values[hint]


def work_order() -> WorkOrder:
    """A work order in which nothing is null or empty."""
    made: WorkOrder = filled(WorkOrder, count(1))
    return replace(made, lease=replace(made.lease or filled(Lease, count(1)), lease_state="ACTIVE"))


def read_again(row: Row) -> Any:
    """A row as it comes back from its table."""
    return type(row)(**orjson.loads(encode(row)))


def empty_columns(*rows: Row) -> list[str]:
    """The columns that none of the rows has a value in."""
    return [name for name in rows[0].__struct_fields__ if all(getattr(row, name) is None for row in rows)]


def test_every_column_of_the_current_record_is_written_and_read() -> None:
    state = work_order()
    row = current_row(state)
    assert empty_columns(row) == []
    assert state_of_row(read_again(row)) == replace(state, attempts={}, lease=None, closed_leases=())


def test_every_column_of_attempts_and_leases_is_written_and_read() -> None:
    state = replace(work_order(), closed_at=None)  # of a closed one nothing is due
    state = replace(state, attempts={key: replace(row, status="SCHEDULED") for key, row in state.attempts.items()})
    attempts, leases = attempt_rows(state), lease_rows(state)
    assert empty_columns(*attempts) == []
    assert empty_columns(*leases) == []
    assert dict(attempt_of_row(read_again(row)) for row in attempts) == state.attempts
    assert [lease_of_row(read_again(row)) for row in leases] == [*state.closed_leases, state.lease]


def test_every_column_of_the_ledger_is_written_and_read() -> None:
    hints = get_type_hints(LedgerEvent)
    fields = {name: filled(hint, count(1)) for name, hint in hints.items() if name not in ("payload", "event_type")}
    event = LedgerEvent(**fields, event_type="STATUS_CHANGED", payload=StatusChanged("CONFIRMED"))
    row = ledger_row(17, event, "DRAFT")
    assert empty_columns(row) == []
    assert row.work_order_event_id == 17
    assert event_of_row(read_again(row)) == event


def test_every_column_of_the_outcomes_is_written_by_a_replay_or_a_refusal() -> None:
    decided: Decided = filled(Decided, count(1))
    outcomes = [filled(Replayed, count(1)), filled(Refused, count(1))]
    rows = [outcome_row(replace(decided, outcome=outcome)) for outcome in outcomes]
    assert empty_columns(*rows) == []
    assert [outcome_of_row(read_again(row)) for row in rows] == outcomes


def test_what_reads_return_has_the_columns_of_the_tables_under_the_same_names() -> None:
    """All but `due_at`, which says of a row when it is due, and is not in the contract."""
    for record, row in ((CurrentRecord, CurrentRow), (StepAttempt, AttemptRow), (GrantedLease, LeaseRow)):
        assert record.__struct_fields__ == tuple(name for name in row.__struct_fields__ if name != "due_at")


def test_the_record_of_a_state_says_what_its_row_says() -> None:
    state = work_order()
    assert orjson.loads(encode(record_json(record_of_state(state)))) == orjson.loads(encode(asdict(current_row(state))))


@pytest.mark.stack
@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_columns_of_its_class(world: World, table: str) -> None:
    found = world.admin.execute(COLUMNS, (table,)).fetchall()
    columns = columns_of(TABLES[table])
    assert [(column.name, column.kind, column.nullable) for column in columns] == found


@pytest.mark.stack
@pytest.mark.parametrize("table", TABLES)
def test_the_columns_that_no_update_sets_are_those_of_the_primary_key(world: World, table: str) -> None:
    found = world.admin.execute(PRIMARY_KEY, (f"os_core.{table}",)).fetchall()
    assert [(column.name,) for column in columns_of(TABLES[table]) if column.role == KEY] == found


def test_a_list_is_written_between_its_marks_and_nothing_else_is() -> None:
    text = "select\n    /* select LeaseRow */\n    row.of_old,\n    /* end */\nfrom t as x (/* record Position */ /* end */)"
    written = with_lists(text)
    assert written.startswith("select\n    /* select LeaseRow */\n    row.tenant_id, row.work_order_id,")
    assert written.endswith(
        "\n    /* end */\nfrom t as x (/* record Position */ lane bigint, reached bigint /* end */)"
    )
    assert with_lists(written) == written
