"""deep-chat, the real component in Chromium, connected directly to the contract that is declared for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from aiohttp import web

from proxy.testing.script import Fin, Sleep, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.browser import Page, chromium
from tests.clients.pages import serving_pages
from tests.support import node
from tests.support.app import Running, StartProxy

HERE = Path(__file__).parent
EXAMPLES = node.ROOT / "deploy" / "examples" / "frontends.yaml"
TOKENS = ["Hello", " wörld", ",\n\nevent: done\ndata: x", " 😀"]
TEXT = "".join(TOKENS)

pytestmark = pytest.mark.browser


class Component(NamedTuple):
    """A page with the component, on an origin of its own."""

    page: Page
    origin: str

    async def converse(self, proxy: Running, *says: str, stream: bool = True) -> dict[str, Any]:
        connect = json.dumps({"url": f"{proxy.url}/deep-chat", "stream": stream})
        told: dict[str, Any] = await self.page.run(f"converse({connect}, {json.dumps(says)})")
        return told


@pytest.fixture
async def deep_chat() -> AsyncIterator[Component]:
    modules = await asyncio.to_thread(node.modules, "deep-chat") / "node_modules"
    application = web.Application()
    application.router.add_get("/page.html", _page)
    application.router.add_static("/modules", modules)
    async with serving_pages(application) as origin, chromium() as page:
        await page.open(f"{origin}/page.html")
        yield Component(page, origin)


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(HERE / "deep_chat.html")


async def proxy_for(deep_chat: Component, start_proxy: StartProxy, upstream: ScriptedUpstream) -> Running:
    declared = yaml.safe_load(EXAMPLES.read_text())["frontends"]["deep-chat"]
    config: dict[str, Any] = {
        "server": {"heartbeat_s": 0.05, "cors": {"origins": [deep_chat.origin]}},
        "backends": {"far": {"kind": "openai-compatible", "base_url": upstream.url}},
        "routes": [{"name": "default", "to": "far/scripted-1"}],
        "frontends": {"deep-chat": declared},
    }
    return await start_proxy(json.dumps(config))


@pytest.mark.parametrize("stream", [True, False])
async def test_it_shows_every_text_and_sends_it_back(
    deep_chat: Component, start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool
) -> None:
    proxy = await proxy_for(deep_chat, start_proxy, upstream)
    upstream.play(openai_stream(TOKENS)[:3], Sleep(0.2), openai_stream(TOKENS)[3:])  # heartbeats in between
    upstream.play(*openai_stream(["Second"]))
    told = await deep_chat.converse(proxy, "first", "again", stream=stream)
    assert told["errors"] == []
    assert told["messages"] == [
        {"role": "user", "text": "first"},
        {"role": "ai", "text": TEXT},
        {"role": "user", "text": "again"},
        {"role": "ai", "text": "Second"},
    ]
    assert upstream.requests[1].json()["messages"] == [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": TEXT},
        {"role": "user", "content": "again"},
    ]
    assert [record.stream for record in await proxy.ended(2)] == [stream, stream]


@pytest.mark.parametrize(("stream", "kept"), [(True, [{"role": "ai", "text": "Hello"}]), (False, [])])
async def test_it_shows_why_an_answer_broke_off_and_does_not_ask_again(
    deep_chat: Component, start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool, kept: list[dict[str, str]]
) -> None:
    proxy = await proxy_for(deep_chat, start_proxy, upstream)
    upstream.play(openai_stream(TOKENS)[:3], Fin())
    told = await deep_chat.converse(proxy, "first", stream=stream)
    [error] = told["errors"]
    assert error.endswith("complete")
    assert told["messages"] == [{"role": "user", "text": "first"}, *kept]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_it_shows_why_nothing_came(
    deep_chat: Component, start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool
) -> None:
    proxy = await proxy_for(deep_chat, start_proxy, upstream)
    upstream.play(*json_reply(429, {"error": {"message": "slow down"}}))
    told = await deep_chat.converse(proxy, "first", stream=stream)
    assert told["errors"] == ["slow down"]
    assert told["messages"] == [{"role": "user", "text": "first"}]
