"""What is there at the moment, as metrics: the slots of targets with `concurrency`, and answers that can be resumed."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class SlotGauges(Collector):
    """Reads how many slots each target has, how many are taken, and how many requests wait for one."""

    def __init__(self, read: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "chat_proxy_target_slots",
            "Targets with `concurrency`: `slots` there are, `taken` ones, and requests that are `waiting` for one.",
            labels=("target", "state"),
        )
        for target, counts in self._read().items():
            for state, count in counts.items():
                gauge.add_metric((target, state), count)
        yield gauge


class StreamGauges(Collector):
    """Reads how many answers can be resumed, how many read them, and how many bytes they hold."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        counts = self._read()
        gauge = GaugeMetricFamily(
            "chat_proxy_resumable_streams",
            "Answers that can be resumed: those that are `running`, and `kept` ones, which are over.",
            labels=("state",),
        )
        for state in ("running", "kept"):
            gauge.add_metric((state,), counts[state])
        yield gauge
        yield GaugeMetricFamily("chat_proxy_resumable_bytes", "Bytes of those answers.", counts["bytes"])
        yield GaugeMetricFamily("chat_proxy_resumable_readers", "Clients that read one of them.", counts["readers"])
