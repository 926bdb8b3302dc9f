"""`chat-proxy explain --last` and `--request ID`, against a proxy that runs."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import aiohttp
from click.testing import CliRunner

from proxy.cli import main

CONFIG = """
    backends:
      echo: {kind: echo}
      far: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1"}
    routes:
      - {name: far, match: {model: m}, to: [far/x, echo/echo]}
      - {name: default, to: echo/echo}
"""
KEY = "cp-a-key-that-is-long-enough-to-be-one"


async def explained(*arguments):
    return await asyncio.to_thread(CliRunner().invoke, main, ["explain", *arguments])


async def ask(proxy, key="", **body):
    headers = {"X-Request-Id": "mine"} | ({"Authorization": f"Bearer {key}"} if key else {})
    async with (
        aiohttp.ClientSession(proxy.url) as http,
        http.post(
            "/chat", json={"messages": [{"role": "user", "content": "words"}], **body}, headers=headers
        ) as answer,
    ):
        await answer.read()


async def test_the_last_request_and_one_by_its_id(start_proxy):
    proxy = await start_proxy(CONFIG)
    empty = await explained("--last", "--url", proxy.url)
    assert (empty.exit_code, empty.stderr.count("\n")) == (1, 1)
    await ask(proxy, model="m")
    await proxy.ended()
    for arguments in (["--last"], ["--request", "mine"]):
        result = await explained(*arguments, "--url", proxy.url + "/")
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert lines[:5] == [
            "request mine: /chat, contract chat", "model m, key anonymous", "", "routes:", "  far: takes it",
        ]  # fmt: skip
        assert lines[7].startswith("  1. far/x: 502 upstream_connect")
        assert lines[8].startswith("  2. echo/echo: ")
        assert lines[10].startswith("done ")
        assert "words" not in result.stdout
    found = json.loads((await explained("--last", "--url", proxy.url, "--json")).stdout)
    assert found["request_id"] == "mine"


async def test_the_address_is_that_of_the_config(start_proxy, tmp_path):
    proxy = await start_proxy(CONFIG)
    await ask(proxy)
    await proxy.ended()
    file = tmp_path / "mine.yaml"
    file.write_text(f"server: {{host: 0.0.0.0, port: {proxy.port}}}\nauth: off\n" + proxy.config.read_text())
    result = await explained("-c", str(file), "--request", "mine")
    assert result.exit_code == 0, result.output
    assert "  far: wants model m, got nothing\n  default: takes it\n" in result.stdout


async def test_a_proxy_that_asks_for_a_key(start_proxy):
    proxy = await start_proxy(CONFIG + f'    auth: {{keys: [{{name: web, key: "{KEY}"}}]}}\n')
    await ask(proxy, KEY)
    await proxy.ended()
    refused = await explained("--last", "--url", proxy.url)
    assert refused.exit_code == 1
    assert "--api-key" in refused.stderr
    assert (await explained("--last", "--url", proxy.url, "--api-key", KEY)).exit_code == 0


async def test_what_is_not_there_is_one_sentence(start_proxy, tmp_path: Path):
    proxy = await start_proxy(CONFIG)
    unknown = await explained("--request", "../no such", "--url", proxy.url)
    assert unknown.exit_code == 1
    assert "500" in unknown.stderr
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        nobody = await explained("--last", "--url", url)
    assert url in nobody.stderr
    assert nobody.stderr.count("\n") == 1
    assert (await explained("--last", "--url", "localhost:1")).exit_code == 2
    assert (await explained("--last", "--model", "m")).exit_code == 2
