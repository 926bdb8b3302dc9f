"""OpenTelemetry's GenAI metrics of each attempt, and the proxy's own metrics in OpenTelemetry's form."""

import time
from collections.abc import Callable, Iterator, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)

from proxy.telemetry.otlp.names import Names
from proxy.telemetry.otlp.places import Place, Places
from proxy.telemetry.otlp.spans import SCOPE, operation
from proxy.telemetry.record import AttemptRecord, StreamRecord
from proxy.telemetry.sums import Family

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_CHUNK_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**power) for power in range(14))
"""The buckets that the conventions ask for."""


class GenAIMetrics:
    """Counts attempts. `model_label` bounds the models: a client may name any."""

    def __init__(self, meter: Meter, names: Names, model_label: Callable[[str], str]) -> None:
        self._names, self._model_label = names, model_label

        made: dict[str, Callable[..., None]] = {}

        def histogram(what: str, unit: str, bounds: Sequence[float]) -> Callable[..., None]:
            name = names[what]
            if name not in made:  # the older generation has one for several things
                made[name] = meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds).record
            return made[name]

        self._duration = histogram("duration", "s", _SECONDS)
        self._embeddings_duration = histogram("embeddings_duration", "s", _SECONDS)
        self._first = histogram("time_to_first", "s", _FIRST_S)
        self._per_chunk = histogram("time_per_chunk", "s", _CHUNK_S)
        self._tokens_in = histogram("tokens_in", "{token}", _TOKENS)
        self._embeddings_in = histogram("embeddings_in", "{token}", _TOKENS)
        self._tokens_out = histogram("tokens_out", "{token}", _TOKENS)
        self._sums = [meter.create_counter(names[what], "{token}").add for what in ("sum_in", "sum_out") if names[what]]
        began = time.monotonic()

        def uptime(_: CallbackOptions) -> Iterator[Observation]:
            yield Observation(time.monotonic() - began)

        meter.create_observable_gauge("process.uptime", [uptime], "s", "How long the process has been running.")

    def count(self, record: StreamRecord, places: Places) -> None:
        """Count the attempts of a request that is over."""
        for attempt in record.attempts:
            if attempt.started_at and attempt.duration_s is not None:
                self._count(record, attempt, attempt.duration_s, places.get(attempt.backend, Place()))

    def _count(self, record: StreamRecord, attempt: AttemptRecord, duration_s: float, place: Place) -> None:
        names = self._names
        attributes = names.attributes(
            {
                "operation": operation(record),
                "provider": names.provider(place.provider_of(attempt.model)),
                "model": self._model_label(attempt.model),
            }
        )
        if place.address:
            attributes |= {"server.address": place.address, "server.port": place.port}
        failed = {"error.type": attempt.error_code} if attempt.error_code else {}
        embeddings = record.task == "embedding"
        (self._embeddings_duration if embeddings else self._duration)(duration_s, attributes | failed)
        if record.stream and attempt.committed_at is not None:
            self._first(attempt.committed_at - attempt.started_at, attributes)
            if record.mean_gap_s is not None and not attempt.error_code:
                self._per_chunk(record.mean_gap_s, attributes)
        usage = attempt.usage
        if usage is None or usage.estimated:
            return
        kind = names["token_type"]
        tokens_in = self._embeddings_in if embeddings else self._tokens_in
        tokens_in(usage.input_tokens, attributes | ({kind: "input"} if kind else {}))
        if embeddings:
            return
        self._tokens_out(usage.output_tokens, attributes | ({kind: "output"} if kind else {}))
        for add, tokens in zip(self._sums, (usage.input_tokens, usage.output_tokens), strict=False):
            add(tokens, attributes | {"gen_ai.token.modality": "unknown"})


class MetricExporter(OTLPMetricExporter):
    """Sends what `read` returns, the proxy's own metrics, beside those that OpenTelemetry collected."""

    read: Callable[[], list[Family]]
    start_ns: int

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: object
    ) -> MetricExportResult:
        """See `MetricExporter.export`. Called by OpenTelemetry's thread."""
        own = ScopeMetrics(SCOPE, list(_metrics(self.read(), self.start_ns, time.time_ns())), schema_url="")
        first, *rest = metrics_data.resource_metrics
        both = ResourceMetrics(first.resource, [*first.scope_metrics, own], first.schema_url)
        return super().export(MetricsData([both, *rest]), timeout_millis, **kwargs)


def _metrics(families: list[Family], start: int, now: int) -> Iterator[Metric]:
    for name, kind, what, samples in families:
        data: Sum | Gauge | Histogram
        if kind == "histogram":
            data = Histogram(_histograms(samples, start, now), AggregationTemporality.CUMULATIVE)
        else:
            counter = kind == "counter"
            points = [
                NumberDataPoint(dict(labels), start if counter else 0, now, value) for _, labels, value in samples
            ]
            data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True) if counter else Gauge(points)
        yield Metric(name, what, "s" if name.endswith("_seconds") else "", data)


def _histograms(
    samples: list[tuple[str, list[tuple[str, str]], float]], start: int, now: int
) -> list[HistogramDataPoint]:
    """Prometheus counts up to each bound, OpenTelemetry between them."""
    series: dict[tuple[tuple[str, str], ...], tuple[list[float], list[int], list[float]]] = {}
    for name, labels, value in samples:
        key = tuple((label, text) for label, text in labels if label != "le")
        bounds, counts, total = series.setdefault(key, ([], [], []))
        if name.endswith("_bucket"):
            bounds.append(float(dict(labels)["le"]))
            counts.append(int(value))
        elif name.endswith("_sum"):
            total.append(value)
    return [
        HistogramDataPoint(
            attributes=dict(key),
            start_time_unix_nano=start,
            time_unix_nano=now,
            count=counts[-1],
            sum=total[0],
            bucket_counts=[after - before for before, after in zip([0, *counts], counts, strict=False)],
            explicit_bounds=bounds[:-1],
            min=None,  # type: ignore[arg-type]  # not known, and left out by the encoder
            max=None,  # type: ignore[arg-type]
        )
        for key, (bounds, counts, total) in series.items()
    ]
