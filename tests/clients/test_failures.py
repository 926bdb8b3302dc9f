"""What readers learn of an answer that fails, in each of the ways a route can have it told, in Node and Chromium."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients.browser import chromium
from tests.support import node
from tests.support.house import Opener, openai_config
from tests.support.upstream import LAST_CHUNK, ScriptedUpstream, Sleep, event, json_reply, openai_stream

ASK_ALL = Path(__file__).with_name("ask_all.mjs")

Ask = Callable[..., Awaitable[dict[str, Any]]]

pytestmark = pytest.mark.browser


async def ask_in_node(reader: str, url: str) -> dict[str, Any]:
    task = json.dumps({"reader": reader, "url": url})
    done = await asyncio.to_thread(node.run, ASK_ALL, task, input='["hi"]')
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[0]


@pytest.fixture(params=["node", "chromium"])
async def ask(request: pytest.FixtureRequest, page_url: str) -> AsyncIterator[Ask]:
    """Ask one question with a reader: `await ask("founding hook", url)`."""
    if request.param == "node":
        yield ask_in_node
        return
    async with chromium() as page:
        await page.open(page_url)

        async def ask_in_chromium(reader: str, url: str) -> dict[str, Any]:
            task = json.dumps({"reader": reader, "url": url, "questions": ["hi"]})
            return (await page.run(f"askAll({task})"))[0]

        yield ask_in_chromium


def config(upstream: ScriptedUpstream, page_url: str, errors: str) -> str:
    origin = page_url.removesuffix("/page.html")
    return openai_config(upstream.url, server=f"{{cors: {{origins: ['{origin}']}}}}", errors=errors)


def fails_after_two_tokens(upstream: ScriptedUpstream) -> None:
    failure = {"error": {"message": "the model\nran away", "type": "server_error"}}
    upstream.always(openai_stream(["One", " two"])[:4], Sleep(0.1), event(failure), LAST_CHUNK)


async def test_each_way_of_telling_a_failure(
    open_house: Opener, upstream: ScriptedUpstream, page_url: str, ask: Ask
) -> None:
    fails_after_two_tokens(upstream)
    quiet, shown, cut = [
        await open_house(config(upstream, page_url, how)) for how in ("frame", "frame+text", "frame+abort")
    ]

    answer = await ask("founding hook", f"{quiet.url}/api/chat")
    assert (answer["text"], answer["failure"]) == ("One two", None), "as founded: it passes over error frames"

    for query in ("", "?dialect=both"):
        answer = await ask("founding hook", f"{shown.url}/api/chat{query}")
        text, _, error = answer["text"].partition("\n[error: ")
        assert (text, answer["failure"]) == ("One two", None)
        assert "the model ran away" in error
        assert error.endswith("]")

        answer = await ask("founding hook", f"{cut.url}/api/chat{query}")
        assert answer["text"] == "One two"
        assert answer["failure"].startswith("TypeError: "), "the reader throws"

    asked = len(upstream.requests)
    for proxy in (quiet, cut):
        for reader in ("eventsource-parser", "fetch-event-source"):
            answer = await ask(reader, f"{proxy.url}/api/chat")
            assert (answer["text"], answer["done"]) == ("One two", False)
            assert "the model ran away" in answer["failure"]
            assert not answer["asksAgain"], "a reader that accepts event streams is never cut off: it would ask again"
        answer = await ask("fetch-event-source, JSON", f"{proxy.url}/api/chat?dialect=json")
        assert (answer["text"], answer["done"], answer["asksAgain"]) == ("One two", False, False)
        assert json.loads(answer["failure"])["error"]["code"]
    assert len(upstream.requests) == asked + 6


async def test_a_failure_before_the_first_token(
    open_house: Opener, upstream: ScriptedUpstream, page_url: str, ask: Ask
) -> None:
    upstream.always(json_reply(500, {"error": {"message": "out of order"}}))
    shown, cut = [await open_house(config(upstream, page_url, how)) for how in ("frame+text", "frame+abort")]
    answer = await ask("founding hook", f"{shown.url}/api/chat")
    assert "[error: " in answer["text"]
    assert "out of order" in answer["text"]
    answer = await ask("founding hook", f"{cut.url}/api/chat")
    assert answer["text"] == ""
    assert answer["failure"].startswith("TypeError: ")
    answer = await ask("eventsource-parser", f"{shown.url}/api/chat")
    assert answer["failure"].startswith("Error: 5"), "who reads statuses gets one"
    assert "out of order" in answer["failure"]
