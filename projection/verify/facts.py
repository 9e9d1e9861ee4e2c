"""What verify and rebuild read before they compare: permissions, the topic and its lanes, the work orders of a scope."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch
from core_tables.projection.postgres.keys import WorkOrderName
from core_tables.projection.postgres.lanes import ledger_topics, newest_topic
from core_tables.projection.verify.report import Scope
from core_tables.schemas.identity import partition_of
from core_tables.schemas.reasons import SetupError
from core_tables.schemas.topic import LedgerTopic

PAGE_SIZE: Final = 200  # work orders that are compared, and repaired, together


class LedgerFacts(NamedTuple):
    """The current topic, the `applied` offset of each lane, and the fold versions that wrote the tables."""

    topic: LedgerTopic
    applied: dict[int, int]
    fold_versions: tuple[int, ...]

    def lane_of(self, tenant_id: str) -> int:
        """The lane of a tenant."""
        return self.topic.first_lane + partition_of(tenant_id.encode(), self.topic.partitions)


class TableSizes(NamedTuple):
    """About how many work orders and ledger events there are, at least one of each."""

    work_orders: int
    events: int


class LaneRows(NamedTuple):
    """How far a lane is folded, and how many ledger and outcome rows have ids in it."""

    lane: int
    applied: int
    rows: int


class _Applied(NamedTuple):
    lane: int
    applied: int


class _FoldVersion(NamedTuple):
    fold_version: int


class _Role(NamedTuple):
    sees_all: bool
    may_write: bool
    name: str


class _Count(NamedTuple):
    work_orders: int


def ledger_facts(connection: Connection) -> LedgerFacts:
    """Read these facts. Raises SetupError if no topic is registered."""
    topic = newest_topic(ledger_topics(connection))
    applied = {row.lane: row.applied for row in fetch(connection, _Applied, "count_lanes")}
    versions = fetch(connection, _FoldVersion, "list_fold_versions")
    return LedgerFacts(topic, applied, tuple(row.fold_version for row in versions))


def check_role(connection: Connection, *, writes: bool) -> None:
    """Raise SetupError if the role does not see every tenant, so that nothing would differ, or may not write."""
    (role,) = fetch(connection, _Role, "check_role")
    if not role.sees_all or (writes and not role.may_write):
        needed = "core_tables_worker" if writes else "core_tables_operator"
        raise SetupError(
            f"permission denied: the role {role.name} does not see every tenant; connect as {needed}", "permission"
        )


def pages(connection: Connection, scope: Scope) -> Iterator[list[WorkOrderKey]]:
    """The work orders of a scope in key order, page by page; each page is read when it is asked for."""
    if scope.work_order_id is not None and scope.tenant_id is not None:
        yield [(scope.tenant_id, scope.work_order_id)]
        return
    statement = "list_work_orders" if scope.tenant_id is None else "list_work_orders_of_tenant"
    last: WorkOrderKey = (scope.tenant_id or "", "")
    while True:
        parameters = (*last, PAGE_SIZE) * 4
        keys = [row.key for row in fetch(connection, WorkOrderName, statement, *parameters, PAGE_SIZE)]
        if not keys:
            return
        yield keys
        last = keys[-1]


def estimate(connection: Connection, scope: Scope) -> int:
    """About how many work orders a scope has, for a progress bar; at least one."""
    if scope.work_order_id is not None:
        return 1
    with translated(), connection.transaction():
        if scope.tenant_id is None:
            return table_sizes(connection).work_orders
        (found,) = fetch(connection, _Count, "count_work_orders_of_tenant", scope.tenant_id)
        return found.work_orders


def table_sizes(connection: Connection) -> TableSizes:
    """About how many work orders and ledger events there are."""
    (sizes,) = fetch(connection, TableSizes, "estimate_work_orders")
    return sizes
