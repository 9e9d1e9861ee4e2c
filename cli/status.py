"""How far each lane is, who has it, and what holds it up."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple, NoReturn

import click

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list
from core_tables.cli.ledger_log import without_lane
from core_tables.cli.options import format_option
from core_tables.cli.times import rounded_time
from core_tables.kafka.clients import admin_client
from core_tables.kafka.errors import UnreadableRecordError
from core_tables.kafka.group import CLIENT_ID, Group, describe_group
from core_tables.kafka.log import LogEnd, ends_without_lane, log_ends
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.postgres.lanes import KnownStop, LanePosition, lane_stops
from core_tables.schemas.reasons import CoreTablesError, UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings

_WATCH_S: Final = 2.0


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--watch",
    is_flag=False,
    flag_value=_WATCH_S,
    type=click.FloatRange(min=0.2),
    metavar="[SECONDS]",
    help="Show it again every 2 seconds, or as often as is given, until Ctrl-C.",
)
@format_option
def status(watch: float | None, form: Format) -> None:
    """Show how far each lane is folded and audited, and which have stopped.

    Per lane: the end of its log, the offset up to which it is applied, how many outcomes are not audited yet, the lag in
    records and seconds, the worker that has it, and why it stopped, if it did. Exits with 10 if one has. JSON and CSV also
    have the offset up to which it is audited, and the end for read_committed readers.
    """
    settings = Settings()
    if watch is not None:
        with output.until_interrupted():
            _watch(settings, watch, form)
    if _show(_look(settings), form):
        output.flush()
        sys.exit(output.EXIT_LANE_STOPPED)


class _Lanes(NamedTuple):
    """What there is to say about the lanes of a topic."""

    topic: LedgerTopic
    rows: list[dict[str, Any]]
    stops: Mapping[int, KnownStop]
    strays: Mapping[int, int]
    sentences: list[str]


def _look(settings: Settings) -> _Lanes:
    """Ask Postgres, the broker and the cache. Raises UnavailableError or SetupError."""
    with closing(wiring.operator(settings)) as connection:
        topic = wiring.registered_topic(settings, connection)
        admin = admin_client(settings.kafka_settings())
        ends = log_ends(admin, topic.topic, range(topic.partitions))
        rows = _lane_rows(settings, topic, wiring.positions(settings, connection), ends)
        strays = ends_without_lane(admin, topic.topic, topic.partitions)
        group = describe_group(admin, settings.group_id, topic.topic)
        lanes = {row["lane"] for row in rows}
        stops = {stop.lane: stop for stop in lane_stops(connection) if stop.lane in lanes}
        failed = _cache_failure(wiring.cache(settings, connection), topic.first_lane)
    for row in rows:
        row["owner"] = None if group is None else group.owners.get(row["lane"] - topic.first_lane)
        row["stopped"] = stops[row["lane"]]._asdict() if row["lane"] in stops else None
    sentences = [*_about_stops(stops), *_about_the_group(rows, group, settings.group_id), *_summary(rows, strays)]
    if failed is not None:
        sentences.append(f"the cache does not answer, so pending lists come from Postgres: {failed}")
    return _Lanes(topic, rows, stops, strays, sentences)


def _show(found: _Lanes, form: Format) -> bool:
    """Print it; whether a lane has stopped."""
    if form is Format.TABLE:
        emit_list(f"lanes of {found.topic.topic}", list(map(_shown, found.rows)), form)
        for sentence in found.sentences:
            output.tell(sentence)
    else:
        strays = [{"lane": None, "partition": each, "log_end": end} for each, end in found.strays.items()]
        emit_list("lanes", [*found.rows, *strays], form)
    return bool(found.stops)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a table has it, which fits a terminal of 80 columns."""
    names = ("lane", "log_end", "applied", "lag", "lag_seconds")
    return {
        **{name: row[name] for name in names},
        "not_audited": max(0, row["applied"] - row["audited"]),
        "stopped": None if row["stopped"] is None else row["stopped"]["cause"],
        "owner": None if row["owner"] is None else row["owner"].removeprefix(f"{CLIENT_ID}-"),
    }


