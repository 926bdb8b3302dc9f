"""Metrics of the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from proxy.config.usage import UsageSettings
    from proxy.ledger.writer import Ledger


class LedgerMetrics(Collector):
    """Reads what the ledgers of this process count. Nothing is shown where there is none."""

    def __init__(self, ledgers: Mapping[UsageSettings, Ledger]) -> None:
        self._ledgers = ledgers

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        if not self._ledgers:
            return
        ledgers = self._ledgers.values()
        rows = CounterMetricFamily(
            "chat_proxy_usage_rows", "Rows for the usage ledger: one for each attempt.", labels=("state",)
        )
        lost = sum([ledger.lost for ledger in ledgers])
        rows.add_metric(("kept",), sum([ledger.rows for ledger in ledgers]) - lost)
        rows.add_metric(("lost",), lost)
        yield rows
        yield CounterMetricFamily(
            "chat_proxy_usage_store_failures",
            "How often the store of the usage ledger could not be reached.",
            value=sum([ledger.failures for ledger in ledgers]),
        )
