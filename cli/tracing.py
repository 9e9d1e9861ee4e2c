"""Where spans are sent: an OTLP endpoint, as the usual OTEL_ variables name it."""

import os
from collections.abc import Callable
from importlib.metadata import version

from core_tables.consumer.dependencies import Traced
from core_tables.schemas.reasons import SetupError
from core_tables.settings.environment import Settings


def tracing(settings: Settings) -> tuple[Traced | None, Callable[[], object]]:
    """What a worker gives its batches to, and what sends the last spans at its end. Raises SetupError.

    Nothing is imported or done unless the settings ask for traces.
    """
    if not settings.traces:
        return None, lambda: None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from core_tables.consumer.batch_spans import BatchSpans
    except ImportError as error:
        raise SetupError(
            "CORE_TABLES_TRACES needs more packages: pip install 'core-tables[otel]'", "machine"
        ) from error
    named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "core-tables-worker"}
    resource = Resource.create({**named, "service.version": version("core-tables")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer("core_tables", version("core-tables"))
    return BatchSpans(tracer, settings.topic, settings.group_id).committed, provider.shutdown
