from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.config.usage import UsageSettings
from proxy.ledger.store import LedgerStore


@pytest.fixture
def settings(tmp_path: Path) -> UsageSettings:
    """A ledger in a file of the test."""
    return UsageSettings.model_validate({"store": f"sqlite:///{tmp_path}/usage.db", "spool": str(tmp_path / "spool")})


@pytest.fixture
def store(settings: UsageSettings) -> Iterator[LedgerStore]:
    store = LedgerStore(settings)
    yield store
    store.close()


@pytest.fixture
def ids(store: LedgerStore) -> Callable[[], list[str]]:
    """The ids in the store."""
    return lambda: [id for (id,) in store.select("SELECT id FROM chat_proxy_usage ORDER BY id")]
