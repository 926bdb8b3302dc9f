"""What budgets are told of the ledger, also when it cannot be read at first."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.config.models import Settings
from proxy.pipeline.spending import BILLION, Budgets
from proxy.policy.prices import Prices
from proxy.routing.principal import Principal
from proxy.server import remembering
from proxy.store.base import Lease, Want
from proxy.store.memory import MemoryStore

SETTINGS = Settings.model_validate({
    "usage": {},
    "auth": {"budget": {"usd": 5.0}, "keys": []},
    "backends": {"a": {"kind": "echo"}},
    "routes": [{"name": "r", "to": ["a/m"]}],
})  # fmt: skip


async def test_a_ledger_that_is_away_is_asked_until_it_answers(monkeypatch: pytest.MonkeyPatch):
    answers: list[Any] = [sqlite3.OperationalError("away"), sqlite3.OperationalError("away"), [3.0]]

    def spent(_: object, whose: list[tuple[str, str, float]]) -> list[float]:
        assert [one[:2] for one in whose] == [("key", "of the store")]
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("proxy.ledger.check.spent", spent)
    monkeypatch.setattr(remembering, "AGAIN_S", 0.0)
    store, budgets = MemoryStore(lambda: 0.0), Budgets(SETTINGS, Prices({}, {}))
    key = Principal("of the store")
    snapshot: Any = SimpleNamespace(
        config=SimpleNamespace(settings=SETTINGS),
        admission=SimpleNamespace(budgets=budgets),
        keys=SimpleNamespace(principals=[key]),
    )
    await remembering.keep_remembering(lambda: snapshot, store)
    (budget,) = budgets.of(key, "r")
    _, (room,) = store.take_now(Lease(1.0, (Want(budget.meter, 0, 0),)))
    assert (answers, room.left) == ([], 2 * BILLION)
