"""The load as the worker's own pure fold sees it: what ceilings write, and what peers are checked against."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from bench import place
from core_tables.cli import wiring
from core_tables.projection.fold.batch import fold_batch, read_content
from core_tables.projection.fold.values import Folded, Loaded, Record
from core_tables.projection.fold.work_order import settled
from core_tables.schemas.identity import event_id_at
from core_tables.schemas.vocabulary import NS_PER_MS
from core_tables.schemas.wire import KNOWN_SCHEMAS
from core_tables.settings.environment import Settings

BATCH = 2000


def records(settings: Settings) -> Iterator[Record]:
    """Every record in the ledger topic at this moment, each partition in order."""
    with closing(wiring.topic_reader(settings, settings.topic)) as reader:
        held = {partition: 0 for partition, end in place.ends(settings, settings.topic).items() if end}
        for message in reader.records(held):
            partition, offset = message.partition() or 0, message.offset() or 0
            event_id = event_id_at(partition, offset)
            content = read_content(
                event_id, message.key(), message.value(), partition, settings.partitions, KNOWN_SCHEMAS
            )
            yield Record(event_id, content, max(0, message.timestamp()[1]) * NS_PER_MS, None)


def batches(settings: Settings, size: int = BATCH) -> Iterator[Folded]:
    """The load, folded in batches; all states stay in memory."""
    loaded = Loaded({}, {}, {})
    reading = records(settings)
    while batch := list(islice(reading, size)):
        folded = fold_batch(batch, loaded)
        yield folded
        loaded.states.update({key: settled(after) for key, (_, after) in folded.changed.items()})
