"""What is there at the moment, as metrics: the slots of targets with `concurrency`, and answers that can be resumed."""

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from proxy.telemetry.series import filled


def slot_gauges(queues: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    """How many slots each target has, how many are taken, and how many requests wait for one."""
    slots = GaugeMetricFamily(
        "chat_proxy_target_slots",
        "Targets with `concurrency`: `slots` there are, `taken` ones, and requests that are `waiting` for one.",
        labels=("target", "state"),
    )
    yield filled(slots, [((name, state), count) for name, counts in queues.items() for state, count in counts.items()])


def stream_gauges(counts: Mapping[str, int]) -> Iterator[Metric]:
    """How many answers can be resumed, how many read them, and how many bytes they hold."""
    streams = GaugeMetricFamily(
        "chat_proxy_resumable_streams",
        "Answers that can be resumed: those that are `running`, and `kept` ones, which are over.",
        labels=("state",),
    )
    yield filled(streams, [((state,), counts[state]) for state in ("running", "kept")])
    yield GaugeMetricFamily("chat_proxy_resumable_bytes", "Bytes of those answers.", counts["bytes"])
    yield GaugeMetricFamily("chat_proxy_resumable_readers", "Clients that read one of them.", counts["readers"])
