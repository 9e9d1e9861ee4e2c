"""How far each lane is, who has it, and what holds it up."""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import click

from core_tables.cli import output, wiring
from core_tables.cli.formats import Format, emit_list
from core_tables.cli.options import format_option
from core_tables.cli.times import rounded_time
from core_tables.consumer.lane_status import LedgerStatus, remarks
from core_tables.kafka.clients import admin_client
from core_tables.kafka.group import CLIENT_ID
from core_tables.projection.cache.pending_cache import PendingCache
from core_tables.projection.postgres.lanes import KnownStop
from core_tables.schemas.reasons import CoreTablesError, UnavailableError
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

    found: LedgerStatus
    rows: list[dict[str, Any]]
    sentences: list[str]


def _look(settings: Settings) -> _Lanes:
    """Ask Postgres, the broker and the cache. Raises UnavailableError or SetupError."""
    found = wiring.status_now(settings, admin_client(settings.kafka_settings()))
    failed = _cache_failure(wiring.cache_of(settings, found.topic), found.topic.first_lane)
    rows = [
        {**lane._asdict(), "stopped": found.stops[lane.lane]._asdict() if lane.lane in found.stops else None}
        for lane in found.lanes
    ]
    sentences = [*_about_stops(found.stops), *remarks(found)]
    if failed is not None:
        sentences.append(f"the cache does not answer, so pending lists come from Postgres: {failed}")
    return _Lanes(found, rows, sentences)


def _show(lanes: _Lanes, form: Format) -> bool:
    """Print it; whether a lane has stopped."""
    if form is Format.TABLE:
        emit_list(f"lanes of {lanes.found.topic.topic}", list(map(_shown, lanes.rows)), form)
        for sentence in lanes.sentences:
            output.tell(sentence)
    else:
        strays = [{"lane": None, "partition": each, "log_end": end} for each, end in lanes.found.strays.items()]
        emit_list("lanes", [*lanes.rows, *strays], form)
    return bool(lanes.found.stops)


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
