"""Open WebUI before the proxy, used in Chromium. With `PICTURES=docs/pictures` it takes the picture of its page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.testing.upstream import ScriptedUpstream
from tests.clients.browser import chromium
from tests.openwebui.scripted import TOOL, WORDS, answer
from tests.support import node
from tests.support.app import Running, StartProxy
from tests.support.need import cannot_run
from tests.web.tab import Tab

pytestmark = pytest.mark.openwebui

PROGRAM = node.ROOT / ".make" / "openwebui" / "bin" / "open-webui"
WITHIN_S = 300
CONFIG = """
    backends: {far: {kind: openai-compatible, base_url: "URL", discover: "off"}}
    routes:
      - {name: embeddings, match: {model: embed}, to: far/embed}
      - {name: chats, match: {model: small}, to: far/small, errors: frame+abort}
"""
OLLAMA = "ollama.small:latest"
FACT = "The password of the lighthouse is marmalade."
CLOCK = f'class Tools:\n    def {TOOL}(self) -> str:\n        """\n        Tells the time.\n        """\n        return "half past nine"\n'


class WebUI:
    """Open WebUI, with somebody signed up."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self.url, self.token = http, url, ""

    async def ask(self, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        method = "GET" if body is None else "POST"
        async with self._http.request(method, self.url + path, json=body, headers=headers) as told:
            text = await told.text()
        assert told.status == 200, f"{path}: {told.status} {text[:500]}"
        return json.loads(text)

    async def sign_up(self) -> None:
        person = {"name": "Ann", "email": "ann@example.com", "password": "marmalade"}
        self.token = (await self.ask("/api/v1/auths/signup", person))["token"]
        version = (await self.ask("/api/version"))["version"]  # whose news it would show first
        settings = {"ui": {"version": version, "params": {"function_calling": "native"}}}
        await self.ask("/api/v1/users/user/settings/update", settings)


@contextlib.asynccontextmanager
async def open_webui(proxy: str, folder: Path) -> AsyncIterator[WebUI]:
    if not PROGRAM.exists():
        cannot_run("needs Open WebUI: `make test-openwebui` installs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    off = ("TITLE_GENERATION", "TAGS_GENERATION", "FOLLOW_UP_GENERATION", "VERSION_UPDATE_CHECK")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": str(folder), "WEBUI_SECRET_KEY": "of-a-test",
        "OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "ANONYMIZED_TELEMETRY": "false",
        "OPENAI_API_BASE_URL": f"{proxy}/v1", "OPENAI_API_KEY": "none", "OLLAMA_BASE_URL": f"{proxy}/ollama",
        "RAG_EMBEDDING_ENGINE": "openai", "RAG_EMBEDDING_MODEL": "embed",
        "RAG_OPENAI_API_BASE_URL": f"{proxy}/v1", "RAG_OPENAI_API_KEY": "none",
        **{f"ENABLE_{what}": "false" for what in off},
    }  # fmt: skip
    with (folder / "open-webui.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "serve", "--host", "127.0.0.1", "--port", str(port), env=environment, stdout=log, stderr=log
        )
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN_S):
            found = WebUI(http, f"http://127.0.0.1:{port}")
            while True:
                assert process.returncode is None, (folder / "open-webui.log").read_text()[-3000:]
                with contextlib.suppress(aiohttp.ClientError):
                    await found.ask("/health")
                    break
                await asyncio.sleep(0.5)
            yield found
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def say(tab: Tab, url: str, words: str, *, model: str = "small", more: str = "") -> None:
    await tab.page.command("Page.navigate", url=f"{url}/?models={model}&q={words}{more}")
    await tab.until(f"document.querySelector('#chat-input')?.innerText.trim() === {json.dumps(words)}")
    await tab.until("document.querySelector('#send-message-button')")
    await tab.run("document.querySelector('#send-message-button').click()")


async def shown(tab: Tab, words: str) -> str:
    """All that is shown, once an answer with these words is over."""
    await tab.until(
        f"document.body.innerText.includes({json.dumps(words)}) && !document.querySelector('button[aria-label=Stop]')"
    )
    return await tab.text("body")


async def test_somebody_uses_it(start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.decide(answer)
    proxy = await start_proxy(CONFIG.replace("URL", upstream.url))
    async with open_webui(proxy.url, tmp_path) as webui, chromium() as page:
        await webui.sign_up()
        both = {"OLLAMA_BASE_URLS": [f"{proxy.url}/ollama"], "OLLAMA_API_CONFIGS": {"0": {"prefix_id": "ollama"}}}
        await webui.ask("/ollama/config/update", {"ENABLE_OLLAMA_API": True, **both})
        models = (await webui.ask("/api/models?refresh=true"))["data"]
        assert {one["id"]: one["owned_by"] for one in models}.items() >= {"small": "openai", OLLAMA: "ollama"}.items()
        await documents(webui, upstream)
        meta = {"description": "Tells the time.", "manifest": {}}
        await webui.ask("/api/v1/tools/create", {"id": "clock", "name": "Clock", "content": CLOCK, "meta": meta})
        tab = Tab(page, webui.url)
        await page.open("about:blank", title="")
        await tab.size(1280, 900)
        await page.command("Page.navigate", url=f"{webui.url}/auth")
        await tab.until("location.pathname === '/auth' && document.readyState === 'complete'")
        await tab.run(f"localStorage.token = {json.dumps(webui.token)}; localStorage.locale = 'en-US'; 0")
        await chats(tab, webui, proxy, upstream, tmp_path)


async def documents(webui: WebUI, upstream: ScriptedUpstream) -> None:
    """A text is found by its embedding, which the proxy gives, and is in the question."""
    await webui.ask("/api/v1/retrieval/process/text", {"name": "note", "content": FACT, "collection_name": "notes"})
    assert any(seen.path.endswith("/embeddings") for seen in upstream.requests)
    files = [{"type": "text", "id": "note", "collection_name": "notes", "collection_names": ["notes"]}]
    for model in ("small", OLLAMA):
        question = {"model": model, "stream": False, "files": files}
        told = await webui.ask(
            "/api/chat/completions", question | {"messages": [{"role": "user", "content": "secret?"}]}
        )
        assert told["choices"][0]["message"]["content"] == "".join(WORDS)
        assert FACT in upstream.requests[-1].json()["messages"][-1]["content"]


async def chats(tab: Tab, webui: WebUI, proxy: Running, upstream: ScriptedUpstream, pictures: Path) -> None:
    for model in (OLLAMA, "small"):
        await say(tab, webui.url, "How does an answer end?", model=model)
        await shown(tab, "".join(WORDS))
    await tab.picture(pictures / "open-webui.png")
    if wanted := os.environ.get("PICTURES"):
        shutil.copyfile(pictures / "open-webui.png", Path(wanted) / "open-webui.png")

    await say(tab, webui.url, "time", more="&tool-ids=clock")
    await shown(tab, "The tool says half past nine")

    asked = len(upstream.requests)
    await say(tab, webui.url, "failed time", more="&tool-ids=clock")
    await shown(tab, "payload is not completed")
    assert len(upstream.requests) == asked + 1, "a tool call of an answer that failed is not run"

    for model in ("small", OLLAMA):
        await say(tab, webui.url, "cut", model=model)
        assert "Half an answer" in await shown(tab, "payload is not completed")

    for model in ("small", OLLAMA):
        ended = len(proxy.records)
        await say(tab, webui.url, "stop", model=model)
        await tab.until("document.body.innerText.includes('Begun')")
        await tab.run("document.querySelector('button[aria-label=Stop]').click()")
        assert (await proxy.ended(ended + 1))[-1].end == "client_gone"
