"""Other people's clients go on with an answer: `useChat({resume: true})` in Chromium, OpenAI's SDKs, Durable Streams'."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import openai
import pytest
from aiohttp import web

from proxy.testing.script import Wait, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.browser import chromium
from tests.clients.pages import serving_pages
from tests.clients.stage import bundle
from tests.support import node
from tests.support.app import StartProxy

HERE = Path(__file__).parent
TOKENS = [f"w{number} " for number in range(12)]

pytestmark = pytest.mark.clients


def config(upstream: ScriptedUpstream, origin: str = "") -> str:
    cors = f"cors: {{origins: ['{origin}']}}, " if origin else ""
    return f"""
        server: {{{cors}resume: {{grace_s: 60}}, log: {{level: error}}}}
        backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
        routes: [{{name: default, to: far/scripted-1}}]
    """


@pytest.mark.parametrize("packages", ["node20", "newest"])
async def test_a_page_that_is_loaded_again_goes_on(
    start_proxy: StartProxy, upstream: ScriptedUpstream, packages: str
) -> None:
    """`useChat` of `ai` 6 and 7: the page is loaded again in the middle, twice, and shows the whole answer, once."""
    program = await asyncio.to_thread(bundle, packages, "resume_chat.mjs")
    application = web.Application()

    async def script(_: web.Request) -> web.FileResponse:
        return web.FileResponse(program, headers={"Content-Type": "text/javascript"})

    async def page_(_: web.Request) -> web.FileResponse:
        return web.FileResponse(HERE / "chat.html")

    application.router.add_get("/chat.html", page_)
    application.router.add_get("/page.bundle.js", script)
    gates = [asyncio.Event(), asyncio.Event()]
    events = openai_stream(TOKENS)
    upstream.play(events[:6], Wait(gates[0]), events[6:10], Wait(gates[1]), events[10:])
    async with serving_pages(application) as origin, chromium() as page, asyncio.timeout(120):
        proxy = await start_proxy(config(upstream, origin))
        await page.open(f"{origin}/chat.html#{proxy.url}/api/chat")
        await page.run("send('count')")
        await page.run("until(({ answers }) => /w3/.test(answers[0]))")
        for gate, word in zip(gates, ["w3", "w7"], strict=True):
            await page.run("void (document.title = 'gone')")
            await page.command("Page.reload")
            await page.titled("ready")
            told = await page.run(f"until(({{ answers }}) => /{word}/.test(answers[0]))")
            assert told["answers"][0].startswith("w0 w1 w2 "), "from its start"
            gate.set()
        told = await page.run("until(({ status, answers }) => status === 'ready' && answers.length)")
        assert told == {"status": "ready", "error": None, "answers": ["".join(TOKENS)]}
        assert len(upstream.requests) == 1
        await page.command("Page.navigate", url="about:blank")


async def test_openai_for_python_goes_on_with_a_response(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    gate = asyncio.Event()
    events = openai_stream(TOKENS)
    upstream.play(events[:7], Wait(gate), events[7:])
    proxy = await start_proxy(config(upstream))
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="-", max_retries=0, timeout=60) as client:
        seen, id, text = [], "", ""
        async with client.responses.stream(model="m", input="count") as stream:
            async for event in stream:
                seen.append(event.sequence_number)
                id = event.response.id if event.type == "response.created" else id
                text += event.delta if event.type == "response.output_text.delta" else ""
                if "w4" in text:
                    break
        gate.set()
        async for event in await client.responses.retrieve(id, stream=True, starting_after=seen[-1]):
            seen.append(event.sequence_number)
            text += event.delta if event.type == "response.output_text.delta" else ""
        assert seen == list(range(len(seen)))
        assert text == "".join(TOKENS)
        async with client.responses.stream(response_id=id) as again:
            final = await again.get_final_response()
        assert final.output_text == text
        async with client.responses.stream(response_id=id, starting_after=5) as later:
            assert [event.sequence_number async for event in later] == seen[6:]
    assert len(upstream.requests) == 1


async def test_openai_for_node_goes_on_with_a_response(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.play(*openai_stream(TOKENS))
    proxy = await start_proxy(config(upstream))
    client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="-", max_retries=0, timeout=60)
    async with client, client.responses.stream(model="m", input="count") as stream:
        id = (await stream.get_final_response()).id
    asked = json.dumps({"client": {"baseURL": f"{proxy.url}/v1", "apiKey": "-", "maxRetries": 0}, "id": id, "after": 5})
    done = await asyncio.to_thread(node.run, HERE / "openai_resume.mjs", asked)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    whole = told["whole"]["numbers"]
    assert whole == list(range(len(whole)))
    assert told["retrieve"]["numbers"] == told["helper after"]["numbers"] == whole[6:]
    assert told["helper"]["numbers"] == whole
    assert told["final"] == told["whole"]["text"] == "".join(TOKENS)
    assert len(upstream.requests) == 1
