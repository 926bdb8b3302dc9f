"""The ledger after whole answers, cuts, refusals, clients that leave, and processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.ledger.store import TABLE
from proxy.testing.script import Rst, Stall, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.e2e.test_usage import command

Serve = Callable[..., Any]

LIVES = 3  # of the proxy, all but the last ended by SIGKILL
REQUESTS = 300  # in each

CONFIG = """
    usage: {store: "sqlite:///FOLDER/usage.db"}
    prices: {"*": {input_per_million: 1, output_per_million: 10}}
    backends:
      far: {kind: openai-compatible, base_url: "URL"}
      near: {kind: openai-compatible, base_url: "URL"}
    routes: [{name: default, to: [far/m, near/m], timeouts: {token_gap_s: 2}}]
"""


def answers(chance: random.Random) -> Callable[[Seen], Any]:
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}

    def answer(_: Seen) -> Any:
        match chance.randrange(6):
            case 0:
                return json_reply(503, {"error": {"message": "overloaded"}})
            case 1:
                return [*openai_stream(["One", " two"], finish=None, done=False), Rst()]
            case 2:
                return [*openai_stream(["One"], finish=None, done=False), Stall()]
            case _:
                return openai_stream(["One", " two", " three"], usage=usage)

    return answer


async def ask(client: aiohttp.ClientSession, url: str, chance: random.Random) -> None:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    leaves_after = chance.choice([None, None, 0.0, 0.02, 0.2])
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
        async with asyncio.timeout(leaves_after), client.post(f"{url}/v1/chat/completions", json=body) as answer:
            await answer.read()


@pytest.mark.heavy
async def test_after_cuts_and_kills_each_row_is_there_once_and_the_metrics_agree(serve: Serve, tmp_path: Path):
    chance = random.Random(11)
    async with ScriptedUpstream() as upstream, aiohttp.ClientSession() as client:
        upstream.decide(answers(chance))
        text = CONFIG.replace("FOLDER", str(tmp_path)).replace("URL", upstream.url)
        seen = []
        for life in range(LIVES):
            proxy = await serve(text)
            asked = [asyncio.create_task(ask(client, proxy.url, chance)) for _ in range(REQUESTS)]
            if life < LIVES - 1:
                await asyncio.wait(asked, timeout=chance.uniform(0.5, 1.5))
                proxy.signal(signal.SIGKILL)
                await proxy.exit_code()
            await asyncio.gather(*asked)
            seen.append(proxy)
        found = await asyncio.to_thread(command, proxy, "--check", "--url", proxy.url)
        assert found.returncode == 0, found.stdout + found.stderr
        assert ", 0 in the spool" in found.stdout
    with contextlib.closing(sqlite3.connect(tmp_path / "usage.db")) as store:
        rows, once = store.execute(f"SELECT count(*), count(DISTINCT id || ':' || attempt) FROM {TABLE}").fetchone()
        kinds = {usage for (usage,) in store.execute(f"SELECT DISTINCT usage FROM {TABLE}")}
    logged = sum(line.count('"status"') > 0 for one in seen for line in one.logged if "request_end" in line)
    assert rows == once
    assert kinds == {"reported", "estimated", "none"}
    assert rows >= REQUESTS
    assert logged > REQUESTS
