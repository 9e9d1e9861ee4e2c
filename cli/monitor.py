"""`monitor`: shows what no worker can, round after round: how far each lane is, which lanes nobody has, and drift."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import click

from core_tables.cli import output, wiring
from core_tables.cli.certificate_metrics import CertificateCollector
from core_tables.cli.drift import Drift
from core_tables.cli.ledger_metrics import LedgerCollector, LedgerView, Source
from core_tables.cli.log_lines import logger_of
from core_tables.consumer.http_server import HttpPages, HttpServer, json_page
from core_tables.consumer.metric_families import metrics_page
from core_tables.kafka.group import describe_group
from core_tables.kafka.log import log_ends, log_starts
from core_tables.kafka.lost_clients import RenewedAdmin
from core_tables.projection.postgres.connection import Connection
from core_tables.projection.postgres.lanes import LanePosition
from core_tables.schemas.reasons import CoreTablesError, SetupError, UnavailableError
from core_tables.schemas.topic import LedgerTopic
from core_tables.settings.environment import Settings

# A round waits for each source for its timeouts; a view that is older than this many rounds and these seconds is not shown.
_ROUNDS: Final = 3
_ROUND_LIMIT_S: Final = 60.0
_T = TypeVar("_T")


class Monitor:
    """Asks Postgres and Kafka, and keeps what they answered last. One thread asks, others read."""

    def __init__(
        self,
        settings: Settings,
        log: Any,
        *,
        sample: int = 100,
        every_s: float = 15.0,
        drift_every_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._sample = sample
        self._drift_every_s = drift_every_s
        self._limit_s = _ROUNDS * every_s + _ROUND_LIMIT_S
        self._log = log
        self._admin = RenewedAdmin(settings.kafka_settings())
        self._databases = settings.databases()
        self._connections: dict[int, Connection] = {}  # by the place of its database
        self._topic: LedgerTopic | None = None
        self._drift = Drift()
        self._drift_due = clock()
        self._drifting: int | None = None
        self._view, self._viewed_at = LedgerView(), clock()

    def view(self) -> LedgerView:
        """What the last round found; nothing if it is too old."""
        return (
            self._view if self.alive() else LedgerView(failed={"postgres": "", "kafka": "", "group": "", "drift": ""})
        )

    def alive(self) -> bool:
        """Whether rounds are made."""
        return self._clock() < self._viewed_at + self._limit_s

    def compared(self) -> int:
        """How many work orders were compared so far."""
        return self._drift.compared

    def round(self) -> None:
        """Ask every source once."""
        failed: dict[Source, str] = {}

        def note(source: Source, error: CoreTablesError) -> None:
            failed[source] = error.message
            self._log.warning("monitor_failed", source=source, cause=error.message)

        def asked(source: Source, ask: Callable[[], Any]) -> Any:
            try:
                return ask()
            except CoreTablesError as error:
                note(source, error)
                return None

        positions, unanswered = self._positions()
        for error in unanswered:
            note("postgres", error)
        topic = self._topic
        ends = starts = owned = None
        if topic is not None:
            ends = asked("kafka", partial(self._bounds, log_ends, topic))
            starts = asked("kafka", partial(self._bounds, log_starts, topic)) if ends is not None else None
            if ends is None:
                failed["group"] = "Kafka did not answer"
            else:
                owned = asked("group", partial(self._owned, topic))
            if self._clock() >= self._drift_due:
                self._drifting = asked("drift", self._compare) if positions is not None else None
                self._drift_due = self._clock() + self._drift_every_s
        first = 0 if topic is None else topic.first_lane
        self._view = LedgerView(first, positions, ends, starts, owned, self._drifting, failed)
        self._viewed_at = self._clock()

    def _positions(self) -> tuple[dict[int, LanePosition] | None, list[CoreTablesError]]:
        """The positions of the lanes whose databases answer, None if none does; and why others do not."""
        found: dict[int, LanePosition] = {}
        unanswered: list[CoreTablesError] = []
        for at, database in enumerate(self._databases):
            try:
                if at not in self._connections:
                    self._connections[at] = wiring.operator(database, wiring.LOOK_TIMEOUT_MS)
                self._topic = wiring.registered_topic(self._settings, self._connections[at])
                found |= wiring.positions(self._settings, self._connections[at])
            except CoreTablesError as error:
                if isinstance(error, UnavailableError):
                    self._disconnect(at)
                unanswered.append(error)
        return (None if len(unanswered) == len(self._databases) else found), unanswered

    def _bounds(self, ask: Callable[..., _T], topic: LedgerTopic) -> _T:
        return self._admin.ask(partial(ask, topic=topic.topic, partitions=range(topic.partitions)))

    def _owned(self, topic: LedgerTopic) -> int:
        group = self._admin.ask(partial(describe_group, group_id=self._settings.group_id, topic=topic.topic))
        if group is None:
            raise UnavailableError(
                "kafka",
                f"the broker does not say who is in the group {self._settings.group_id}; this user may lack DESCRIBE on it",
            )
        return sum(partition < topic.partitions for partition in group.of_workers())

    def _compare(self) -> int:
        if len(self._connections) < len(self._databases):
            raise UnavailableError("postgres", "Postgres did not answer")
        try:
            self._drift.round(list(self._connections.values()), self._sample)
        except UnavailableError:
            self.close()
            raise
        return len(self._drift.drifting)

    def _disconnect(self, at: int) -> None:
        connection = self._connections.pop(at, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close the connections."""
        for at in list(self._connections):
            self._disconnect(at)


def monitor_pages(monitor: Monitor, settings: Settings) -> HttpPages:
    """What a monitor serves; the settings are its own."""
    ledger = LedgerCollector(monitor.view, monitor.compared)
    return {
        "/healthz": lambda: json_page(monitor.alive(), {"alive": monitor.alive()}),
        "/readyz": lambda: json_page(not monitor.view().failed, {"failed": dict(monitor.view().failed)}),
        "/metrics": metrics_page(ledger, CertificateCollector(settings)),
    }


@click.command(epilog=output.EXIT_CODES)
@click.option(
    "--every", type=click.FloatRange(min=1), default=15.0, show_default=True, help="Seconds between two rounds."
)
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Work orders to compare at a time.",
)
@click.option(
    "--drift-every",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between two comparisons.",
)
def monitor(every: float, sample: int, drift_every: float) -> None:
    """Serve metrics of the ledger as a whole until Ctrl-C.

    Listens on CORE_TABLES_HTTP. Shows how far each lane is, how many lanes have no worker, and work orders that differ from the
    fold of their ledger rows. One is enough for a ledger.
    """
    settings = Settings()
    log = logger_of(settings, "monitor")
    address = settings.http_address()
    if address is None:
        raise SetupError(
            "CORE_TABLES_HTTP is not set; set it to the address to listen on, such as 0.0.0.0:9464", "machine"
        )
    watch, ended = Monitor(settings, log, sample=sample, every_s=every, drift_every_s=drift_every), threading.Event()
    server = HttpServer(address.host, address.port, monitor_pages(watch, settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    log.info("monitor_started", every_s=every)
    while not ended.is_set():
        started = time.monotonic()
        watch.round()
        ended.wait(max(0.0, started + every - time.monotonic()))
    server.close()
    watch.close()
    sys.exit(output.EXIT_OK)
