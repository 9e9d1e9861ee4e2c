"""Verify and rebuild: the tables against the fold of the ledger table (DESIGN, "Rebuild").

`verify` compares in one snapshot and changes nothing. `rebuild` does the same in chunks under the lanes' locks,
replaces what differs and raises `epoch`, so that a worker drops the states it holds.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from core_tables.projection.cache.pending_cache import PendingCache, list_name
from core_tables.projection.fold.batch import WorkOrderKey
from core_tables.projection.fold.evolve import FOLD_VERSION, evolve
from core_tables.projection.fold.pending import PendingRecord, pending_record
from core_tables.projection.fold.work_order import WorkOrder
from core_tables.projection.postgres.connection import Connection, translated
from core_tables.projection.postgres.rows import (
    ATTEMPT_COLUMNS,
    CURRENT_COLUMNS,
    LEASE_COLUMNS,
    attempt_rows,
    current_row,
    event_of_row,
    lease_rows,
    state_of_row,
)
from core_tables.projection.postgres.statements import sql
from core_tables.projection.postgres.store import Store, state_rows
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic

CHUNK: Final = 200
CHUNK_TRIES: Final = 5
LEDGER_TABLES: Final = frozenset({"work_order_ledger", "work_order_outcomes"})
_DELETES: Final = ("delete_work_order_leases", "delete_work_order_step_attempts", "delete_work_orders_current")


class Scope(NamedTuple):
    """What is compared: everything, a tenant, or one work order."""

    tenant_id: str | None = None
    work_order_id: str | None = None


class Difference(NamedTuple):
    """A place where the tables do not say what the ledger says."""

    tenant_id: str | None
    work_order_id: str | None
    table: str
    what: str


class Report(NamedTuple):
    """Counts of work orders compared, equal and repaired; the events folded; each difference; who wrote the tables.

    `fold_versions` are those the lanes carried before; where one is not FOLD_VERSION, the differences are what
    `rebuild` would change.
    """

    compared: int
    equal: int
    repaired: int
    events: int
    differences: list[Difference]
    fold_versions: tuple[int, ...] = ()


Progress = Callable[[int], None]  # the number of work orders compared so far
RecordsBelow = Callable[
    [int, int], int | None
]  # of a lane, how many records its log has below an offset; None: unknown


def verify(
    connection: Connection,
    scope: Scope,
    *,
    cache: PendingCache | None = None,
    progress: Progress = lambda _: None,
    records_below: RecordsBelow = lambda lane, offset: None,  # noqa: ARG005
) -> Report:
    """Compare the tables, and the cache if given, with the fold of the ledger, in one snapshot.

    The connection's role must see every tenant (operator or worker).
    """
    compared = events = 0
    differences: list[Difference] = []
    expected_lists = _CachedLists(cache)
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        _check_role(connection, writes=False)
        topic, versions = _topic(connection), _fold_versions(connection)
        expected_lists.open(topic, _applied(connection))
        for keys in _pages(connection, scope):
            chunk = _compare(connection, keys)
            compared, events = compared + len(keys), events + chunk.events
            differences += chunk.differences
            expected_lists.add(chunk.folded)
            progress(compared)
        if scope.tenant_id is None:
            differences += _missing_outcomes(connection, records_below)
    broken = len({difference[:2] for difference in differences if difference.work_order_id is not None})
    if scope.tenant_id is None:
        differences += expected_lists.differences()
    return Report(compared, compared - broken, 0, events, differences, versions)


def rebuild(
    connection: Connection,
    scope: Scope,
    *,
    cache: PendingCache | None = None,
    progress: Progress = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> Report:
    """Replace the rows that differ from the fold of the ledger, chunk by chunk, while workers fold and readers read.

    The connection's role must be the worker's. What is done stays done when it is interrupted; run it again to go on.
    The cached lists of the lanes looked at are forgotten, whether they were right or not: that costs misses only.
    `notice` is told why a chunk is tried again.
    """
    compared = events = repaired = 0
    differences: list[Difference] = []
    store = Store(connection)
    with translated():
        with connection.transaction():
            _check_role(connection, writes=True)
            topic, versions = _topic(connection), _fold_versions(connection)
            lanes = set(_applied(connection)) if scope.tenant_id is None else {_lane(topic, (scope.tenant_id, ""))}
        pages = _pages(connection, scope)
        while True:
            with connection.transaction():
                keys = next(pages, None)
            if keys is None:
                break
            chunk = _repair(store, topic, keys, notice)
            if chunk.broken and cache is not None:
                for lane in sorted({_lane(topic, key) for key in chunk.broken}):
                    cache.forget(lane)
            compared, events, repaired = compared + len(keys), events + chunk.events, repaired + len(chunk.broken)
            differences += chunk.differences
            progress(compared)
        if scope.tenant_id is None:
            with connection.transaction():
                connection.execute(sql("set_fold_version"), (FOLD_VERSION, FOLD_VERSION))
    if cache is not None:
        for lane in sorted(lanes):
            cache.forget(lane)
    return Report(compared, compared - repaired, repaired, events, differences, versions)


def _repair(store: Store, topic: LedgerTopic, keys: Sequence[WorkOrderKey], notice: Callable[[str], None]) -> "_Chunk":
    """Compare and replace one chunk under its lanes' locks; a deadlock or a lock that takes too long is tried again."""
    connection = store.connection
    for left in reversed(range(CHUNK_TRIES)):
        try:
            with translated(), connection.transaction():
                connection.execute(sql("lock_lanes"), (sorted({_lane(topic, key) for key in keys}),))
                chunk = _compare(connection, keys)
                if chunk.broken:
                    _replace(store, chunk)
                    connection.execute(sql("raise_epochs"), (sorted({_lane(topic, key) for key in chunk.broken}),))
                return chunk
        except UnavailableError as error:
            if connection.closed or left == 0:
                raise
            notice(f"{error.sentence}; trying again, {left} more times at most")
    raise AssertionError("the last try returns or raises")


