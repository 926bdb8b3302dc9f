"""Prometheus metrics: how many requests, how fast, how they ended.

Label values come from the config, from fixed sets, or are `other`: no client can create a new time series (D07).
The record of a stream collects its timings, which are observed once, when it is over; a token touches no metric.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from http import HTTPStatus
from itertools import islice

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from proxy import __version__
from proxy.errors import error_codes
from proxy.routing.principal import ANONYMOUS
from proxy.telemetry.limits import MOST_NAMES, OTHER, LimitMetrics
from proxy.telemetry.record import StreamRecord
from proxy.telemetry.series import Counts, Read, Timings
from proxy.telemetry.sums import Family

NONE = "none"  # the request was refused before it had one

FIRST_TOKEN_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60, 120)
GAP_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60)
DURATION_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800)

_NO_ERRORS = (
    "ok", "client_gone", "circuit_open", "slow_start", "unwell", "rate_limit_wait", "hedge_lost", "no_budget",
)  # fmt: skip
"""Outcomes of attempts that are no code of an error."""

_STATUSES = frozenset({*(status.value for status in HTTPStatus), 499, 529})


class _Process(ProcessCollector):
    """Knows the start to a hundredth of a second: `usage --check` compares with the rows since then."""

    def _boot_time(self) -> float | None:
        known: float | None = super()._boot_time()  # type: ignore[no-untyped-call]  # in whole seconds, up to one too early
        return None if known is None else time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class Metrics:
    """The metrics of one app. Their registry is their own, so two apps in one process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series, and Prometheus advises against them
        self.registry = registry = CollectorRegistry()
        self._contracts = _Names()
        self._routes = _Names()
        self._backends = _Names()
        self._models = _Names()
        self._keys = _Names({ANONYMOUS.name})
        self._outcomes = _Names({*_NO_ERRORS, *error_codes()})

        self._requests = Counts(
            "chat_proxy_requests",
            "Requests by what they asked for and the HTTP status they are accounted under (499: the client left).",
            ("contract", "route", "backend", "status"),
        )
        self._ends = Counts(
            "chat_proxy_stream_end",
            "How requests ended; one sample each. Only `done` is a whole answer.",
            ("reason", "route", "backend"),
        )
        self._streams = 0
        active = Gauge("chat_proxy_active_streams", "Requests being answered now.", registry=registry)
        active.set_function(lambda: self._streams)
        self._first_token = _timings(
            "first_token_seconds", "From the request to the first content.", FIRST_TOKEN_BUCKETS_S
        )
        self._longest_gap = _timings(
            "content_gap_max_seconds", "Longest wait between two pieces of content of a stream.", GAP_BUCKETS_S
        )
        self._mean_gap = _timings(
            "content_gap_mean_seconds", "Mean wait between two pieces of content of a stream.", GAP_BUCKETS_S
        )
        self._duration = _timings("request_duration_seconds", "From the request to its end.", DURATION_BUCKETS_S)
        self._tokens = Counts(
            "chat_proxy_tokens",
            "Tokens, as the upstream counted them or else estimated; models that the config does not name are `other`.",
            ("direction", "backend", "model", "key"),
        )
        self._cost = Counts(
            "chat_proxy_cost_usd",
            "What attempts cost, in US dollars, where costs are counted and a price is known.",
            ("route", "backend", "model", "key"),
        )
        self._unpriced = Counts(
            "chat_proxy_cost_unknown_attempts",
            "Attempts that cost something, and nobody knows what: there is no price, or no count of tokens.",
            ("backend", "model"),
        )
        self._attempts = Counts(
            "chat_proxy_upstream_attempts",
            "Tries at a backend: `ok` or the error's code. More than one per request is fallback.",
            ("backend", "outcome"),
        )
        self._hedges = Counts(
            "chat_proxy_hedges",
            "Requests whose first target was slow: `won` if the second answered first, `lost` if not; `no_budget`: none "
            "was asked.",
            ("route", "end"),
        )
        self._continuations = Counts(
            "chat_proxy_continuations",
            "Attempts that were to go on with an answer that was cut: `ok`, or the error's code; `no_budget`: none was asked.",
            ("route", "outcome"),
        )
        self._unnoted = Counts(
            "chat_proxy_done_without_finish_reason",
            "Answers that a backend ended properly without saying why.",
            ("backend",),
        )
        for series in vars(self).values():
            if isinstance(series, Counts | Timings):
                registry.register(series)
        self._config_reloads = Counter(
            "chat_proxy_config_reload_total", "Config files taken up or turned down.", ("result",), registry=registry
        )
        for result in ("accepted", "rejected"):
            self._config_reloads.labels(result)  # at 0 from the start, else Prometheus sees no increase in the first
        self._generation = Gauge(
            "chat_proxy_config_generation", "How many configs have been in force.", registry=registry
        )
        build = Info("chat_proxy_build", "What is running.", registry=registry)
        build.info({"version": __version__})
        self._tick = Gauge(
            "chat_proxy_delivery_tick_seconds",
            "How often fast streams are read at most where the load decides (`tick_ms: auto`); 0 is as they come.",
            registry=registry,
        )
        self._waiting = Gauge(
            "chat_proxy_connections_waiting",
            "Connections that are not accepted yet. More than a few: this process has more clients than it can serve.",
            registry=registry,
        )
        self.limits = LimitMetrics(registry)
        self._dropped_lines: Callable[[], int] = lambda: 0
        self.show(self._of_the_log)
        _Process(registry=registry)

    def configured(
        self,
        *,
        generation: int,
        contracts: Iterable[str],
        routes: Iterable[str],
        backends: Iterable[str],
        models: Iterable[str],
        keys: Iterable[str],
    ) -> None:
        """A config is in force: its names become label values.

        Names of earlier configs stay, for the streams that began under them.
        """
        self._generation.set(generation)
        self._contracts.update(contracts)
        self._routes.update(routes)
        self._backends.update(backends)
        self._models.update(models)
        self._keys.update(keys)

    def name_keys(self, names: Iterable[str]) -> None:
        """Names of keys in the store become label values too, at most `MOST_NAMES` at once."""
        self._keys.update(islice(names, MOST_NAMES))

    def show(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Show the metrics that `read` makes when Prometheus scrapes."""
        self.registry.register(Read(read))

    def watch_log(self, dropped_lines: Callable[[], int]) -> None:
        """Show how many log lines were dropped, which `dropped_lines` returns."""
        self._dropped_lines = dropped_lines

    def watch_waiting(self, connections: Callable[[], int]) -> None:
        """Report how many connections wait to be accepted, as `connections` counts them."""
        self._waiting.set_function(connections)

    def watch_tick(self, tick_s: Callable[[], float]) -> None:
        """Show the tick that `auto` amounts to, which `tick_s` returns."""
        self._tick.set_function(tick_s)

    def stream_started(self) -> None:
        """An answer is under way. One `stream_left` must follow."""
        self._streams += 1

    def stream_left(self) -> None:
        """The answer is over."""
        self._streams -= 1

    def ended(self, record: StreamRecord) -> None:
        """See `RecordSink`. Counts requests that never became a stream too."""
        route, backend = self._routes.label(record.route), self._backends.label(record.backend)
        contract, status = self._contracts.label(record.contract), _status(record.final_status)
        self._requests.add(contract, route, backend, status)
        self._ends.add(record.end or "internal", route, backend)
        self._duration.observe(record.duration_s, route, backend)
        for attempt in record.attempts:
            outcome = self._outcomes.label(attempt.outcome)
            self._attempts.add(self._backends.label(attempt.backend), outcome)
            if attempt.role == "continuation":
                self._continuations.add(route, outcome)
        if record.hedge:
            self._hedges.add(route, record.hedge)
        self._count_content(record, route, backend)
        self._count_tokens(record, backend)
        if record.priced:
            self._count_costs(record, route)
        if record.end == "done" and not record.has_finish_reason:
            self._unnoted.add(backend)

    def model_label(self, model: str) -> str:
        """A model as a label: clients may name any, so those that the config does not name are `other`."""
        return self._models.label(model)

    def config_reload(self, result: str) -> None:
        """A changed config file was `accepted` or `rejected`."""
        self._config_reloads.labels(result).inc()

    def exposition(self) -> tuple[bytes, str]:
        """All metrics in Prometheus's text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4

    def snapshot(self) -> list[Family]:
        """All metrics as plain values, which `sums` adds to those of other processes."""
        return [
            [
                metric.name,
                metric.type,
                metric.documentation,
                [
                    [sample.name, [list(label) for label in sample.labels.items()], sample.value]
                    for sample in metric.samples
                ],
            ]
            for metric in self.registry.collect()
        ]

    def _of_the_log(self) -> Iterator[Metric]:
        what = "Log lines lost because nobody took them in time."
        yield CounterMetricFamily("chat_proxy_log_lines_dropped", what, value=self._dropped_lines())

    def _count_content(self, record: StreamRecord, route: str, backend: str) -> None:
        first_s, gap_s = record.first_content_s, record.mean_gap_s
        if first_s is not None:
            self._first_token.observe(first_s, route, backend)
        if gap_s is not None:
            self._mean_gap.observe(gap_s, route, backend)
            self._longest_gap.observe(record.longest_gap_s, route, backend)

    def _count_tokens(self, record: StreamRecord, backend: str) -> None:
        if record.usage is None:
            return
        model, key = self._models.label(record.upstream_model), self._keys.label(record.key)
        self._tokens.add("in", backend, model, key, count=max(0, record.usage.input_tokens))
        self._tokens.add("out", backend, model, key, count=max(0, record.usage.output_tokens))

    def _count_costs(self, record: StreamRecord, route: str) -> None:
        key = self._keys.label(record.key)
        for attempt in record.attempts:
            backend, model = self._backends.label(attempt.backend), self._models.label(attempt.model)
            if attempt.cost_usd:
                self._cost.add(route, backend, model, key, count=float(attempt.cost_usd))
            elif attempt.cost_usd is None and attempt.started_at:
                self._unpriced.add(backend, model)


def exposition(families: Iterable[Family]) -> tuple[bytes, str]:
    """Plain values, such as the sums of several processes, in Prometheus's text format."""
    return generate_latest(Read(lambda: map(_metric, families))), CONTENT_TYPE_PLAIN_0_0_4


def _metric(family: Family) -> Metric:
    name, kind, documentation, samples = family
    metric = Metric(name, documentation, kind)
    for sample, labels, value in samples:
        metric.add_sample(sample, dict(labels), value)
    return metric


class _Names:
    """A closed set of label values."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(names)

    def update(self, names: Iterable[str]) -> None:
        self._names.update(names)

    def label(self, name: str) -> str:
        return name if name in self._names else OTHER if name else NONE


def _timings(name: str, what: str, bounds_s: Collection[float]) -> Timings:
    return Timings(f"chat_proxy_{name}", what, ("route", "backend"), tuple(bounds_s))


def _status(status: int) -> str:
    """A status as a label; an upstream may invent any number."""
    return str(status) if status in _STATUSES else f"{status // 100}xx" if 100 <= status < 600 else OTHER
