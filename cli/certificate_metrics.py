"""When the certificates end that the settings of a process name, as a metric of a worker and of the monitor."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from core_tables.consumer.metric_families import gauge
from core_tables.schemas.reasons import CoreTablesError
from core_tables.settings.certificates import certificate_files
from core_tables.settings.environment import Settings

READ_EVERY_S: Final = 60.0


class CertificateCollector(Collector):
    """Collects no metric if the settings name no certificate. The files are read when somebody asks, once a minute at most."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._ends: Mapping[tuple[str, str], float] = {}
        self._read_at: float | None = None

    def collect(self) -> Iterator[Metric]:
        """The end of the first one to end, by service and kind."""
        with self._lock:
            if self._read_at is None or self._clock() >= self._read_at + READ_EVERY_S:
                self._ends, self._read_at = self._read(), self._clock()
            ends = self._ends
        if ends:
            text = "When the first certificate ends that is used with a service, as a time of day"
            yield gauge("certificate_not_after_timestamp_seconds", text, ends, "service", "kind")

    def _read(self) -> Mapping[tuple[str, str], float]:
        """A file that cannot be read is left out: `doctor` names it."""
        found: dict[tuple[str, str], float] = {}
        with suppress(CoreTablesError):  # of settings that are read from files
            for file in certificate_files(self._settings):
                with suppress(OSError, ValueError):
                    key = file.service.lower(), "authority" if file.authorities else "client"
                    end = file.ends().timestamp()
                    found[key] = min(end, found.get(key, end))
        return found
