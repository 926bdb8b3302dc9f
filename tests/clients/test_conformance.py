"""Every client of the table, against the running proxy: every cell of docs/clients.md that is not excused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
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


def cells() -> list[object]:
    return [
        pytest.param(client, sight, id=f"{client.id} {sight}", marks=_marks(client))
        for client in CLIENTS
        for sight in SIGHTS
        if sight not in client.without
    ]


@pytest.mark.parametrize(("client", "sight"), cells())
async def test_the_program_sees(stage: Stage, client: Client, sight: str) -> None:
    await SIGHTS[sight](stage, client)


_MESSAGES = [{"role": "user", "content": "slow 0"}]
BEATS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "chat": ("/chat", {"messages": _MESSAGES}, b"\n: ping\n\n"),
    "openai": ("/v1/chat/completions", {"messages": _MESSAGES, "model": "any", "stream": True}, b"\n: ping\n\n"),
    "responses": ("/v1/responses", {"input": "slow 0", "model": "any", "stream": True}, b"\n: ping\n\n"),
    "anthropic": (
        "/v1/messages",
        {"messages": _MESSAGES, "model": "any", "max_tokens": 9, "stream": True},
        b'event: ping\ndata: {"type":"ping"}\n\n',
    ),
    "ollama": ("/ollama/api/chat", {"messages": _MESSAGES, "model": "any"}, b'"content":""},"done":false}\n'),
    "ai-sdk": (
        "/api/chat",
        {"trigger": "submit-message", "messages": [{"role": "user", "parts": [{"type": "text", "text": "slow 0"}]}]},
        b"\n: keep-alive\n\n",
    ),
    "ag-ui": (
        "/agui",
        {"threadId": "t", "runId": "r", "protocolVersion": "1.0", "messages": [{"id": "1", **_MESSAGES[0]}]},
        b"\n: ping\n\n",
    ),
}


@pytest.mark.parametrize("contract", BEATS)
async def test_there_are_heartbeats_to_be_unharmed_by(stage: Stage, contract: str) -> None:
    path, body, beat = BEATS[contract]
    async with aiohttp.ClientSession(stage.proxy.url) as http, http.post(path, json=body) as answer:
        assert beat in await answer.read()