def _watch(settings: Settings, every: float, form: Format) -> NoReturn:
    """Show it again and again; what does not answer for a while is named, and asked again."""
    while True:
        started = time.monotonic()
        found: _Lanes | CoreTablesError
        try:
            found = _look(settings)
        except UnavailableError as error:
            found = error
        if form is Format.TABLE:
            output.out.clear()
            output.out.print(f"{rounded_time(time.time_ns())}, every {every:g} s until Ctrl-C")
        if isinstance(found, CoreTablesError):
            output.say(f"{found.message}; asking again")
        else:
            _show(found, form)
        output.flush()
        time.sleep(max(0.0, started + every - time.monotonic()))


def _about_stops(stops: Mapping[int, KnownStop]) -> Iterator[str]:
    for lane, stop in stops.items():
        yield (
            f"lane {lane} stopped at record {stop.event_id} ({stop.cause}), since {stop.since:%Y-%m-%d %H:%M:%S %Z}, "
            f"{stop.worker}: {stop.sentence}"
        )


def _cache_failure(cache: PendingCache | None, lane: int) -> str | None:
    """Why the cache does not answer for a lane, as it is asked with each pending list; None if it does."""
    if cache is None:
        return None
    cache.read_list(lane, "")
    return cache.failed


def _about_the_group(rows: Sequence[Mapping[str, Any]], group: Group | None, name: str) -> Iterator[str]:
    """Which lanes nobody has, and who is in the group without being a worker."""
    if group is None:
        yield f"the broker does not say who has which lane; this user may lack DESCRIBE on the group {name}"
        return
    for stranger in group.strangers:
        yield f"{stranger} is in the consumer group {name} and is no worker: give that program a group of its own"
    unowned = [str(row["lane"]) for row in rows if row["owner"] is None]
    if not group.owners:
        yield "no worker runs"
    elif unowned and group.settled:
        yield f"lanes {', '.join(unowned)} belong to no worker; see the log lines `assigned` and `lane_stopped`"


def _summary(rows: Sequence[Mapping[str, Any]], strays: Mapping[int, int]) -> Iterator[str]:
    """What the rows of the lanes, and the ends of partitions without one, come to."""
    for partition, end in strays.items():
        yield f"partition {partition}: {without_lane(end)}"
    held = [str(row["lane"]) for row in rows if row["stable_end"] < row["log_end"]]
    lag = sum(row["lag"] for row in rows)
    if held:
        yield (
            f"lanes {', '.join(held)}: a program has a transaction open on the ledger topic, and what was appended after its "
            "start is folded when it ends; `kafka-transactions.sh find-hanging` names the program"
        )
    elif lag:
        yield f"{lag} records are not folded yet; does a worker run?"
    else:
        yield "everything is folded"
    unaudited = sum(max(0, row["applied"] - row["audited"]) for row in rows)
    if unaudited:
        yield f"{unaudited} outcomes are not known to be in the audit topic yet; a worker looks, and adds what is missing"


def _lane_rows(
    settings: Settings, topic: LedgerTopic, positions: Mapping[int, LanePosition], ends: Mapping[int, LogEnd]
) -> list[dict[str, Any]]:
    rows = []
    with closing(wiring.topic_reader(settings, topic.topic)) as reader:
        for lane, position in sorted(positions.items()):
            partition = lane - topic.first_lane
            stable, end = ends[partition]
            lag, waits = max(0, end - position.applied), 0.0
            if position.applied < stable == end:
                try:
                    first = reader.first(partition, position.applied)
                except UnreadableRecordError:  # the lane stops there, and says so
                    pass
                else:
                    if first is None:
                        lag = 0  # the log ends in a gap: nothing of it is left to be folded
                    else:
                        waits = max(0.0, time.time() - first.timestamp()[1] / 1000)
            rows.append(
                {
                    "lane": lane,
                    "log_end": end,
                    "stable_end": stable,
                    "applied": position.applied,
                    "audited": position.audited,
                    "lag": lag,
                    "lag_seconds": round(waits, 1),
                }
            )
    return rows
