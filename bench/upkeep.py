"""Verify and rebuild: events a second, on an idle system and while a worker folds a live load."""

import contextlib
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import psycopg

from bench import events, place, running
from bench.measure import load as load_average
from core_tables.cli import wiring
from core_tables.projection.postgres.connection import connect
from core_tables.projection.verify.repair import rebuild
from core_tables.projection.verify.report import Report, Scope
from core_tables.projection.verify.tables import verify
from core_tables.settings.environment import Settings

LIVE_RATE: Final = 500  # events a second
_LOST: Final = ("work_order_leases", "work_order_step_attempts", "work_orders_current")


class Upkeep(NamedTuple):
    """One run over everything; `repaired` counts the work orders that were rebuilt."""

    what: str
    live_rate: int
    events: int
    repaired: int
    events_per_s: float
    load: float

    def __str__(self) -> str:
        live = f" with {self.live_rate}/s live" if self.live_rate else ""
        return f"{self.what}{live}: {self.events_per_s:,.0f} events/s"


def measure(settings: Settings, count: int) -> Iterator[Upkeep]:
    """One round, on its own ledger topic: fold a load, then compare and repair it."""
    with place.tables(place.own_topic(settings)) as made:
        events.write(made, events.day(count, max(100, count // 10)))
        with running.worker(made):
            running.wait_until_folded(made)
        _run("verify", made, 0)  # the first read of new rows pays for marking them as committed
        for live in (0, LIVE_RATE):
            with _live(made, live):
                yield _run("verify", made, live)
                yield _run("rebuild, nothing to repair", made, live)
                _lose(made)
                yield _run("rebuild, all tables lost", made, live)


def _run(what: str, settings: Settings, live: int) -> Upkeep:
    verifies = what == "verify"
    if verifies:
        connection = wiring.operator(settings)
    else:
        connection = connect(settings.worker(), name="benchmark rebuild", statement_timeout_ms=600_000)
    cache = wiring.cache(settings, connection)
    call = verify if verifies else rebuild
    started = time.monotonic()
    report: Report = call(connection, Scope(), cache=cache)
    took = time.monotonic() - started
    connection.close()
    if verifies and report.differences:
        raise RuntimeError(f"verify found differences, the first is {report.differences[0]}")
    return Upkeep(what, live, report.events, report.repaired, report.events / took, load_average())


@contextlib.contextmanager
def _live(settings: Settings, rate: int) -> Iterator[None]:
    if not rate:
        yield
        return
    with running.worker(settings), running.live_load(settings, rate):
        yield


def _lose(settings: Settings) -> None:
    """Empty the three tables that a rebuild fills. The lanes are locked, so that no worker writes in between."""
    with psycopg.connect(settings.admin()) as admin:
        admin.execute("select from os_core.lanes order by lane for update")
        for table in _LOST:
            admin.execute(f"delete from os_core.{table}".encode())
        admin.execute("update os_core.lanes set epoch = epoch + 1")
