"""The load as the worker's own pure fold sees it: what a run must end with, and the rows that the ceilings write."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from bench import place
from core_tables.cli import wiring
from core_tables.cli.settings import Settings
from core_tables.projection.fold.batch import Folded, Loaded, Record, WorkOrderKey, fold_batch, read_content
from core_tables.projection.fold.work_order import settled
from core_tables.schemas.identity import event_id_at, lane_of
from core_tables.schemas.outcomes import Accepted, Refused
from core_tables.schemas.vocabulary import NS_PER_MS

BATCH = 2000


class Last(NamedTuple):
    """The last accepted event of a partition: when its rows are there, so are those of all before it."""

    tenant_id: str
    event_id: int
    work_order_id: str


class Expected(NamedTuple):
    """What the two tables must hold when all of a ledger topic is in them."""

    records: int
    ledger_rows: int
    current: dict[WorkOrderKey, tuple[str, int]]  # work_order_status, last_event_id
    last: dict[int, Last]


_expected: dict[tuple[str, str, int], Expected] = {}


def records(settings: Settings) -> Iterator[Record]:
    """Every record of the ledger topic as it is now, each partition in order."""
    with closing(wiring.reader_of_topics(settings)) as consumer:
        held = {partition: 0 for partition, end in place.ends(settings, settings.topic).items() if end}
        for message in wiring.records_to_end(consumer, settings.topic, held):
            partition, offset = message.partition() or 0, message.offset() or 0
            position = event_id_at(partition, offset)
            content = read_content(position, message.key(), message.value(), partition, settings.partitions)
            yield Record(position, content, max(0, message.timestamp()[1]) * NS_PER_MS, None)


def batches(settings: Settings, size: int = BATCH) -> Iterator[Folded]:
    """The load folded in batches; everything it knows stays in memory."""
    loaded = Loaded({}, {}, {})
    reading = records(settings)
    while batch := list(islice(reading, size)):
        folded = fold_batch(batch, loaded)
        yield folded
        loaded.states.update({key: settled(after) for key, (_, after) in folded.changed.items()})


def expected(settings: Settings) -> Expected:
    """What the tables must hold, folded once for each topic. Raises ValueError for a load with refusals: no peer can refuse."""
    key = (settings.kafka_servers(), settings.topic, sum(place.ends(settings, settings.topic).values()))
    if key not in _expected:
        _expected[key] = _fold_all(settings)
    return _expected[key]


def _fold_all(settings: Settings) -> Expected:
    count = accepted = 0
    current: dict[WorkOrderKey, tuple[str, int]] = {}
    last: dict[int, Last] = {}
    for folded in batches(settings):
        for decided in folded.decided:
            count += 1
            if isinstance(decided.outcome, Refused) or decided.event is None:
                raise ValueError(f"record {decided.event_id} is refused; give the peers a load without refusals")
            if isinstance(decided.outcome, Accepted):
                accepted += 1
                last[lane_of(decided.event_id)] = Last(decided.tenant_id, decided.event_id, decided.event.work_order_id)
        current.update(
            {
                key: (after.last.work_order_status, after.last.last_event_id)
                for key, (_, after) in folded.changed.items()
            }
        )
    return Expected(count, accepted, current, last)
