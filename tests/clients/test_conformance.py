"""Every client of the table, against the running proxy: every cell of docs/clients.md that is not excused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients.sights import SIGHTS
from tests.clients.stage import Stage, staged
from tests.clients.table import ALWAYS, CLIENTS, Client

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as set_up:
        yield set_up


def _marks(client: Client) -> list[pytest.MarkDecorator]:
    if client.environment not in ALWAYS:
        return [pytest.mark.clients]
    return [pytest.mark.browser] if client.environment == "Node" else []


def _cells() -> list[object]:
    return [
        pytest.param(client, sight, id=f"{client.id} {sight}", marks=_marks(client))
        for client in CLIENTS
        for sight in SIGHTS
        if sight not in client.without
    ]


@pytest.mark.parametrize(("client", "sight"), _cells())
async def test_the_program_sees(stage: Stage, client: Client, sight: str) -> None:
    await SIGHTS[sight](stage, client)
