"""The page at `/` in Chromium, as somebody uses it. With `PICTURES=docs/pictures` it takes the pictures of the docs."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.testing.script import Sleep, Stall, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.browser import chromium
from tests.clients.pages import serving_pages
from tests.support import node
from tests.support.app import Running, StartProxy
from tests.web.front import in_front_of
from tests.web.tab import Tab

STATIC = node.ROOT / "proxy" / "web" / "static"
TYPES = ["--noEmit", "--checkJs", "--allowJs", "--strict", "--noUnusedLocals", "--exactOptionalPropertyTypes",
         "--target", "es2023", "--module", "esnext", "--moduleResolution", "bundler",
         "--lib", "es2023,dom,dom.iterable,dom.asynciterable", "--types", ""]  # fmt: skip
LARGEST_PICTURE = 200_000
KEY = "cp-key-of-the-page-0123456789"

pytestmark = pytest.mark.browser


def config(upstream_url: str, auth: str = "") -> str:
    return f"""
        backends:
          echo: {{kind: echo, delay_ms: 30, first_token_ms: 200}}
          local: {{kind: openai-compatible, base_url: "{upstream_url}", discover: "off"}}
          cloud: {{kind: openai-compatible, base_url: "{upstream_url}", discover: "off"}}
        frontends:
          widget: {{path: /widget, request: {{prompt: question}}, response: {{token: {{delta: {{text: $text}}}}, done: {{done: true}}}}}}
        routes:
          - {{name: research, match: {{header: {{x-team: research}}}}, to: cloud/gpt-5}}
          - {{name: code, match: {{model: "code-*"}}, to: [local/qwen2.5-coder, cloud/gpt-5-mini]}}
          - {{name: default, to: echo/echo}}
        {auth}
    """


async def say(tab: Tab, text: str, contract: str, model: str = "") -> None:
    await tab.fill("contract", contract)
    await tab.fill("model", model)
    await tab.fill("text", text)
    await tab.run("document.getElementById('send').click()")


async def answered(tab: Tab) -> str:
    """Wait for the end of an answer; returns what is said of it."""
    await tab.until("document.getElementById('send').textContent === 'Send' && document.querySelector('.outcome a')")
    return await tab.text(".outcome")


async def last_answer(tab: Tab) -> str:
    return str(await tab.run("[...document.querySelectorAll('.turn.assistant')].at(-1).innerText"))


@pytest.fixture
async def tab(start_proxy: StartProxy, upstream: ScriptedUpstream) -> AsyncIterator[tuple[Tab, Running]]:
    proxy = await start_proxy(config(upstream.url))
    async with chromium() as page:
        tab = await Tab.open(page, f"{proxy.url}/")
        await tab.scheme("light")
        await tab.until("document.getElementById('pulse').className.includes('live')")
        yield tab, proxy


async def looked_at(tab: Tab, axe: str, name: str, pictures: Path) -> None:
    """What is shown is accessible in both schemes, and fits a narrow screen; and a picture of it."""
    for scheme in ("light", "dark"):
        await tab.scheme(scheme)
        assert await tab.accessibility(axe) == [], f"{name}, {scheme}"
        await tab.picture(pictures / f"{name}-{scheme}.png")
    await tab.size(360, 740)
    assert await tab.run("document.documentElement.scrollWidth") <= 360, f"{name} is wider than a narrow screen"
    await tab.picture(pictures / f"{name}-narrow.png")
    await tab.size(1280, 900)
    await tab.scheme("light")


async def test_somebody_uses_it(tab: tuple[Tab, Running], upstream: ScriptedUpstream, tmp_path: Path) -> None:
    page, proxy = tab
    axe = (node.modules("page") / "node_modules" / "axe-core" / "axe.min.js").read_text()
    pictures = tmp_path

    # a chat over contracts of every kind of stream
    hostile = "Two\n\nlines,  <b>two</b> blanks, and data: [DONE] 😀 "
    for contract in ("openai", "anthropic", "ai-sdk", "ollama", "widget", "chat"):
        await say(page, hostile, contract)
        assert (await answered(page)).startswith("done · first text after"), contract
        assert (await last_answer(page)).rstrip() == hostile.strip(), contract
    assert "data:Two" in await page.text(".wire")

    # one is stopped, and the upstream with it
    await page.run("[...document.querySelectorAll('form button')].find(one => one.textContent === 'Clear').click()")
    upstream.play(openai_stream(["A long", " answer"])[:3], Stall())
    await say(page, "Tell me everything", "responses", "code-1")
    await page.until("document.querySelector('.turn.assistant')?.innerText.includes('A long')")
    await page.run("document.getElementById('send').click()")
    assert (await answered(page)).startswith("stopped")
    stopped = (await proxy.ended(7))[-1]
    assert stopped.end == "client_gone"

    # one target fails and the next answers: the waterfall and the reason
    await page.run("[...document.querySelectorAll('form button')].find(one => one.textContent === 'Clear').click()")
    upstream.play(Sleep(0.15), *json_reply(503, {"error": {"message": "the model is being loaded"}}))
    words = re.findall(r" ?\S+", "A stream that is cut never looks like a whole one: it ends in done, or in an error.")
    steps = openai_stream(words)
    upstream.play(Sleep(0.2), *[one for step in steps for one in (step, Sleep(0.02))])
    await say(page, "How does a stream end?", "chat", "code-1")
    assert (await answered(page)).startswith("done")
    await looked_at(page, axe, "try", pictures)
    await page.run("document.querySelector('.outcome a').click()")
    await page.until("document.querySelectorAll('#waterfall .track').length === 2")
    assert await page.text("h1") == "code → cloud/gpt-5-mini"
    shown = await page.text("#waterfall")
    assert "503 upstream_error" in shown
    assert "the model is being loaded" in shown
    assert "answered" in shown
    assert re.search(r"connected after [\d<][^·]* · first token after \d", shown), shown
    assert "code: takes it" in await page.text("#why")
    assert "How does a stream end?" in await page.text(), "contents of what this page sent, and of nothing else"
    await looked_at(page, axe, "request", pictures)

    # the list, filtered
    await page.view("#/requests")
    await page.until("document.querySelectorAll('#rows tr').length === 8")
    await page.fill("filter-end", "stopped")
    await page.until("document.querySelectorAll('#rows tr').length === 1")
    await page.fill("filter-end", "")
    await looked_at(page, axe, "requests", pictures)

    # a config with an error: where it is, then mended
    await page.view("#/now")
    good = proxy.config.read_text()
    proxy.config.write_text(good.replace("to: echo/echo", "to: eco/echo"))
    assert not await proxy.app.reload()
    await page.until("document.querySelector('#rejected .wrong')")
    line = next(at for at, text in enumerate(proxy.config.read_text().split("\n"), 1) if "eco/echo" in text)
    assert f"line {line}:" in await page.text("#rejected")
    assert "to: eco/echo" in await page.text("#rejected .wrong")
    await looked_at(page, axe, "error", pictures)
    proxy.config.write_text(good.replace("to: echo/echo", "to: echo/parrot"))
    assert await proxy.app.reload()
    await page.until("!document.getElementById('rejected') && !document.getElementById('alert').innerText")
    assert "routes.default.to changed" in await page.text("#config")
    await looked_at(page, axe, "now", pictures)

    # the one that was stopped is sent again, by the new config
    await page.view(f"#/requests/{stopped.request_id}")
    await page.until("document.getElementById('replay')")
    assert "stopped by the client" in await page.text("#waterfall")
    upstream.play(*openai_stream(["A long answer, whole."]))
    await page.run("document.getElementById('replay').click()")
    assert (await answered(page)).startswith("done")
    assert await last_answer(page) == "A long answer, whole."
    assert upstream.requests[-1].json()["messages"] == [{"role": "user", "content": "Tell me everything"}]
    again = (await proxy.ended(9))[-1]
    assert (again.contract, again.model, again.end) == ("responses", "code-1", "done")

    # and it is explained
    await page.run("document.querySelector('.outcome a').click()")
    await page.until("document.getElementById('ask-why')")
    assert "A long answer, whole." in await page.text()
    await page.run("document.getElementById('ask-why').click()")
    await page.until("document.querySelector('form button')?.textContent === 'Explain'")
    await page.run("document.querySelector('form button').click()")
    await page.until("document.querySelector('#trace .yes')")
    assert "code: takes it" in await page.text("#trace")

    # what if
    await page.until("document.getElementById('config-text').value.includes('echo/parrot')")
    assert "research: wants header x-team research, got nothing" in await page.text("#trace")
    edit = "const field = document.getElementById('config-text'); field.value = field.value.replace"
    await page.run(f"(() => {{ {edit}('cloud/gpt-5-mini', 'echo/echo'); field.form.requestSubmit(); }})()")
    await page.until("document.querySelector('#judged .yes')")
    assert "3 requests of 9 would have gone elsewhere" in await page.text("#judged")
    await looked_at(page, axe, "explain", pictures)

    assert proxy.app.snapshot.number == 2, "what is edited in the page is not taken up"

    # a contract that is not served any more is not asked in another's words
    proxy.config.write_text(re.sub(r"( *frontends:\n.*\n)", "", good))
    assert await proxy.app.reload()
    widget = next(record for record in await proxy.ended(9) if record.contract == "widget")
    await page.view(f"#/requests/{widget.request_id}")
    await page.until("document.getElementById('pulse').textContent.endsWith('generation 3')")
    await page.until("document.getElementById('replay')")
    await page.run("document.getElementById('replay').click()")
    await page.until("document.querySelector('.outcome')?.textContent === 'not sent: widget is not served any more'")
    assert await page.complaints() == []
    if wanted := os.environ.get("PICTURES"):
        for name in ("try", "request"):
            shutil.copyfile(pictures / f"{name}-light.png", Path(wanted) / f"{name}.png")
    large = {file.name: file.stat().st_size for file in pictures.glob("*.png") if file.stat().st_size > LARGEST_PICTURE}
    assert not large


async def test_behind_a_front_proxy_under_a_path_with_a_key(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, f'auth: {{keys: [{{name: page, key: "{KEY}"}}]}}'))
    async with serving_pages(in_front_of(proxy.url)) as origin, chromium() as page:
        tab = await Tab.open(page, f"{origin}/llm/")
        await tab.until("document.getElementById('key')")
        await tab.fill("key", "a wrong one")
        await tab.run("document.querySelector('#alert form').requestSubmit()")
        await tab.until("document.getElementById('key') && !document.getElementById('key').value")
        await tab.fill("key", KEY)
        await tab.run("document.querySelector('#alert form').requestSubmit()")
        await tab.until("document.getElementById('pulse').className.includes('live')")
        await say(tab, "Hello", "chat")
        assert (await answered(tab)).startswith("done")
        assert "$CHAT_PROXY_KEY" in await tab.text(".code pre")
        assert KEY not in await tab.run(
            "document.documentElement.outerHTML + JSON.stringify(localStorage) + document.cookie"
        )
        asked = {
            event["params"]["request"]["url"]
            for event in page.events
            if event.get("method") == "Network.requestWillBeSent"
        }
        assert all(url.startswith(f"{origin}/llm/") for url in asked)
        assert not any(KEY in url for url in asked)


async def test_the_types_of_its_modules_hold() -> None:
    """And a mistake is found: what is checked is checked."""
    tsc = await asyncio.to_thread(node.modules, "page") / "node_modules" / ".bin" / "tsc"
    files = sorted(map(str, STATIC.glob("*.js")))

    def check(*files: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(tsc), *TYPES, *files], capture_output=True, text=True, check=False, timeout=120)

    done = await asyncio.to_thread(check, *files)
    assert done.returncode == 0, done.stdout
    assert all("// @ts-check" in Path(file).read_text() for file in files)


def test_wrong_types_are_found(tmp_path: Path) -> None:
    tsc = node.modules("page") / "node_modules" / ".bin" / "tsc"
    wrong = tmp_path / "wrong.js"
    wrong.write_text("export const length = document.nope.length;\n")
    done = subprocess.run([str(tsc), *TYPES, str(wrong)], capture_output=True, text=True, check=False, timeout=120)
    assert "nope" in done.stdout