def estimate(connection: Connection, scope: Scope) -> int:
    """About how many work orders a scope has, for whoever shows how far a comparison is; at least one."""
    if scope.work_order_id is not None:
        return 1
    with translated(), connection.transaction():
        if scope.tenant_id is None:
            rows: Any = connection.execute(sql("estimate_work_orders")).fetchall()
        else:
            rows = connection.execute(sql("count_work_orders_of_tenant"), (scope.tenant_id,)).fetchall()
    return int(rows[0][0])


def verify_sample(connection: Connection, size: int, again: Collection[WorkOrderKey] = ()) -> Report:
    """Compare `size` work orders, chosen by chance, in one snapshot: a round of the drift auditor.

    They are chosen from current and from ledger, so that a missing row is seen, too; `again` are compared in any case.
    """
    with translated(), connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        _check_role(connection, writes=False)
        estimates: Any = connection.execute(sql("estimate_work_orders")).fetchone()
        # Whole pages are chosen: enough that a few of them are, of which the limit takes some rows each.
        shares = [min(100.0, 100.0 * (2 * size + 500) / rows) for rows in estimates]
        chosen: Any = connection.execute(sql("sample_work_orders"), (*shares, size), binary=True).fetchall()
        keys = sorted({*chosen, *again})
        chunk = _compare(connection, keys) if keys else _Chunk({}, [], [], 0)
    return Report(len(keys), len(keys) - len(chunk.broken), 0, chunk.events, chunk.differences)


class _Chunk(NamedTuple):
    folded: dict[WorkOrderKey, WorkOrder]
    broken: list[WorkOrderKey]
    differences: list[Difference]
    events: int


def _pages(connection: Connection, scope: Scope) -> Iterator[list[WorkOrderKey]]:
    """The work orders of a scope, page by page in key order; each page is read when it is asked for."""
    if scope.work_order_id is not None and scope.tenant_id is not None:
        yield [(scope.tenant_id, scope.work_order_id)]
        return
    statement = "list_work_orders" if scope.tenant_id is None else "list_work_orders_of_tenant"
    last: WorkOrderKey = (scope.tenant_id or "", "")
    while True:
        parameters = (*last, CHUNK) * 4
        page: Any = connection.execute(sql(statement), (*parameters, CHUNK), binary=True).fetchall()
        if not page:
            return
        yield page
        last = page[-1]


