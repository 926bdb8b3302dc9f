"""Who used what: the ledger of a proxy that runs, its page and its commands."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app import App
from tests.support.app import Process, Running, StartProxy

Serve = Callable[..., Any]

WEB, OWN = "a-key-for-the-web-client", "a-key-for-one-route-only"

CONFIG = """
    usage: {store: "sqlite:///FOLDER/usage.db"}
    auth:
      keys:
        - {name: web, sha256: "WEB"}
        - {name: own, sha256: "OWN", routes: [default]}
    backends: {echo: {kind: echo}}
    routes: [{name: default, to: echo}]
"""


def config_in(folder: Path) -> str:
    text = CONFIG.replace("FOLDER", str(folder))
    return text.replace("WEB", digest(WEB)).replace("OWN", digest(OWN))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def say(url: str, key: str = WEB, **body: Any) -> bytes:
    message = {"messages": [{"role": "user", "content": "one two three"}], **body}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as client,
        client.post(f"{url}/chat", json=message) as answer,
    ):
        assert answer.status == 200
        return await answer.read()


async def page(url: str, query: str = "", key: str = WEB) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as client,
        client.get(f"{url}/usage{query}") as answer,
    ):
        return answer.status, await answer.text()


async def groups(url: str, query: str, requests: int, key: str = WEB) -> dict[str, Any]:
    """What the page says when so many requests are there."""
    async with asyncio.timeout(60):
        while True:
            status, text = await page(url, query, key)
            if status == 200 and json.loads(text)["total"]["requests"] >= requests:
                return json.loads(text)
            await asyncio.sleep(0.02)


async def test_operators_see_all_and_limited_keys_their_own(start_proxy: StartProxy, tmp_path: Path):
    proxy = await start_proxy(config_in(tmp_path))
    await say(proxy.url, WEB)
    await say(proxy.url, WEB, user="anna")
    await say(proxy.url, OWN)
    everything = await groups(proxy.url, "?by=key,model", 3)
    assert {(one["key"], one["model"], one["requests"]) for one in everything["groups"]} == {
        ("web", "echo", 2),
        ("own", "echo", 1),
    }
    own = await groups(proxy.url, "?by=key", 1, OWN)
    assert [one["key"] for one in own["groups"]] == ["own"]
    assert own["total"]["requests"] == 1
    assert own["total"]["input_tokens"] == 3
    status, text = await page(proxy.url, "?by=user&format=csv")
    assert (status, "anna" in text) == (200, True)
    assert (await page(proxy.url, "?by=word"))[0] == 400
    assert (await page(proxy.url, "?since=tomorrow"))[0] == 400
    assert (await page(proxy.url, "?format=xml"))[0] == 400
    assert (await page(proxy.url, key="wrong"))[0] == 401
    ledger = proxy.app.ledger
    assert ledger is not None
    assert ledger.state()["rows"] == 3


async def test_a_client_that_leaves_is_in_the_ledger(start_proxy: StartProxy, tmp_path: Path):
    config = config_in(tmp_path).replace("kind: echo", "kind: echo, first_token_ms: 60000")
    proxy = await start_proxy(config)
    leaving = asyncio.create_task(say(proxy.url))
    async with asyncio.timeout(60):
        while not proxy.app.active:
            await asyncio.sleep(0.005)
    leaving.cancel()
    left = await groups(proxy.url, "?by=end,outcome", 1)
    assert [(one["end"], one["outcome"]) for one in left["groups"]] == [("client_gone", "client_gone")]


async def test_a_whole_answer_says_what_it_cost_and_the_metrics_agree(start_proxy: StartProxy, tmp_path: Path):
    priced = "    prices: {echo/*: {input_per_million: 1, output_per_million: 10}}"
    proxy = await start_proxy(config_in(tmp_path) + priced + "\n")
    body = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {WEB}"}) as client:
        async with client.post(f"{proxy.url}/v1/chat/completions", json=body) as answer:
            assert answer.headers["X-Chat-Cost"] == "0.000033"
        async with client.post(f"{proxy.url}/v1/chat/completions", json=body | {"stream": True}) as answer:
            assert "X-Chat-Cost" not in answer.headers
            await answer.read()
        found = await groups(proxy.url, "?by=key,route", 2)
        assert found["total"]["cost_usd"] == pytest.approx(0.000066)
        assert found["total"]["unpriced"] == 0
        async with client.get(f"{proxy.url}/metrics") as answer:
            sample = 'chat_proxy_cost_usd_total{backend="echo",key="web",model="other",route="default"} 6.6e-05'
            assert sample in await answer.text()


async def test_a_cost_that_nobody_knows_is_no_zero(start_proxy: StartProxy, tmp_path: Path):
    proxy = await start_proxy(config_in(tmp_path))
    body = {"model": "m", "messages": [{"role": "user", "content": "one two three"}]}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {WEB}"}) as client:
        async with client.post(f"{proxy.url}/v1/chat/completions", json=body) as answer:
            assert "X-Chat-Cost" not in answer.headers
        found = await groups(proxy.url, "?by=key", 1)
        assert (found["total"]["cost_usd"], found["total"]["unpriced"]) == (None, 1)
        async with client.get(f"{proxy.url}/metrics") as answer:
            text = await answer.text()
    assert 'chat_proxy_cost_unknown_attempts_total{backend="echo",model="other"} 1.0' in text
    assert "chat_proxy_cost_usd_total{" not in text


async def test_without_usage_there_is_no_page(start_proxy: StartProxy):
    proxy = await start_proxy("{backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}")
    status, text = await page(proxy.url)
    assert (status, "no `usage`" in text) == (404, True)


async def test_a_reload_turns_it_on_and_off(start_proxy: StartProxy, tmp_path: Path):
    proxy = await start_proxy(config_in(tmp_path))
    on = proxy.config.read_text()
    proxy.rewrite(on.replace("usage:", "# usage:"))
    await proxy.app.reload()
    assert proxy.app.ledger is None
    await say(proxy.url)
    proxy.config.write_text(on)
    await proxy.app.reload()
    await say(proxy.url)
    assert (await groups(proxy.url, "", 1))["total"]["requests"] == 1
    assert len([sink for sink in proxy.app.sinks if sink is proxy.app.ledger]) == 1


def command(proxy: Running | Process, *arguments: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "proxy", "usage", "-c", str(proxy.config), *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=150, check=False)


async def test_the_commands_say_the_same_as_the_metrics(start_proxy: StartProxy, tmp_path: Path):
    proxy = await start_proxy(config_in(tmp_path))
    for _ in range(5):
        await say(proxy.url)
    found = await asyncio.to_thread(command, proxy, "--check", "--url", proxy.url, "--api-key", WEB)
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"rows: 5\b.*\b5\b", found.stdout)
    table = await asyncio.to_thread(command, proxy, "--by", "key", "--since", "1d")
    assert table.stdout.splitlines()[-1].split()[:3] == ["total", "5", "5"]
    assert (await asyncio.to_thread(command, proxy, "--by", "word")).returncode == 2
    assert proxy.app.ledger is not None
    proxy.app.ledger.rows += 1  # a row that the metrics count and the ledger does not have
    differs = await asyncio.to_thread(command, proxy, "--check", "--url", proxy.url, "--api-key", WEB)
    assert differs.returncode == 1
    assert re.search(r"rows: 5\b.*\b6\b", differs.stdout)


async def test_a_spool_that_cannot_be_is_an_error_of_the_config(start_proxy: StartProxy, tmp_path: Path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "bad.yaml"
    path.write_text(
        f'{{usage: {{store: "sqlite:///{tmp_path}/u.db", spool: "{tmp_path}/file/spool"}}, '
        "backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}"
    )
    app = App(str(path))
    with pytest.raises(Exception, match=r"usage\.spool"):
        await app.start()
    await app.aclose()


async def test_the_password_of_the_store_is_in_no_log_and_no_page(serve: Serve, tmp_path: Path):
    password = "sesame-of-the-ledger"
    store = f"postgresql://me:{password}@127.0.0.1:1/usage"
    proxy = await serve(
        f'{{usage: {{store: "{store}", spool: "{tmp_path}/spool"}}, backends: {{echo: {{kind: echo}}}}, '
        "routes: [{name: default, to: echo}]}"
    )
    await say(proxy.url)
    async with asyncio.timeout(60), aiohttp.ClientSession() as client:
        while not any("usage_store_away" in line for line in proxy.logged):
            await asyncio.sleep(0.02)
        async with client.get(f"{proxy.url}/status") as answer:
            status = await answer.text()
        async with client.get(f"{proxy.url}/usage") as answer:
            assert answer.status == 503
            told = await answer.text()
    assert '"reachable":false' in status
    assert password not in status + told + "".join(proxy.logged)


OFF = """
import asyncio, sys
from proxy.app import App
async def main():
    app = App(sys.argv[1])
    await app.start()
    loaded = {"sqlite3", "psycopg", "genai_prices", "proxy.ledger.writer"} & sys.modules.keys()
    await app.aclose()
    print(sorted(loaded))
asyncio.run(main())
"""


def test_where_it_is_off_nothing_of_it_is_loaded(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("{backends: {echo: {kind: echo}}, routes: [{name: default, to: echo}]}")
    ran = subprocess.run(
        [sys.executable, "-c", OFF, str(path)], capture_output=True, text=True, timeout=150, check=False
    )
    assert ran.stdout.strip() == "[]", ran.stderr
