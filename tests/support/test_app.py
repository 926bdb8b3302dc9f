"""Proxies in the test's own loop, and what is asked of them when they are closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import openai_config, proxies

ASK = {"messages": [{"role": "user", "content": "hi"}]}


async def asked(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.post(url + "/chat", json=ASK) as answer:
        return await answer.text()


async def test_a_proxy_may_open_connections_while_a_later_one_runs(tmp_path: Path, upstream: ScriptedUpstream):
    upstream.always(*openai_stream(["hello"]))
    async with proxies(tmp_path) as start:
        first = await start(openai_config(upstream.url))
        await start(openai_config(upstream.url))
        assert "hello" in await asked(first.url)  # its connection to the upstream stays, until it is closed too


async def test_what_a_proxy_leaves_behind_is_found(tmp_path: Path):
    async def forgotten() -> None:
        await asyncio.sleep(3600)

    left = []
    with pytest.raises(AssertionError, match="lonely"):
        async with proxies(tmp_path, within=0.05) as start:
            await start("backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo/m}]")
            left.append(asyncio.create_task(forgotten(), name="lonely"))
    left[0].cancel()
