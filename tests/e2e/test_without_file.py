"""`chat-proxy` where no config.yaml is: serves what the machine has, and takes up a file that appears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

WRITTEN = "backends: {echo: {kind: echo}}\nroutes: [{name: written, to: echo/echo}]\n"


@pytest.fixture
async def ollama() -> AsyncIterator[str]:
    """A model server with two models; the second one answers with the name it was asked by."""

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "nomic-embed-text:latest"}, {"id": "llama3.2:latest"}]})

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = (await request.json())["model"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": asked}
        delta = {"index": 0, "delta": {"content": f"I am {asked}"}, "finish_reason": None}
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        for choice in (delta, end):
            await response.write(b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    yield f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    await runner.cleanup()


PATIENT = """
from proxy.__main__ import run
from proxy.detect.servers import ask
ask.__kwdefaults__["within_s"] = 30  # a busy machine may take longer than 0.8 s
run()
"""


@contextlib.asynccontextmanager
async def started(
    folder: Path, *options: str, command: tuple[str, ...] = ("serve",), **env: str
) -> AsyncIterator[tuple[str, str]]:
    """Run it in `folder`; gives its address and what it printed before."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PATIENT, *command, "--port", "0", *options, cwd=folder, env={**clean, **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        printed = b""
        async with asyncio.timeout(60):
            while not (found := re.search(rb"listening on (http://\S+)", printed)):
                line = await process.stdout.readline()  # type: ignore[union-attr]
                assert line, printed
                printed += line
        yield found[1].decode(), printed.decode()
    finally:
        process.kill()
        await process.communicate()


async def said(http: aiohttp.ClientSession, **body: str) -> str:
    async with http.post("/chat", json={"messages": [{"role": "user", "content": "hi"}], **body}) as answer:
        return re.sub(r"data:|\n|event: done.*", "", (await answer.text()).partition("event: done")[0])


@pytest.mark.parametrize(("command", "workers"), [(("serve",), "1"), (("serve",), "2"), ((), "1")])
async def test_what_the_machine_has_is_served_until_a_file_appears(
    tmp_path: Path, ollama: str, command: tuple[str, ...], workers: str
) -> None:
    async with (
        started(tmp_path, "--workers", workers, command=command, OLLAMA_HOST=ollama) as (url, printed),
        aiohttp.ClientSession(url) as http,
    ):
        assert f"http://{ollama}/v1" in printed
        assert "nomic-embed-text, llama3.2, ollama/…" in printed
        assert list(tmp_path.iterdir()) == []
        assert await said(http) == "I am llama3.2:latest"
        assert await said(http, model="llama3.2") == "I am llama3.2"
        assert await said(http, model="ollama/other") == "I am other"
        assert await said(http, model="echo") == "hi"
        async with http.get("/status") as answer:
            assert not (await answer.json())["config"].get("rejected"), "that there is no file is no mistake"
        (tmp_path / "config.yaml").write_text(WRITTEN)
        async with asyncio.timeout(60):
            while await said(http, model="llama3.2") != "hi":
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("command", [("serve",), ()])
async def test_the_variable_names_a_file(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "other.yaml").write_text(WRITTEN)
    async with started(tmp_path, command=command, CHAT_PROXY_CONFIG="other.yaml") as (_, printed):
        assert "(config: other.yaml)" in printed
