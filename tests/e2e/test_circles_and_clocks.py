"""Proxies that lead to each other, and a wall clock that is set while answers run."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import pytest

from proxy.testing.script import Sleep, Wait, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.wire.hops import MOST
from tests.e2e.test_resume import TOKENS, ask, config, http, until
from tests.support.app import StartProxy

__all__ = ["http"]


class Way:
    """A port that leads to another one, which is known later."""

    def __init__(self) -> None:
        self.to, self.passed = 0, 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        there, back = await asyncio.open_connection("127.0.0.1", self.to)
        await asyncio.gather(_copied(reader, back), _copied(there, writer))


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat"])
async def test_E06_a_request_that_comes_back_is_refused_after_a_few_hops(
    start_proxy: StartProxy, http: aiohttp.ClientSession, path: str
) -> None:
    way = Way()
    server = await asyncio.start_server(way.carry, "127.0.0.1", 0)
    async with server:
        proxy = await start_proxy(f"""
            backends: {{us: {{kind: openai-compatible, base_url: "http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"}}}}
            routes: [{{name: default, to: us/m}}]
        """)
        way.to = proxy.port
        refused = await ask(http, proxy, path)
        assert b"proxies already" in await refused.read()
        records = await proxy.ended(MOST + 1)
        assert way.passed == MOST
        assert [record.error_code for record in records if record.status == 508][:1] == ["loop_detected"]


async def test_E06_a_proxy_behind_another_one_is_no_circle(
    start_proxy: StartProxy, upstream: ScriptedUpstream, http: aiohttp.ClientSession
) -> None:
    upstream.always(*openai_stream(TOKENS))
    proxy = await start_proxy(config(upstream, "null"))
    path, agent = "/v1/chat/completions", {"User-Agent": "chat-proxy/0.1.0"}
    for headers, passed in [
        (agent, "2"),
        ({**agent, "x-chat-proxy-hops": "3"}, "4"),
        ({"x-chat-proxy-hops": "3"}, None),
    ]:
        answer = await ask(http, proxy, path, **headers)
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert upstream.requests[-1].headers.get("x-chat-proxy-hops") == passed, "a vendor sees none"
    assert (await ask(http, proxy, path, **agent, **{"x-chat-proxy-hops": "no number"})).status == 508


@pytest.mark.parametrize("step_s", [3600, -3600])
async def test_E07_a_clock_that_is_set_changes_nothing(
    start_proxy: StartProxy,
    upstream: ScriptedUpstream,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    step_s: float,
) -> None:
    """In the middle of an answer: it goes on, can be resumed, its silence is noticed in time, a breaker opens and closes."""
    now = time.time
    gate = asyncio.Event()
    events = openai_stream(TOKENS)
    upstream.play(events[:7], Wait(gate), events[7:])
    upstream.play(events[:5], Sleep(60))
    upstream.play(*json_reply(503, {"error": {"message": "down"}}), times=2)
    upstream.always(*openai_stream(TOKENS))
    proxy = await start_proxy(
        config(upstream, more=", timeouts: {token_gap_s: 3, total_s: 100}").replace(
            "server: {", "server: {breaker: {failures: 2, open_s: 0.3}, "
        )
    )
    first = await ask(http, proxy, "/v1/chat/completions")
    begun = await until(first, b"w4")
    monkeypatch.setattr(time, "time", lambda: now() + step_s)
    await asyncio.sleep(0.2)
    gate.set()
    assert (begun + await first.read()).endswith(b"data: [DONE]\n\n")
    again = await http.get(f"{proxy.url}/streams/{first.headers['X-Stream-Id']}")
    assert (await again.read()).endswith(b"data: [DONE]\n\n")
    silent = await ask(http, proxy, "/v1/chat/completions")
    async with asyncio.timeout(60):
        assert b"[DONE]" not in await silent.read()
    assert [(await ask(http, proxy, "/v1/chat/completions")).status for _ in range(2)] == [503, 503]
    assert set((await (await http.get(f"{proxy.url}/status")).json())["circuits_open"]) == {"far/scripted-1"}
    async with asyncio.timeout(60):
        while (await (await http.get(f"{proxy.url}/status")).json())["circuits_open"]:
            await (await ask(http, proxy, "/v1/chat/completions")).read()
            await asyncio.sleep(0.05)
    ends = [record.end for record in await proxy.ended(4)]
    assert ends[:2] == ["done", "upstream_idle"]
    assert all(record.duration_s < 60 for record in proxy.records)
