"""What budgets know at a start: what the ledger says was spent before."""

from __future__ import annotations

import asyncio

import structlog

from proxy.pipeline.spending import BILLION
from proxy.server.snapshot import ConfigSnapshot
from proxy.store.base import Store
from proxy.store.memory import MemoryStore

log = structlog.get_logger("proxy.budgets")


async def remember_spending(snapshot: ConfigSnapshot, store: Store) -> None:
    """Budgets that are counted in memory, and that are new there, begin with what was spent in their period."""
    usage, budgets = snapshot.config.settings.usage, snapshot.admission and snapshot.admission.budgets
    if usage is None or not budgets or not isinstance(store, MemoryStore):
        return
    from proxy.ledger.check import spent  # noqa: PLC0415 - not loaded where it is off

    found = budgets.all()
    whose = [(one.meter.scope, one.meter.owner, one.began) for one in found]
    try:
        sums = await asyncio.to_thread(spent, usage, whose)
    except Exception as error:  # of its driver, or of the disk: no reason not to serve
        log.warning("budgets_begin_empty", error=type(error).__name__, message="the ledger cannot be read")
        return
    for budget, usd in zip(found, sums, strict=True):
        store.remember(budget.meter, round(usd * BILLION))
