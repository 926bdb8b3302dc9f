"""What readers learn of an answer that fails, in each of the ways a route can have it told, in Node and Chromium."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from proxy.testing.script import LAST_CHUNK, Sleep, event, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.asking import Answers, Asks, ask_in, ask_in_node
from tests.clients.browser import chromium
from tests.support.app import Running, StartProxy, openai_config

Ask = Callable[[Asks], Awaitable[Answers]]

HOOK = "chat hook"
WAYS = ("frame", "frame+text", "frame+abort")

pytestmark = pytest.mark.browser


@pytest.fixture(params=["node", "chromium"])
async def ask(request: pytest.FixtureRequest, page_url: str) -> AsyncIterator[Ask]:
    """Ask in Node, or in Chromium."""
    if request.param == "node":
        yield ask_in_node
        return
    async with chromium() as page:
        await page.open(page_url)
        yield functools.partial(ask_in, page)


def to(proxy: Running, reader: str, query: str = "") -> dict[str, str]:
    return {"reader": reader, "url": f"{proxy.url}/api/chat{query}", "question": "hi"}


def config(upstream: ScriptedUpstream, page_url: str, errors: str) -> str:
    origin = page_url.removesuffix("/page.html")
    return openai_config(upstream.url, server=f"{{cors: {{origins: ['{origin}']}}}}", errors=errors)


def fails_after_two_tokens(upstream: ScriptedUpstream) -> None:
    failure = {"error": {"message": "the model\nran away", "type": "server_error"}}
    upstream.always(openai_stream(["One", " two"])[:4], Sleep(0.1), event(failure), LAST_CHUNK)


async def test_the_hook_hears_of_a_failure_in_the_way_that_its_route_chose(
    start_proxy: StartProxy, upstream: ScriptedUpstream, page_url: str, ask: Ask
) -> None:
    fails_after_two_tokens(upstream)
    frame, text, abort = [await start_proxy(config(upstream, page_url, how)) for how in WAYS]
    for query in ("", "?dialect=both"):
        passed_over, shown, thrown = await ask([to(proxy, HOOK, query) for proxy in (frame, text, abort)])
        assert (passed_over["text"], passed_over["failure"]) == ("One two", None), "as founded"
        said, _, error = shown["text"].partition("\n[error: ")
        assert (said, shown["failure"]) == ("One two", None)
        assert "the model ran away" in error
        assert error.endswith("]")
        assert thrown["text"] == "One two"
        assert thrown["failure"].startswith("TypeError: ")


async def test_who_accepts_event_streams_gets_an_event_and_is_never_cut_off(
    start_proxy: StartProxy, upstream: ScriptedUpstream, page_url: str, ask: Ask
) -> None:
    fails_after_two_tokens(upstream)
    for proxy in [await start_proxy(config(upstream, page_url, how)) for how in ("frame", "frame+abort")]:
        readers = [to(proxy, "eventsource-parser"), to(proxy, "fetch-event-source")]
        *told, in_json = answers = await ask([*readers, to(proxy, "fetch-event-source, JSON", "?dialect=json")])
        for answer in answers:
            assert (answer["text"], answer["done"]) == ("One two", False)
            assert not answer["asksAgain"], "after a cut it would, every second"
        assert all("the model ran away" in answer["failure"] for answer in told)
        assert "the model ran away" in json.loads(in_json["failure"])["error"]["message"]
    assert len(upstream.requests) == 6


async def test_a_failure_before_the_first_token(
    start_proxy: StartProxy, upstream: ScriptedUpstream, page_url: str, ask: Ask
) -> None:
    upstream.always(json_reply(500, {"error": {"message": "out of order"}}))
    _, text, abort = [await start_proxy(config(upstream, page_url, how)) for how in WAYS]
    shown, thrown, told = await ask([to(text, HOOK), to(abort, HOOK), to(text, "eventsource-parser")])
    assert "[error: " in shown["text"]
    assert "out of order" in shown["text"]
    assert thrown["text"] == ""
    assert thrown["failure"].startswith("TypeError: ")
    assert told["failure"].startswith("Error: 500 "), "who reads statuses gets one"
    assert "out of order" in told["failure"]
