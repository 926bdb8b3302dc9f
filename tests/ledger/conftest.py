from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.config.usage import UsageSettings
from proxy.ledger.store import TABLE, LedgerStore
from tests.support import postgres
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres.running() as server:
        yield server


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer to write than a stopping proxy waits."""
    monkeypatch.setattr("proxy.ledger.writer.CLOSE_S", 60)


@pytest.fixture
def settings(tmp_path: Path) -> UsageSettings:
    """A ledger in a file of the test."""
    return UsageSettings.model_validate({"store": f"sqlite:///{tmp_path}/usage.db", "spool": str(tmp_path / "spool")})


@pytest.fixture
def in_postgres(tmp_path: Path, server: PostgresServer) -> Iterator[UsageSettings]:
    """A ledger in a real server, with an empty table."""
    settings = UsageSettings.model_validate({"store": server.url, "spool": str(tmp_path / "spool")})
    yield settings
    store = LedgerStore(settings)
    store.delete_before(float("inf"))
    store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[LedgerStore]:
    """Both kinds, one after the other."""
    name = "settings" if request.param == "sqlite" else "in_postgres"
    store = LedgerStore(request.getfixturevalue(name))
    yield store
    store.close()


@pytest.fixture
def ids(settings: UsageSettings) -> Iterator[Callable[[], list[str]]]:
    """The ids in the file."""
    store = LedgerStore(settings)
    yield lambda: ids_in(store)
    store.close()


def ids_in(store: LedgerStore) -> list[str]:
    return [id for (id,) in store.select(f"SELECT id FROM {TABLE} ORDER BY id")]
