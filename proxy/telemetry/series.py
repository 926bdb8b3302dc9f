"""Time series as plain numbers by label values, which become Prometheus's own when it scrapes.

prometheus_client takes a lock for each increment of a counter, and for each bucket and sum of a histogram: for the ten
of them that was 5 % of a whole request here. Everything happens on the event loop, so no lock is needed.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily)


class Read(Collector):
    """Metrics that `read` makes of what is kept elsewhere, each time that Prometheus scrapes."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()


def filled(family: Family, values: Iterable[tuple[Sequence[str], float]]) -> Family:
    """The family with a value for each set of labels."""
    for labels, value in values:
        family.add_metric(labels, value)
    return family


class Counts(Collector):
    """A counter with labels."""

    def __init__(self, name: str, what: str, labels: Sequence[str]) -> None:
        self._name, self._what, self._labels = name, what, labels
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, count: float = 1) -> None:
        values = self._values
        values[labels] = values.get(labels, 0) + count

    def collect(self) -> Iterator[Metric]:
        yield filled(CounterMetricFamily(self._name, self._what, labels=self._labels), self._values.items())


class Timings(Collector):
    """A histogram with labels. A value equal to a bucket's bound counts into that bucket, as Prometheus defines it (`le`)."""

    def __init__(self, name: str, what: str, labels: Sequence[str], bounds_s: Sequence[float]) -> None:
        self._name, self._what, self._labels = name, what, labels
        self._bounds = tuple(bounds_s)
        self._names = [*map(floatToGoString, bounds_s), "+Inf"]
        self._series: dict[tuple[str, ...], _Series] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(len(self._names))
        series.counts[bisect_left(self._bounds, seconds)] += 1
        series.sum += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._what, labels=self._labels)
        for labels, series in self._series.items():
            total, buckets = 0, []
            for name, count in zip(self._names, series.counts, strict=True):
                total += count
                buckets.append((name, total))
            family.add_metric(labels, buckets, series.sum)
        yield family


class _Series:
    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0
