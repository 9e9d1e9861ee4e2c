"""How far each lane is, who has it, and what holds it up: what `status` prints and the console shows."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from confluent_kafka.admin import AdminClient

from core_tables.kafka.errors import UnreadableRecordError
from core_tables.kafka.group import Group, describe_group
from core_tables.kafka.log import LogEnd, TopicReader, ends_without_lane, log_ends
from core_tables.projection.postgres.lanes import KnownStop, LanePosition
from core_tables.schemas.reasons import UnavailableError
from core_tables.schemas.topic import LedgerTopic


class LaneStatus(NamedTuple):
    """One lane. Offsets are "next to do"; `lag_seconds` is how long its oldest waiting record has waited."""

    lane: int
    log_end: int
    stable_end: int
    applied: int
    audited: int
    lag: int
    lag_seconds: float
    owner: str | None


class LedgerStatus(NamedTuple):
    """All lanes of a topic, the stops they have not got past, and the ends of partitions that have no lane."""

    topic: LedgerTopic
    group_id: str
    lanes: list[LaneStatus]
    stops: Mapping[int, KnownStop]
    strays: Mapping[int, int]
    group: Group | None
    fold_versions: Mapping[int, list[int]]  # by version, the lanes that it wrote
    unanswered: tuple[str, ...] = ()  # of which databases the lanes are not known, and why


class KnownLanes(NamedTuple):
    """What a database knows of its lanes."""

    positions: Mapping[int, LanePosition]
    stops: Sequence[KnownStop]


def ledger_status(
    topic: LedgerTopic,
    known: Sequence[KnownLanes],
    unanswered: Sequence[str],
    admin: AdminClient,
    group_id: str,
    open_reader: Callable[[], TopicReader],
) -> LedgerStatus:
    """Ask the broker about what databases know. `open_reader` gives a reader of the ledger topic.

    Raises UnavailableError or SetupError.
    """
    positions = {lane: position for database in known for lane, position in database.positions.items()}
    ends = log_ends(admin, topic.topic, range(topic.partitions))
    strays = ends_without_lane(admin, topic.topic, topic.partitions)
    try:
        group = describe_group(admin, group_id, topic.topic)
    except UnavailableError:  # the ends of the logs are known, so only the group has no coordinator now
        group = None
    with closing(open_reader()) as reader:
        lanes = [
            _lane_status(position, ends[lane - topic.first_lane], reader, lane - topic.first_lane, group)
            for lane, position in sorted(positions.items())
        ]
    stops = {stop.lane: stop for database in known for stop in database.stops if stop.lane in positions}
    versions: dict[int, list[int]] = {}
    for lane, position in sorted(positions.items()):
        versions.setdefault(position.fold_version, []).append(lane)
    return LedgerStatus(topic, group_id, lanes, stops, strays, group, versions, tuple(unanswered))


def _lane_status(
    position: LanePosition, end: LogEnd, reader: TopicReader, partition: int, group: Group | None
) -> LaneStatus:
    lag, waits = max(0, end.high - position.applied), 0.0
    if position.applied < end.stable == end.high:
        try:
            first = reader.first(partition, position.applied)
        except UnreadableRecordError:  # the lane stops there, and says so
            pass
        else:
            if first is None:
                lag = 0  # the log ends in a gap: nothing of it is left to be folded
            else:
                _, written_at = first.timestamp()
                waits = max(0.0, time.time() - written_at / 1000)
    return LaneStatus(
        lane=position.lane,
        log_end=end.high,
        stable_end=end.stable,
        applied=position.applied,
        audited=position.audited,
        lag=lag,
        lag_seconds=round(waits, 1),
        owner=None if group is None else group.owners.get(partition),
    )


def without_lane(end: int) -> str:
    """What to say of the records in a partition that the topic was given after its lanes were made."""
    return (
        f"up to {end} records, which belong to no lane and are not in the ledger; append them again with our producer"
    )


def remarks(status: LedgerStatus) -> list[str]:
    """What an operator should know about a ledger as a whole, in sentences; stops are not among them."""
    lacking = [f"not all lanes are shown: {why}" for why in status.unanswered]
    return [*lacking, *_about_the_group(status), *_summary(status)]


def _about_the_group(status: LedgerStatus) -> Iterator[str]:
    """Which lanes nobody has, and who is in the group without being a worker."""
    group = status.group
    if group is None:
        yield f"the broker does not say who has which lane; this user may lack DESCRIBE on the group {status.group_id}"
        return
    for stranger in group.strangers:
        yield f"{stranger} is in the consumer group {status.group_id} and is no worker: give that program a group of its own"
    unowned = [str(lane.lane) for lane in status.lanes if lane.owner is None]
    if not group.owners:
        yield "no worker runs"
    elif unowned and group.settled:
        yield f"lanes {', '.join(unowned)} belong to no worker; see the log lines `assigned` and `lane_stopped`"


def _summary(status: LedgerStatus) -> Iterator[str]:
    """What the lanes, and the ends of partitions without one, come to."""
    for partition, end in status.strays.items():
        yield f"partition {partition}: {without_lane(end)}"
    held = [str(lane.lane) for lane in status.lanes if lane.stable_end < lane.log_end]
    lag = sum(lane.lag for lane in status.lanes)
    if held:
        yield (
            f"lanes {', '.join(held)}: a program has a transaction open on the ledger topic, and what was appended after its "
            "start is folded when it ends; `kafka-transactions.sh find-hanging` names the program"
        )
    elif lag:
        yield f"{lag} records are not folded yet; does a worker run?"
    elif not status.unanswered:
        yield "everything is folded"
    unaudited = sum(max(0, lane.applied - lane.audited) for lane in status.lanes)
    if unaudited:
        yield f"{unaudited} outcomes are not known to be in the audit topic yet; a worker looks, and adds what is missing"
