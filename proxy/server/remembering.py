"""Bring budgets up to what the ledger says was spent before a start."""

import asyncio
from collections.abc import Callable

import structlog

from proxy.pipeline.spending import BILLION
from proxy.server.snapshot import ConfigSnapshot
from proxy.store.base import Store

log = structlog.get_logger("proxy.budgets")

AGAIN_S = 10.0
"""After how long a ledger that cannot be read is asked again."""


async def keep_remembering(snapshot: Callable[[], ConfigSnapshot], store: Store) -> None:
    """Try `remember_spending` until the ledger can be read."""
    while True:
        if await remember_spending(snapshot(), store):
            return
        await asyncio.sleep(AGAIN_S)


async def remember_spending(snapshot: ConfigSnapshot, store: Store) -> bool:
    """Count in budgets at least what was spent in their period, whatever a store has forgotten.

    False if the ledger cannot be read.
    """
    usage, budgets = snapshot.config.settings.usage, snapshot.admission and snapshot.admission.budgets
    found = budgets.all(snapshot.keys.principals) if budgets else []
    if usage is None or not found:
        return True
    from proxy.ledger.check import spent  # noqa: PLC0415 - not loaded where it is off

    whose = [(one.meter.scope, one.meter.owner, one.began) for one in found]
    try:
        sums = await asyncio.to_thread(spent, usage, whose)
    except Exception as error:  # of its driver, or of the disk: no reason not to serve
        log.warning("budgets_begin_empty", error=type(error).__name__, message="the ledger cannot be read")
        return False
    for budget, usd in zip(found, sums, strict=True):
        store.remember(budget.meter, round(usd * BILLION))
    return True
