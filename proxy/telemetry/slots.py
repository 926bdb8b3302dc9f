"""The slots of targets with `concurrency`, as metrics."""

from __future__ import annotations

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
