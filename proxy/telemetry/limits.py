"""Metrics of limits: how full they are, and how often each refused. Names are those of the config and of stored keys."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.store.base import Meter, Room, Want
from proxy.telemetry.series import Counts, filled

MOST_NAMES = 1000  # owners of limits with a label of their own; all others are `other`
OTHER = "other"

_LABELS = ("scope", "name", "limit")


class LimitMetrics(Collector):
    """See `Watcher`. `state` is what the store says of itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.state: Callable[[], dict[str, object]] = dict
        self._names: set[str] = set()
        self._used: dict[tuple[str, str, str], float] = {}
        self._denials = Counts(
            "chat_proxy_limit_denials", "Requests (for targets: attempts) that a limit refused.", _LABELS
        )
        registry.register(self._denials)
        registry.register(self)

    def rooms(self, wants: Sequence[Want], rooms: Sequence[Room]) -> None:
        """See `Watcher`. Of the many users of a key, the last that asked counts."""
        for want, room in zip(wants, rooms, strict=True):
            meter = want.meter
            owner = meter.owner if meter.owner in self._names else self._label(meter.owner)
            self._used[meter.scope, owner, meter.unit] = 1 - room.left / meter.limit

    def denied(self, meter: Meter) -> None:
        """See `Watcher`."""
        self._denials.add(meter.scope, self._label(meter.owner), meter.unit)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        used = GaugeMetricFamily(
            "chat_proxy_limit_used_ratio",
            "How much of a limit was used or reserved when it was last asked; 1 is all.",
            labels=_LABELS,
        )
        yield filled(used, self._used.items())
        state = self.state()
        yield GaugeMetricFamily(
            "chat_proxy_store_reachable",
            "1 if the store that counts limits answers; memory always does.",
            value=float(bool(state.get("reachable", True))),
        )

    def _label(self, owner: str) -> str:
        if owner not in self._names:
            if len(self._names) >= MOST_NAMES:
                return OTHER
            self._names.add(owner)
        return owner
