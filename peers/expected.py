"""What the two tables must hold when a peer has drained a load, by the worker's own fold."""

from typing import NamedTuple

from bench import folded, place
from core_tables.projection.fold.values import WorkOrderKey
from core_tables.schemas.identity import lane_of
from core_tables.schemas.outcomes import Accepted, Refused
from core_tables.settings.environment import Settings


class Last(NamedTuple):
    """The last accepted event of a partition: once its rows exist, so do those of all events before it."""

    tenant_id: str
    event_id: int
    work_order_id: str


class Expected(NamedTuple):
    """What the two tables must hold once everything in a ledger topic is in them."""

    records: int
    ledger_rows: int
    current: dict[WorkOrderKey, tuple[str, int]]  # work_order_status, last_event_id
    last: dict[int, Last]


_expected: dict[tuple[str, str, int], Expected] = {}


def expected(settings: Settings) -> Expected:
    """What the tables must hold, folded once for each topic. Raises ValueError for a load with refusals, which no peer makes."""
    key = (settings.kafka_servers(), settings.topic, sum(place.ends(settings, settings.topic).values()))
    if key not in _expected:
        _expected[key] = _fold_all(settings)
    return _expected[key]


def _fold_all(settings: Settings) -> Expected:
    count = accepted = 0
    current: dict[WorkOrderKey, tuple[str, int]] = {}
    last: dict[int, Last] = {}
    for step in folded.batches(settings):
        for decided in step.decided:
            count += 1
            if isinstance(decided.outcome, Refused) or decided.event is None:
                raise ValueError(f"record {decided.event_id} is refused; give the peers a load without refusals")
            if isinstance(decided.outcome, Accepted):
                accepted += 1
                last[lane_of(decided.event_id)] = Last(decided.tenant_id, decided.event_id, decided.event.work_order_id)
        for key, (_, after) in step.changed.items():
            current[key] = (after.last.work_order_status, after.last.last_event_id)
    return Expected(count, accepted, current, last)