def _compare(connection: Connection, keys: Sequence[WorkOrderKey]) -> _Chunk:
    """Fold the ledger rows of work orders and compare with their current, attempt and lease rows."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    names = ("load_ledger", "load_current", "load_all_attempts", "load_all_leases")
    with connection.pipeline():
        cursors: list[Any] = [connection.execute(sql(name), columns, binary=True) for name in names]
        ledger, current, attempts, leases = (cursor.fetchall() for cursor in cursors)
    folded: dict[WorkOrderKey, WorkOrder] = {}
    for row in ledger:
        event_id, event = event_of_row(row)
        key = (event.tenant_id, event.work_order_id)
        folded[key] = evolve(folded.get(key), event, event_id)
    actual = {(row[0], row[1]): current_row(state_of_row(row)) for row in current}
    expected = {key: current_row(state) for key, state in folded.items()}
    differences = _row_differences("work_orders_current", CURRENT_COLUMNS, expected, actual)
    wanted = {row[:4]: row for state in folded.values() for row in attempt_rows(state)}
    found = {row[:4]: row for row in attempts}
    differences += _row_differences("work_order_step_attempts", ATTEMPT_COLUMNS, wanted, found)
    wanted = {row[:3]: row for state in folded.values() for row in lease_rows(state)}
    differences += _row_differences("work_order_leases", LEASE_COLUMNS, wanted, {row[:3]: row for row in leases})
    broken = sorted({(d.tenant_id or "", d.work_order_id or "") for d in differences})
    return _Chunk(folded, broken, differences, len(ledger))


def _row_differences(
    table: str, columns: Sequence[str], expected: dict[Any, Any], actual: dict[Any, Any]
) -> list[Difference]:
    found = []
    for key in sorted(expected.keys() | actual.keys()):
        if key not in actual:
            found.append(Difference(key[0], key[1], table, "row missing"))
        elif key not in expected:
            found.append(Difference(key[0], key[1], table, "row that no event explains"))
        elif expected[key] != actual[key]:
            pairs = zip(columns, expected[key], actual[key], strict=True)
            names = ", ".join(name for name, wanted, held in pairs if wanted != held)
            found.append(Difference(key[0], key[1], table, f"differs in {names}"))
    return found


def _replace(store: Store, chunk: _Chunk) -> None:
    columns = [list(column) for column in zip(*chunk.broken, strict=True)]
    for statement in _DELETES:
        store.connection.execute(sql(statement), columns)
    store.write_rows(state_rows((None, chunk.folded[key]) for key in chunk.broken if key in chunk.folded))


def _missing_outcomes(connection: Connection, records_below: RecordsBelow) -> list[Difference]:
    """Ledger and outcomes together hold one row per record below `applied`: as many as offsets, less the log's gaps.

    Only the log knows its gaps; it is asked where there are fewer rows than offsets.
    """
    rows: Any = connection.execute(sql("count_records")).fetchall()
    found = []
    for lane, applied, held in rows:
        records = records_below(lane, applied) if held < applied else applied
        if held == records:
            continue
        told = f"{records} records" if records is not None else f"{applied} offsets (its log may have gaps)"
        found.append(Difference(None, None, "work_order_outcomes", f"lane {lane}: {told} folded, {held} rows"))
    return found


def _check_role(connection: Connection, *, writes: bool) -> None:
    rows: Any = connection.execute(sql("check_role")).fetchall()
    sees_all, may_write, role = rows[0]
    if not sees_all or (writes and not may_write):
        needed = "core_tables_worker" if writes else "core_tables_operator"
        raise SetupError(
            f"permission denied: the role {role} does not see every tenant; work as {needed}", "permission"
        )


def _topic(connection: Connection) -> LedgerTopic:
    rows: Any = connection.execute(sql("load_topics")).fetchall()
    if not rows:
        raise SetupError("the database knows no ledger topic; run `core-tables init`", "database")
    return LedgerTopic(*rows[-1])


def _fold_versions(connection: Connection) -> tuple[int, ...]:
    rows: Any = connection.execute(sql("list_fold_versions")).fetchall()
    return tuple(row[0] for row in rows)


def _applied(connection: Connection) -> dict[int, int]:
    rows: Any = connection.execute(sql("count_lanes")).fetchall()
    return dict(rows)


def _lane(topic: LedgerTopic, key: WorkOrderKey) -> int:
    return topic.first_lane + partition_of(key[0].encode(), topic.partitions)


class _CachedLists:
    """The lists that Redis holds at the snapshot's positions, against the fold."""

    def __init__(self, cache: PendingCache | None) -> None:
        self._cache = cache
        self._held: dict[tuple[int, str], list[PendingRecord]] = {}
        self._expected: dict[tuple[int, str], list[PendingRecord]] = {}
        self._topic: LedgerTopic | None = None

    def open(self, topic: LedgerTopic, applied: dict[int, int]) -> None:
        """Read the lists of each lane that the cache has at the snapshot's position."""
        self._topic = topic
        if self._cache is None:
            return
        for lane, position in applied.items():
            label = self._cache.label(lane)
            if label is None or label.rpartition(":")[2] != str(position):
                continue
            for name in self._cache.list_names(lane, label):
                held = self._cache.read_list(lane, name)
                if held.label == label and held.records is not None:
                    self._held[lane, name] = held.records
                    self._expected[lane, name] = []

    def add(self, folded: dict[WorkOrderKey, WorkOrder]) -> None:
        """Note what the fold says belongs into the lists held."""
        if not self._held or self._topic is None:
            return
        for key, state in folded.items():
            record = pending_record(state)
            if record is not None:
                name = list_name(key[0], state.origin.requester_user_id or "")
                expected = self._expected.get((_lane(self._topic, key), name))
                if expected is not None:
                    expected.append(record._replace(missing_fields=list(record.missing_fields)))

    def differences(self) -> list[Difference]:
        """The lists that hold something else than the fold."""
        return [
            Difference(None, None, "cache", f"lane {lane}: the list {name} differs from the ledger")
            for (lane, name), held in self._held.items()
            if sorted(held) != sorted(self._expected[lane, name])
        ]
