"""Verify against the topic: what the tables say of each record, against the fold of the records themselves.

The ledger table is written from the topic; this finds a ledger or outcome row that was changed, added or lost since.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from core_tables.projection.database import Connection
from core_tables.projection.decide import First, Request
from core_tables.projection.fold import Decided, Loaded, Record, WorkOrderKey, fold_batch
from core_tables.projection.rows import Row, ledger_row, outcome_row
from core_tables.projection.statements import sql
from core_tables.projection.verify import Difference
from core_tables.projection.work_order import WorkOrder
from core_tables.schemas.json_form import canonical_json
from core_tables.schemas.outcomes import Accepted

CHUNK: Final = 1000


def verify_lane(connection: Connection, records: Iterable[Record]) -> Iterator[tuple[int, list[Difference]]]:
    """Fold a lane's records from its first on; yield, chunk by chunk, how many were compared and what differs.

    The connection is in the snapshot that `records` ends at. Keeps the states and idempotency keys of the lane in memory.
    """
    states: dict[WorkOrderKey, WorkOrder | None] = {}
    firsts: dict[tuple[str, str, str], First] = {}
    owners: dict[tuple[str, int], str] = {}
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield len(chunk), _compare(connection, _fold(chunk, Loaded(states, firsts, owners)))
            chunk = []
    if chunk:
        yield len(chunk), _compare(connection, _fold(chunk, Loaded(states, firsts, owners)))


def _fold(chunk: Sequence[Record], loaded: Loaded) -> list[Decided]:
    for record in chunk:
        if isinstance(record.content, Request):
            event = record.content.event
            loaded.states.setdefault((event.tenant_id, event.work_order_id), None)
    return fold_batch(chunk, loaded).decided


def _compare(connection: Connection, decided: Sequence[Decided]) -> list[Difference]:
    asked = ([item.tenant_id for item in decided], [item.position_id for item in decided])
    with connection.pipeline():
        ledger: Any = connection.execute(sql("load_ledger_records"), asked, binary=True)
        outcomes: Any = connection.execute(sql("load_outcome_records"), asked, binary=True)
    held = {row[1]: (*row[:17], canonical_json(row[17]).decode()) for row in ledger.fetchall()}
    others = {row[1]: tuple(row) for row in outcomes.fetchall()}
    found = []
    for item in decided:
        if isinstance(item.outcome, Accepted) and item.event is not None:
            found += _differences(item, "work_order_ledger", ledger_row(item.position_id, item.event), held)
            found += _differences(item, "work_order_outcomes", None, others)
        else:
            found += _differences(item, "work_order_outcomes", outcome_row(item), others)
            found += _differences(item, "work_order_ledger", None, held)
    return found


def _differences(item: Decided, table: str, wanted: Row | None, held: dict[int, Row]) -> list[Difference]:
    actual = held.get(item.position_id)
    if actual == wanted:
        return []
    what = (
        "row missing"
        if actual is None
        else "row that no record explains"
        if wanted is None
        else "differs from the record"
    )
    work_order_id = None if item.event is None else item.event.work_order_id
    return [Difference(item.tenant_id, work_order_id, table, f"record {item.position_id}: {what}")]
