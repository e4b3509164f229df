"""OpenTelemetry traces of requests, where the standard variables name a collector; off, and not imported, otherwise.

OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) switches them on; OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT and
OTEL_BSP_* mean what OpenTelemetry says. Spans wait in a bounded queue for a thread that sends them: a
collector that is slow or dead costs spans, never a request.
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from threading import Thread
from typing import TYPE_CHECKING, Any

from serving.metrics import stage_seconds
from serving.model import Answer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"
# What a stopping endpoint may take to send the last spans.
FLUSH_SECONDS = 3

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

log = logging.getLogger("mscflow.tracing")


def trace_id_of(headers: Mapping[str, Any]) -> str | None:
    """Give the id of the trace that a request belongs to (W3C ``traceparent``), for the log; no library is needed."""
    found = _TRACEPARENT.match(str(headers.get("traceparent", "")))
    return found[1] if found else None


def open_tracing(environment: Mapping[str, str] = os.environ) -> "Tracing | None":
    """Give what the environment asks for: spans to a collector, or None."""
    if not any(environment.get(name) for name in ENDPOINTS):
        return None
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), HTTP)
    if protocol != HTTP:
        # Such variables are often set for a whole cluster: no reason not to serve.
        log.warning("no traces: they go out over %s, not over '%s'; set %s", HTTP, protocol, PROTOCOLS[0])
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Tracing(OTLPSpanExporter())


class Tracing:
    """Makes spans and has them sent.

    Args:
        exporter: Sends them; called from one thread of its own.
    """

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "mscflow-endpoint"}
        self._provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mscflow.serving")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, request_id: str, headers: Mapping[str, Any]) -> "RequestSpan":
        """Begin a request's span, within the trace that its headers name."""
        from opentelemetry.trace import SpanKind

        carrier = {key: str(headers[key]) for key in ("traceparent", "tracestate") if headers.get(key)}
        context = self._propagator.extract(carrier)
        named = {"mscflow.request": request_id}
        return RequestSpan(self._tracer, self._tracer.start_span(name, context, SpanKind.SERVER, named))

    def close(self) -> None:
        """Send what waits, for no longer than ``FLUSH_SECONDS``."""
        flush = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


class RequestSpan:
    """The span of one request. Those of its stages are made when it ends, from what they took.

    Attributes:
        trace_id: As 32 hexadecimal digits.
    """

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        self._began = time.time_ns()
        self.trace_id = f"{span.get_span_context().trace_id:032x}"

    def end(self, waited: float, answer: Answer | None, outcome: str, reason: str | None) -> None:
        """End it.

        Args:
            waited: Seconds until the body had arrived; the other stages follow one another from there.
            answer: What was answered, if it was.
            outcome: ``answered``, ``refused`` or ``failed``.
            reason: Why it was refused.
        """
        from opentelemetry.trace import Status, StatusCode

        if not self._span.is_recording():
            return
        self._span.set_attribute("mscflow.outcome", outcome)
        if reason:
            self._span.set_attribute("mscflow.reason", reason)
        if outcome == "failed":
            self._span.set_status(Status(StatusCode.ERROR))
        if answer is not None:
            self._stages(answer, waited)
        self._span.end()

    def _stages(self, answer: Answer, waited: float) -> None:
        from opentelemetry.trace import set_span_in_context

        named: dict[str, str | int] = {
            "mscflow.model": answer.model,
            "mscflow.version": answer.version,
            "mscflow.images": len(answer.predictions),
        }
        self._span.set_attributes(named)
        context = set_span_in_context(self._span)
        start = self._began
        for stage, seconds in {"receive": waited, **stage_seconds(answer)}.items():
            span = self._tracer.start_span(stage, context, attributes=named, start_time=start)
            start += int(seconds * 1e9)
            span.end(start)
