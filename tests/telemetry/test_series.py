"""Our series against prometheus_client's own, which say what Prometheus expects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from proxy.telemetry.series import Counts, Timings

BOUNDS = (0.1, 0.5, 1, 2.5)
LABELS = ("route", "backend")

disable_created_metrics()
names = st.sampled_from(["a", "b", 'quoted "name"\n'])


def text(collector: Collector) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


@given(st.lists(st.tuples(names, names, st.integers(0, 10**12))))
def test_counts_read_as_a_counter_s(added):
    ours, theirs = Counts("asked", "What it is.", LABELS), Counter("asked", "What it is.", LABELS, registry=None)
    for route, backend, count in added:
        ours.add(route, backend, count=count)
        theirs.labels(route, backend).inc(count)
    assert text(ours) == text(theirs)


@given(st.lists(st.tuples(names, names, st.sampled_from([*BOUNDS, 0.0, 0.3, 7.25, 1e9]))))
def test_timings_read_as_a_histogram_s_also_on_the_bounds(observed):
    ours = Timings("took_seconds", "What it is.", LABELS, BOUNDS)
    theirs = Histogram("took_seconds", "What it is.", LABELS, buckets=BOUNDS, registry=None)
    for route, backend, seconds in observed:
        ours.observe(seconds, route, backend)
        theirs.labels(route, backend).observe(seconds)
    assert text(ours) == text(theirs)
