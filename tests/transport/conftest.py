"""Every test here runs on both event loops, and must leave no task, connection or descriptor behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from bench.aiohttp_transport import AiohttpTransport
from proxy.testing.upstream import ScriptedUpstream, eventually
from proxy.transport import HttpTransport, Request, Response
from tests.support.connections import connections
from tests.transport.paced import Far

Ask = Callable[..., Awaitable[Response]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def transport(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpTransport]:
    monkeypatch.setattr("proxy.transport.http1.STALE_WITHIN_S", 60)  # a busy machine may take longer than 2 s
    other = os.environ.get("TRANSPORT") == "aiohttp"  # which of these tests would it pass?
    http = AiohttpTransport() if other else HttpTransport(proxies={})
    yield http
    await http.aclose()
    assert connections(http).open == 0
    await eventually(lambda: not other_tasks())


def other_tasks() -> set[asyncio.Task[Any]]:
    """All tasks but the one that asks and the harness's own."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return {task for task in tasks if task.get_coro().__qualname__ != "_Connection._serve"}


@pytest.fixture
async def ask(transport: HttpTransport, upstream: ScriptedUpstream) -> AsyncIterator[Ask]:
    """Open a request to the scripted upstream; closed after the test if the test does not."""
    opened: list[Response] = []

    async def open_one(
        body: bytes = b"{}", *, method: str = "POST", url: str = "", headers: dict[str, str] | None = None, **more: Any
    ) -> Response:
        request = Request(
            method=method,
            url=url or f"{upstream.url}/chat/completions",
            headers={"authorization": "Bearer test"} if headers is None else headers,
            body=body,
            **{"connect_s": 60, **more},
        )
        response = await transport.open(request)
        opened.append(response)
        return response

    yield open_one
    for response in opened:
        response.close()


@pytest.fixture
def far(upstream: ScriptedUpstream, ask: Ask, transport: HttpTransport) -> Far:
    return Far(upstream, ask, transport, 9)
