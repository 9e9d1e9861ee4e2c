"""Verify: compare the tables, and the cache, with the fold of the ledger table. Nothing is changed."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.fold.evolve import evolve
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch, query
from core_tables.projection.postgres.from_rows import event_of_row, state_of_row
from core_tables.projection.postgres.keys import WorkOrderName
from core_tables.projection.postgres.row_types import AttemptRow, CurrentRow, LeaseRow, LedgerRow, differing_columns
from core_tables.projection.postgres.rows import attempt_rows, current_row, lease_rows
from core_tables.projection.verify.facts import LaneRows, check_role, ledger_facts, pages, table_sizes
from core_tables.projection.verify.lists import CachedLists
from core_tables.projection.verify.report import Difference, Progress, Report, Scope, differing_work_orders

# Given a lane and an offset: how many records the lane's log had below it, or None if that is not known.
RecordsBelow = Callable[[int, int], int | None]
_R = TypeVar("_R", CurrentRow, AttemptRow, LeaseRow)


class Comparison(NamedTuple):
    """Work orders as the fold of their ledger rows gives them, and those of them whose rows differ."""

    folded: dict[WorkOrderKey, WorkOrder]
    broken: list[WorkOrderKey]
    differences: list[Difference]
    events: int

    @property
    def found(self) -> int:
        """How many of the work orders that were asked for exist: in the ledger, or as rows that it does not explain."""
        return len(self.folded.keys() | set(self.broken))


def verify(
    connection: Connection,
    scope: Scope,
    *,
    cache: PendingCache | None = None,
    progress: Progress = lambda _: None,
    records_below: RecordsBelow = lambda lane, offset: None,  # noqa: ARG005
) -> Report:
    """Compare the tables with the fold of the ledger, in one snapshot; without a tenant, the lists of `cache` too.

    The connection's role must see every tenant (operator or worker). Raises SetupError or UnavailableError.
    """
    compared = events = 0
    differences: list[Difference] = []
    with translated(), connection.transaction():
        _read_one_snapshot(connection)
        facts = ledger_facts(connection)
        lists = CachedLists(cache if scope.tenant_id is None else None, facts)
        for keys in pages(connection, scope):
            chunk = compare_work_orders(connection, keys)
            compared, events = compared + chunk.found, events + chunk.events
            differences += chunk.differences
            lists.add(chunk.folded)
            progress(compared)
        if scope.tenant_id is None:
            differences += _missing_outcomes(connection, records_below)
    broken = len(differing_work_orders(differences))
    differences += lists.differences()
    incomplete, ahead = tuple(lists.not_compared), tuple(lists.lanes_ahead)
    return Report(compared, compared - broken, 0, events, differences, facts.fold_versions, incomplete, ahead)


def verify_sample(connection: Connection, size: int, again: Collection[WorkOrderKey] = ()) -> Report:
    """Compare about `size` work orders chosen at random, and those in `again`, in one snapshot.

    They are chosen from current rows and from ledger rows, so that a missing row is noticed as well.
    """
    with translated(), connection.transaction():
        _read_one_snapshot(connection)
        # Postgres samples whole pages: take enough of them, and let the limit take some rows of each.
        shares = [min(100.0, 100.0 * (2 * size + 500) / rows) for rows in table_sizes(connection)]
        chosen = fetch(connection, WorkOrderName, "sample_work_orders", *shares, size)
        keys = sorted({*(row.key for row in chosen), *again})
        chunk = compare_work_orders(connection, keys) if keys else Comparison({}, [], [], 0)
    return Report(chunk.found, chunk.found - len(chunk.broken), 0, chunk.events, chunk.differences)


def _read_one_snapshot(connection: Connection) -> None:
    """Make the transaction, which has just begun, read one snapshot of all tenants."""
    connection.execute("set transaction isolation level repeatable read, read only")
    check_role(connection, writes=False)


def compare_work_orders(connection: Connection, keys: Sequence[WorkOrderKey]) -> Comparison:
    """Fold the ledger rows of work orders, and compare with their current, attempt and lease rows."""
    asked = [WorkOrderName(*key) for key in keys]
    with connection.pipeline():
        ledger = query(connection, LedgerRow, "load_ledger", asked)
        current = query(connection, CurrentRow, "load_current", asked)
        attempts = query(connection, AttemptRow, "load_all_attempts", asked)
        leases = query(connection, LeaseRow, "load_all_leases", asked)
    folded: dict[WorkOrderKey, WorkOrder] = {}
    events = ledger.fetchall()
    for row in events:
        key = (row.tenant_id, row.work_order_id)
        folded[key] = evolve(folded.get(key), event_of_row(row), row.work_order_event_id)
    states = folded.values()
    actual = (current_row(state_of_row(row)) for row in current)
    differences = _row_differences("work_orders_current", map(current_row, states), actual)
    expected_attempts = (row for state in states for row in attempt_rows(state))
    differences += _row_differences("work_order_step_attempts", expected_attempts, attempts)
    expected_leases = (row for state in states for row in lease_rows(state))
    differences += _row_differences("work_order_leases", expected_leases, leases)
    return Comparison(folded, differing_work_orders(differences), differences, len(events))


def _row_differences(table: str, expected: Iterable[_R], actual: Iterable[_R]) -> list[Difference]:
    """The differences in one table; rows with the same key are compared."""
    wanted = {row.key: row for row in expected}
    given = {row.key: row for row in actual}
    found = []
    for key in sorted(wanted.keys() | given.keys()):
        tenant_id, work_order_id, *_ = key
        if key not in given:
            found.append(Difference(tenant_id, work_order_id, table, "row missing"))
        elif key not in wanted:
            found.append(Difference(tenant_id, work_order_id, table, "row that no event explains"))
        elif names := differing_columns(wanted[key], given[key]):
            found.append(Difference(tenant_id, work_order_id, table, f"differs in {', '.join(names)}"))
    return found


def _missing_outcomes(connection: Connection, records_below: RecordsBelow) -> list[Difference]:
    """Compare, lane by lane, the number of ledger and outcome rows with the number of records below `applied`.

    There are fewer records than offsets if the log has gaps, which only the log can tell. So `records_below` is called for
    lanes with fewer rows than offsets.
    """
    found = []
    for lane, applied, rows in fetch(connection, LaneRows, "count_records"):
        records = records_below(lane, applied) if rows < applied else applied
        if rows == records:
            continue
        folded = f"{records} records" if records is not None else f"{applied} offsets (its log may have gaps)"
        found.append(Difference(None, None, "work_order_outcomes", f"lane {lane}: {folded} folded, {rows} rows"))
    return found
