"""What sends spans and metrics: OpenTelemetry's own exporters, each with a thread and a bounded queue.

A collector that is slow or gone costs what does not fit into the queue, never a request.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from proxy import __version__
from proxy.config.telemetry import OtlpSettings
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.otlp.measures import GenAIMetrics, MetricExporter
from proxy.telemetry.otlp.names import Names
from proxy.telemetry.otlp.places import Places
from proxy.telemetry.otlp.spans import Clock, Spans
from proxy.telemetry.record import StreamRecord
from proxy.telemetry.sums import Family
from proxy.telemetry.trace import Trace, new_span_id

CLOSE_S = 3.0
"""How long a stop waits until what is queued is sent. A collector that does not answer costs the rest."""

READ_S = 5.0  # how long a busy event loop may take to hand over the metrics

log = structlog.get_logger("proxy.telemetry")


class Seldom(logging.Filter):
    """Lets one line a minute pass: an exporter writes five for each batch that a collector does not take."""

    EVERY_S = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - whatever it says
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self.EVERY_S
        return True


for exporter in (OTLPSpanExporter, OTLPMetricExporter):
    logging.getLogger(exporter.__module__).addFilter(Seldom())


class Telemetry:
    """A tracer and a record sink. Belongs to the event loop that it is made on."""

    def __init__(self, settings: OtlpSettings, metrics: Metrics, places: Places) -> None:
        self.settings, self.places = settings, places
        self._metrics, self._loop = metrics, asyncio.get_running_loop()
        self._propagate = settings.propagate
        self._propagator = TraceContextTextMapPropagator()
        self._exporters: list[OTLPSpanExporter | MetricExporter] = []
        names, resource = Names.asked_for(), _resource()
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # reads OTEL_TRACES_SAMPLER
        self._sampler = provider.sampler
        self._spans = Spans(resource, names)
        self._processor = self._span_processor() if settings.traces and _exports("TRACES") else None
        self._meters = self._meter_provider(resource) if settings.metrics and _exports("METRICS") else None
        self._genai = None
        if self._meters is not None:
            meter = self._meters.get_meter("chat-proxy.gen_ai", __version__)  # the encoder takes a scope once
            self._genai = GenAIMetrics(meter, names, metrics.model_label)

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """See `Tracer`."""
        context = self._propagator.extract(headers, Context())
        caller = get_current_span(context).get_span_context()
        trace_id = caller.trace_id if caller.is_valid else secrets.randbits(128)
        decision = self._sampler.should_sample(context, trace_id, "request", SpanKind.SERVER)
        return Trace(
            trace_id=f"{trace_id:032x}",
            span_id=new_span_id(),
            sampled=decision.decision is Decision.RECORD_AND_SAMPLE,
            parent_id=f"{caller.span_id:016x}" if caller.is_valid else "",
            state=caller.trace_state.to_header() if caller.is_valid else "",
            propagate=self._propagate,
        )

    def ended(self, record: StreamRecord) -> None:
        """See `RecordSink`."""
        if record.trace is None:  # it was refused before anybody knew who asks
            record.trace = self.begin({})
        if self._processor is not None and record.trace.sampled:
            clock = Clock(self._loop.time())
            for span in self._spans.of(record, record.trace, self.places, clock):
                self._processor.on_end(span)
        if self._genai is not None:
            self._genai.count(record, self.places)

    async def aclose(self) -> None:
        """Send what is queued, for `CLOSE_S` seconds at most."""
        done = asyncio.Event()
        thread = threading.Thread(target=self._shut_down, args=[done], name="telemetry's end", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(CLOSE_S):
                await done.wait()
        except TimeoutError:
            for exporter in self._exporters:
                exporter.shutdown()  # ends the wait before another try
            log.warning("telemetry_lost", message=f"the collector did not take what was left within {CLOSE_S:g} s")

    def _shut_down(self, done: asyncio.Event) -> None:
        try:
            if self._processor is not None:
                self._processor.shutdown()  # type: ignore[no-untyped-call]
            if self._meters is not None:
                self._meters.shutdown(timeout_millis=CLOSE_S * 1000)
        finally:
            with contextlib.suppress(RuntimeError):  # nobody waited, and the loop is closed
                self._loop.call_soon_threadsafe(done.set)

    def _span_processor(self) -> BatchSpanProcessor:
        exporter = OTLPSpanExporter(endpoint=self._address("traces"), headers=self._headers())
        self._exporters.append(exporter)
        return BatchSpanProcessor(exporter)

    def _meter_provider(self, resource: Resource) -> MeterProvider:
        exporter = MetricExporter(endpoint=self._address("metrics"), headers=self._headers())
        self._exporters.append(exporter)
        exporter.read, exporter.start_ns = self._read, time.time_ns()
        every_s = self.settings.metrics_every_s
        reader = PeriodicExportingMetricReader(exporter, every_s * 1000 if every_s else None)
        return MeterProvider([reader], resource, shutdown_on_exit=False)

    def _read(self) -> list[Family]:
        """The proxy's own metrics, read on the event loop, which changes them. Called by another thread."""
        found: Future[list[Family]] = Future()
        self._loop.call_soon_threadsafe(lambda: found.set_result(self._metrics.snapshot()))
        return found.result(READ_S)

    def _address(self, signal: str) -> str | None:
        """The config's address for a signal; `None` has the exporter ask the environment."""
        return f"{self.settings.endpoint.rstrip('/')}/v1/{signal}" if self.settings.endpoint else None

    def _headers(self) -> dict[str, str] | None:
        return {name: value.get_secret_value() for name, value in self.settings.headers.items()} or None


def _exports(signal: str) -> bool:
    """OpenTelemetry's own way to turn a signal off: `OTEL_TRACES_EXPORTER=none`."""
    return os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() != "none"


def _resource() -> Resource:
    """Who sends: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come first. Each process is an instance."""
    ours = {
        "service.name": "chat-proxy",
        "service.version": __version__,
        "service.instance.id": secrets.token_hex(8),
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.language": "python",
    }
    return Resource(ours).merge(OTELResourceDetector().detect())
