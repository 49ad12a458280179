"""Spans to a collector over OTLP/HTTP. Imported only where tracing is on: the SDK takes 0.4 s."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from telemetry import tracing

EXPORT_TIMEOUT_S, EXPORT_EVERY_MS, QUEUE = 5.0, 1000, 16_384
"""What does not fit into the queue, while the collector is away, is dropped: traces never hold up work."""

_KINDS: dict[tracing.SpanKind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class _OtlpSpan:
    """See `tracing.Span`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def end(
        self, attributes: tracing.Attributes | None = None, *, name: str | None = None, error: str | None = None
    ) -> None:
        """See `tracing.Span`."""
        if name is not None:
            self._span.update_name(name)
        if attributes:
            self._span.set_attributes(dict(attributes))
        if error is not None:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class OtlpTracer:
    """See `tracing.Tracer`. `stop` after the last span."""

    def __init__(self, endpoint: str, *, service: str, version: str, ratio: float) -> None:
        resource = Resource.create({"service.name": service, "service.version": version})
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        self.ratio = ratio
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=QUEUE, schedule_delay_millis=EXPORT_EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("ragline")

    def begin(
        self, name: str, parent: str | None, kind: tracing.SpanKind, attributes: tracing.Attributes | None
    ) -> tracing.Span:
        """See `tracing.Tracer`."""
        context = Context()
        if parent is not None:
            _, trace_id, span_id, _ = parent.split("-")
            caller = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
            context = set_span_in_context(NonRecordingSpan(caller), context)
        return _OtlpSpan(self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def stop(self) -> None:
        """Exports what is ended. Blocks, for some seconds at most."""
        self._provider.shutdown()
