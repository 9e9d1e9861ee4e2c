"""The topics of the ledger, and how far their lanes are."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.failures import translated
from core_tables.projection.postgres.fetch import fetch
from core_tables.projection.postgres.keys import LaneName
from core_tables.schemas.identity import offset_of
from core_tables.schemas.reasons import CoreTablesError, SetupError, StopCause
from core_tables.schemas.topic import LedgerTopic


class LanePosition(NamedTuple):
    """A row of os_core.lanes; offsets are "next to do". `schemas`: the registered fingerprints, each with its first offset."""

    lane: int
    applied: int
    audited: int
    epoch: int
    fold_version: int
    schemas: Mapping[str, int] = MappingProxyType({})


class KnownStop(NamedTuple):
    """A row of os_core.lane_stops: a stop that its lane has not got past. The worker is named as the group names it."""

    lane: int
    event_id: int
    cause: StopCause
    sentence: str
    worker: str
    since: datetime


def ledger_topics(connection: Connection) -> list[LedgerTopic]:
    """The topics of the ledger, oldest first. Raises UnavailableError or SetupError."""
    with translated(), connection.transaction():
        return fetch(connection, LedgerTopic, "load_topics")


def lane_stops(connection: Connection) -> list[KnownStop]:
    """The stops that no lane has got past. Raises UnavailableError or SetupError."""
    with translated(), connection.transaction():
        return fetch(connection, KnownStop, "load_stops")


def newest_topic(topics: Sequence[LedgerTopic]) -> LedgerTopic:
    """The topic that holds the newest records. Raises SetupError if the database knows none."""
    if not topics:
        raise SetupError(
            "the database knows no ledger topic; check that the DSN names the right database, then run `core-tables init`",
            "database",
        )
    return topics[-1]


def topic_named(topics: Iterable[LedgerTopic], name: str) -> LedgerTopic:
    """The topic of a name. Raises SetupError if the database does not know it."""
    for topic in topics:
        if topic.topic == name:
            return topic
    raise SetupError(
        f"the database does not know the topic {name}; check that the settings name the right database and topic, then run "
        "`core-tables init`",
        "database",
    )


def folded_past(applied: int, event_id: int) -> bool:
    """Whether a lane that is folded up to offset `applied` has decided about the record `event_id`."""
    return offset_of(event_id) < applied


def unknown_lane(lane: int) -> SetupError:
    """The error of a lane that the database does not know."""
    return SetupError(
        f"lane {lane} is not known to this database; check that the DSN names the right database, then run `core-tables init`",
        "database",
    )


class _HasLane(NamedTuple):
    lane: int
    applied: int


def only_these_lanes(connection: Connection, lanes: Collection[int]) -> Connection:
    """The connection, if its database has those of the lanes that its topics have, and no other. Else it is closed.

    In another database, a worker would fold the lanes again from the beginning, and a reader would find nothing.

    Raises SetupError or UnavailableError.
    """
    try:
        with translated(), connection.transaction():
            topics = fetch(connection, LedgerTopic, "load_topics")
            found = {row.lane for row in fetch(connection, _HasLane, "count_lanes")}
        end = max((topic.first_lane + topic.partitions for topic in topics), default=0)
        if found != {lane for lane in lanes if lane < end}:
            raise SetupError(
                f"the database {connection.info.dbname} at {connection.info.host or 'this machine'} has the lanes "
                f"{sorted(found)}, and CORE_TABLES_POSTGRES_LANES gives it {sorted(lanes)}; set it to what it was when the lanes "
                "were made: lanes cannot be moved",
                "database",
            )
    except CoreTablesError:
        connection.close()
        raise
    return connection


def lane_positions(connection: Connection, lanes: Iterable[int]) -> dict[int, LanePosition]:
    """The positions of lanes; a lane without a row is left out. Raises UnavailableError or SetupError."""
    with translated(), connection.transaction():
        rows = fetch(connection, LanePosition, "load_lanes", [LaneName(lane) for lane in lanes])
        return {row.lane: row for row in rows}
