"""What a worker shows at CORE_TABLES_HTTP, from its first moment on."""

from core_tables.cli import wiring
from core_tables.consumer.audit_thread import AuditThread
from core_tables.consumer.http_server import HttpServer
from core_tables.consumer.probes import WorkerProbes, probe_pages
from core_tables.consumer.worker import Worker
from core_tables.consumer.worker_settings import WorkerSettings
from core_tables.settings.environment import Settings


class WorkerPort:
    """Serves probes and metrics until the process ends; nothing if the settings name no address."""

    def __init__(self, settings: Settings, worker_settings: WorkerSettings) -> None:
        """Raises SetupError if the address cannot be used."""
        self._settings = settings
        self._probes = WorkerProbes(worker_settings)
        address = settings.http_address()
        if address is None:
            self._collector = None
            return
        from core_tables.cli.certificate_metrics import CertificateCollector  # imports what nobody else needs
        from core_tables.consumer.metric_families import metrics_page
        from core_tables.consumer.worker_metrics import WorkerCollector

        self._collector = WorkerCollector()
        metrics = metrics_page(self._collector, CertificateCollector(settings))
        pages = {**probe_pages(self._probes), "/metrics": metrics}
        HttpServer(address.host, address.port, pages)

    def waits_to_start(self, cause: str) -> None:
        """Note why the worker cannot start yet."""
        self._probes.waits_to_start(cause)

    def follow(self, worker: Worker, audit_thread: AuditThread | None) -> None:
        """Show this worker from now on."""
        self._probes.follow(worker, audit_thread)
        if self._collector is not None:
            ends = wiring.current_ends(self._settings, worker.topic)
            self._collector.follow(worker, ends, self._settings.group_id)
