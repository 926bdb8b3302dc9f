"""What the page offers to copy does what it says: each snippet is run as it is copied, also under a path and with a key."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tomllib
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.browser import chromium
from tests.clients.pages import serving_pages
from tests.support import js_client, node
from tests.support.app import StartProxy
from tests.web.front import in_front_of
from tests.web.tab import Tab

pytestmark = pytest.mark.browser

KEY = "cp-key-of-a-snippet-0123456789"
TEXT = 'It\'s "one" $HOME, `two`, \\n ${three} and\nfour 😀 </script>'
ANSWER = ["It", " works:\n\n", "é 😀"]
MODEL = "code-1 it's"
CONTRACTS = ("openai", "anthropic", "ollama", "ai-sdk", "responses", "widget", "ag-ui", "chat")


class Copied(msgspec.Struct):
    """What was copied from the page: the snippets, and curl's and fetch's of each contract."""

    base: str
    upstream: ScriptedUpstream
    folder: Path
    environment: Mapping[str, str]
    snippets: dict[str, str] = {}
    of_contracts: dict[tuple[str, str], str] = {}

    async def run(self, *command: str, **more: str) -> str:
        """What a program prints, that is to ask what was said in the page."""
        self.upstream.always(*openai_stream(ANSWER))
        process = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env={**self.environment, **more},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(120):
            printed, told = await process.communicate()
        assert process.returncode == 0, f"{command}: {printed.decode()}\n{told.decode()}"
        return printed.decode()

    def asked(self, number: int = -1) -> str:
        """What the model was asked, last by default."""
        content = self.upstream.requests[number].json()["messages"][-1]["content"]
        return content if isinstance(content, str) else content[0]["text"]


def config(upstream: ScriptedUpstream, auth: str) -> str:
    return f"""
        server: {{cors: {{origins: ["*"]}}}}
        backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}", discover: "off"}}}}
        frontends:
          widget: {{path: /widget, request: {{prompt: question}}, response: {{token: $text}}}}
        routes: [{{name: default, to: far/model}}]
        {auth}
    """


@pytest.fixture(params=["at an address", "under a path with a key"])
async def copied(
    request: pytest.FixtureRequest, start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[Copied]:
    keyed = request.param.endswith("key")
    proxy = await start_proxy(config(upstream, f'auth: {{keys: [{{name: page, key: "{KEY}"}}]}}' if keyed else ""))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    async with AsyncExitStack() as stack:
        base = f"{await stack.enter_async_context(serving_pages(in_front_of(proxy.url)))}/llm" if keyed else proxy.url
        page = await stack.enter_async_context(chromium())
        tab = await Tab.open(page, f"{base}/")
        if keyed:
            environment["CHAT_PROXY_KEY"] = KEY
            await tab.until("document.getElementById('key')")
            await tab.fill("key", KEY)
            await tab.run("document.querySelector('#alert form').requestSubmit()")
        await tab.until("document.querySelector('#contract option[value=widget]')")
        await tab.fill("text", TEXT)
        await tab.fill("model", MODEL)
        found = Copied(base, upstream, tmp_path, environment)
        for contract in CONTRACTS:
            await tab.fill("contract", contract)
            for name in ("curl", "fetch"):
                found.of_contracts[contract, name] = await _copied(tab, name)
        for name in await tab.run("[...document.querySelectorAll('[role=tab]')].map((tab) => tab.textContent)"):
            found.snippets[name] = await _copied(tab, name)
        yield found


async def _copied(tab: Tab, name: str) -> str:
    """What the button `Copy` gives."""
    return str(
        await tab.run(f"""(async () => {{
        [...document.querySelectorAll("[role=tab]")].find((tab) => tab.textContent === {json.dumps(name)}).click();
        let copied = "";
        navigator.clipboard ??= {{}};
        navigator.clipboard.writeText = async (text) => void (copied = text);
        [...document.querySelectorAll(".code button")].at(-1).click();
        return copied;
    }})()""")
    )


async def test_each_is_run_as_it_is_copied(copied: Copied) -> None:
    assert len(copied.snippets) == 11
    whole = "".join(ANSWER)
    for contract in CONTRACTS:
        printed = await copied.run("bash", "-euc", copied.of_contracts[contract, "curl"])
        assert "😀" in printed or "\\ud83d\\ude00" in printed, contract
        assert copied.asked() == TEXT, contract
        (copied.folder / f"{contract}.mjs").write_text(copied.of_contracts[contract, "fetch"])
    before = len(copied.upstream.requests)
    each = "".join(f'await import("./{contract}.mjs");' for contract in CONTRACTS)
    (copied.folder / "all.mjs").write_text(each)
    printed = await copied.run(node.node(), "all.mjs")
    assert printed.count("😀") + printed.count("\\ud83d\\ude00") >= len(CONTRACTS)
    asked = [copied.asked(number) for number in range(before, before + len(CONTRACTS))]
    assert asked == [TEXT] * len(CONTRACTS)

    for name in ("OpenAI SDK, Python", "Anthropic SDK, Python"):
        assert await copied.run(sys.executable, "-c", copied.snippets[name]) == whole, name
        assert copied.asked() == TEXT, name
    assert await in_node(copied, "OpenAI SDK, JavaScript") == whole

    # Claude Code and Open WebUI: what they are started with
    body = '{"model": "\'"$ANTHROPIC_MODEL"\'", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}'
    headers = '-H content-type:application/json -H "authorization: Bearer $ANTHROPIC_AUTH_TOKEN"'
    program(copied.folder / "claude", f"""curl -s "$ANTHROPIC_BASE_URL/v1/messages" {headers} -d '{body}'""")
    answer = json.loads(await copied.run("bash", "-euc", copied.snippets["Claude Code"]))
    assert answer["content"][0]["text"] == whole
    program(copied.folder / "open-webui", 'test "$1" = serve && echo "$OPENAI_API_BASE_URL $OPENAI_API_KEY"')
    address, key = (await copied.run("bash", "-euc", copied.snippets["Open WebUI"])).split()
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{address}/models", headers={"Authorization": f"Bearer {key}"}) as listed:
            assert (listed.status, (await listed.json())["object"]) == (200, "list")

        # Codex
        settings = tomllib.loads(copied.snippets["Codex"])
        provider = settings["model_providers"][settings["model_provider"]]
        key = copied.environment.get(provider.get("env_key", ""), "")
        question = {"model": settings["model"], "input": TEXT, "stream": True}
        bearer = {"Authorization": f"Bearer {key}"} if key else {}
        async with client.post(f"{provider['base_url']}/{provider['wire_api']}", json=question, headers=bearer) as told:
            assert "response.completed" in await told.text()
    assert copied.asked() == TEXT


@pytest.mark.clients
async def test_those_that_need_more_are_run_too(copied: Copied) -> None:
    assert await in_node(copied, "Anthropic SDK, JavaScript", "newest") == "".join(ANSWER)
    assert copied.asked() == TEXT
    await use_chat(copied)
    await chat_hook(copied)


async def in_node(copied: Copied, name: str, packages: str = "") -> str:
    folder = await asyncio.to_thread(node.modules, packages)
    script = folder / f"snippet-{uuid.uuid4().hex}.mjs"  # `import` looks for packages beside the script
    try:
        script.write_text(copied.snippets[name])
        printed = await copied.run(node.packaged_node(packages) if packages else node.node(), str(script))
    finally:
        script.unlink()
    return printed


async def use_chat(copied: Copied) -> None:
    """The component is rendered by React in a page of another origin, and its button clicked."""
    folder = await asyncio.to_thread(node.modules, "newest")
    made = folder / f"snippet-{uuid.uuid4().hex}"
    made.mkdir()
    (made / "chat.jsx").write_text(copied.snippets["useChat"])
    (made / "main.jsx").write_text(
        'import { createElement } from "react";\nimport { createRoot } from "react-dom/client";\nimport { Chat } from "./chat.jsx";\n'
        'createRoot(document.getElementById("root")).render(createElement(Chat));\ndocument.title = "ready";\n'
    )
    key = json.dumps(copied.environment.get("CHAT_PROXY_KEY", ""))
    try:
        await copied.run(
            node.packaged_node("newest"), str(folder / "node_modules" / "esbuild" / "bin" / "esbuild"), str(made / "main.jsx"),
            "--bundle", "--format=esm", "--jsx=automatic", '--define:process.env.NODE_ENV="production"',
            f"--define:process.env.CHAT_PROXY_KEY={key}", f"--outfile={made}/page.js",
        )  # fmt: skip
        page = '<!doctype html><div id="root"></div><script type="module" src="page.js"></script>'
        (made / "index.html").write_text(page)
        application = web.Application()
        application.router.add_static("/", made)
        copied.upstream.always(*openai_stream(ANSWER))
        async with serving_pages(application) as origin, chromium() as browser:
            await browser.open(f"{origin}/index.html")
            tab = Tab(browser, origin)
            await tab.until("document.querySelector('button')")
            await tab.run("document.querySelector('button').click()")
            await tab.until("document.querySelector('.assistant')?.textContent.endsWith('😀')")
            assert await tab.run("document.querySelector('.assistant').textContent") == "".join(ANSWER)
        assert copied.asked() == TEXT
        assert copied.upstream.requests[-1].json()["model"] == "model"
    finally:
        for file in made.iterdir():
            file.unlink()
        made.rmdir()


async def chat_hook(copied: Copied) -> None:
    """Vite serves with it, and the hook asks its own origin."""
    app = await asyncio.to_thread(js_client.example)
    settings = app / f"snippet-{uuid.uuid4().hex}.config.js"
    ask: dict[str, Any] = {
        "method": "POST",
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps({"messages": [{"role": "user", "content": TEXT}]}),
    }
    script = f"""
        import {{ createServer }} from "vite";
        const server = await createServer({{ configFile: {json.dumps(str(settings))}, server: {{ port: 0 }}, logLevel: "error" }});
        await server.listen();
        const answer = await fetch(`http://localhost:${{server.httpServer.address().port}}/api/chat`, {json.dumps(ask)});
        process.stdout.write(`${{answer.status}} ${{await answer.text()}}`);
        await server.close();
        process.exit();
    """
    try:
        settings.write_text(copied.snippets["the chat hook"])
        here = msgspec.structs.replace(copied, folder=app)
        printed = await here.run(node.node(), "--input-type=module", "-e", script)
    finally:
        settings.unlink()
    assert printed.startswith("200 data:It"), printed
    assert copied.asked() == TEXT


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
