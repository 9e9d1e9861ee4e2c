"""What verify and rebuild read before they compare: permissions, the topic and its lanes, the work orders of a scope."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from core_tables.projection.fold.values import WorkOrderKey
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.statements import sql
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


def ledger_facts(connection: Connection) -> LedgerFacts:
    """Read these facts. Raises SetupError if no topic is registered."""
    topics: Any = connection.execute(sql("load_topics")).fetchall()
    if not topics:
        raise SetupError("the database knows no ledger topic; run `core-tables init`", "database")
    versions: Any = connection.execute(sql("list_fold_versions")).fetchall()
    applied: Any = connection.execute(sql("count_lanes")).fetchall()
    return LedgerFacts(LedgerTopic(*topics[-1]), dict(applied), tuple(version for (version,) in versions))


def check_role(connection: Connection, *, writes: bool) -> None:
    """Raise SetupError if the role does not see every tenant, so that nothing would differ, or may not write."""
    rows: Any = connection.execute(sql("check_role")).fetchall()
    sees_all, may_write, role = rows[0]
    if not sees_all or (writes and not may_write):
        needed = "core_tables_worker" if writes else "core_tables_operator"
        raise SetupError(
            f"permission denied: the role {role} does not see every tenant; connect as {needed}", "permission"
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
        keys: Any = connection.execute(sql(statement), (*parameters, PAGE_SIZE), binary=True).fetchall()
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
            rows: Any = connection.execute(sql("estimate_work_orders")).fetchall()
        else:
            rows = connection.execute(sql("count_work_orders_of_tenant"), (scope.tenant_id,)).fetchall()
    count, *_ = rows[0]
    return int(count)
