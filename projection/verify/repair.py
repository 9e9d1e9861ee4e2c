"""Rebuild: replace the rows that differ from the fold of the ledger, chunk by chunk, while the lanes are locked."""

from collections.abc import Callable, Sequence
from typing import Final

from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.fold.evolve import FOLD_VERSION
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import run
from core_tables.projection.postgres.keys import WorkOrderName
from core_tables.projection.postgres.store import Store, state_rows
from core_tables.projection.verify.facts import LedgerFacts, check_role, ledger_facts, pages
from core_tables.projection.verify.report import Difference, Progress, Report, Scope
from core_tables.projection.verify.tables import Comparison, compare_work_orders
from core_tables.schemas.reasons import UnavailableError

CHUNK_TRIES: Final = 5
_DELETES: Final = ("delete_work_order_leases", "delete_work_order_step_attempts", "delete_work_orders_current")

Notice = Callable[[str], None]  # called with a message that says why a chunk is tried again


def rebuild(
    connection: Connection,
    scope: Scope,
    *,
    cache: PendingCache | None = None,
    progress: Progress = lambda _: None,
    notice: Notice = lambda _: None,
) -> Report:
    """Replace the rows that differ from the fold of the ledger, while workers fold and readers read.

    The connection's role must be the worker's. Each chunk is committed, so an interrupted rebuild can simply be run
    again. The cached lists of every lane in scope are dropped, whether they were right or not: that costs cache misses
    only. Raises SetupError or UnavailableError.
    """
    compared = events = repaired = 0
    differences: list[Difference] = []
    store = Store(connection)
    with translated():
        with connection.transaction():
            check_role(connection, writes=True)
            facts = ledger_facts(connection)
        remaining = pages(connection, scope)
        while True:
            with connection.transaction():
                keys = next(remaining, None)
            if keys is None:
                break
            chunk = _repair(store, facts, keys, notice)
            _forget_lists(cache, {facts.lane_of(tenant_id) for tenant_id, _ in chunk.broken})
            compared, events, repaired = compared + chunk.found, events + chunk.events, repaired + len(chunk.broken)
            differences += chunk.differences
            progress(compared)
        if scope.tenant_id is None:
            with connection.transaction():
                run(connection, "set_fold_version", FOLD_VERSION, FOLD_VERSION)
    lanes = set(facts.applied) if scope.tenant_id is None else {facts.lane_of(scope.tenant_id)}
    incomplete = _forget_lists(cache, lanes)
    return Report(compared, compared - repaired, repaired, events, differences, facts.fold_versions, incomplete)


def _repair(store: Store, facts: LedgerFacts, keys: Sequence[WorkOrderKey], notice: Notice) -> Comparison:
    """Compare and replace one chunk while its lanes are locked; try again after a deadlock or a lock timeout."""
    connection = store.connection
    for left in reversed(range(CHUNK_TRIES)):
        try:
            with translated(), connection.transaction():
                run(connection, "lock_lanes", _lanes(facts, keys))
                chunk = compare_work_orders(connection, keys)
                if chunk.broken:
                    replace_rows(store, chunk)
                    # The workers drop the states that they have in memory.
                    run(connection, "raise_epochs", _lanes(facts, chunk.broken))
                return chunk
        except UnavailableError as error:
            if connection.closed or left == 0:
                raise
            notice(f"{error.message}; trying again, {left} more times at most")
    raise AssertionError("the last try returns or raises")


def replace_rows(store: Store, chunk: Comparison) -> None:
    """Delete the rows of the work orders that differ, and write those that the fold gives."""
    broken = [WorkOrderName(*key) for key in chunk.broken]
    for statement in _DELETES:
        run(store.connection, statement, broken)
    store.write_rows(state_rows((None, chunk.folded[key]) for key in chunk.broken if key in chunk.folded))


def _lanes(facts: LedgerFacts, keys: Sequence[WorkOrderKey]) -> list[int]:
    return sorted({facts.lane_of(tenant_id) for tenant_id, _ in keys})


def _forget_lists(cache: PendingCache | None, lanes: set[int]) -> tuple[str, ...]:
    """Drop the cached lists of lanes; return what could not be dropped."""
    if cache is None:
        return ()
    for lane in sorted(lanes):
        cache.forget(lane)
        if cache.failed is not None:
            return (
                f"the cached lists from lane {lane} on were not dropped: the cache does not answer ({cache.failed})",
            )
    return ()
