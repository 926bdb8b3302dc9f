"""Metrics of the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from proxy.telemetry.series import filled

if TYPE_CHECKING:
    from proxy.ledger.writer import Ledger


def ledger_metrics(ledgers: Collection[Ledger]) -> Iterator[Metric]:
    """What the ledgers of this process count. Nothing is shown where there is none."""
    if not ledgers:
        return
    lost = sum([ledger.lost for ledger in ledgers])
    kept = sum([ledger.rows for ledger in ledgers]) - lost
    rows = CounterMetricFamily(
        "chat_proxy_usage_rows", "Rows for the usage ledger: one for each attempt.", labels=("state",)
    )
    yield filled(rows, [(("kept",), kept), (("lost",), lost)])
    yield CounterMetricFamily(
        "chat_proxy_usage_store_failures",
        "How often the store of the usage ledger could not be reached.",
        value=sum([ledger.failures for ledger in ledgers]),
    )
