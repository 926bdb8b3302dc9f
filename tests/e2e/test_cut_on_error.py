"""A route's `errors`: an answer that broke off ends cleanly after its error, or in a cut connection (C7)."""

from __future__ import annotations

import json
import time
from textwrap import dedent
from typing import Any

import pytest

from proxy.server.client import READ_ERROR_S
from proxy.testing.script import LAST_CHUNK, Rst, event, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import StartProxy, openai_config
from tests.support.clients import RawClient
from tests.support.rich_requests import REQUESTS

ASK = {"messages": [{"role": "user", "content": "hi"}]}
UI = {"messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]}
OWN = "\nfrontends: {own: {path: /own, response: {token: {t: $text}, done: {d: 1}, error: {e: $message}}}}"

PATHS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "chat": ("/chat", ASK, b"event: error\n"),
    "openai": ("/v1/chat/completions", {**ASK, "model": "m", "stream": True}, b'"error":{'),
    "responses": ("/v1/responses", {"model": "m", "input": "hi", "stream": True}, b"response.failed"),
    "anthropic": ("/v1/messages", {**ASK, "model": "m", "max_tokens": 9, "stream": True}, b"event: error\n"),
    "ollama": ("/ollama/api/chat", {**ASK, "model": "m"}, b'{"error":'),
    "ollama-generate": ("/ollama/api/generate", {"model": "m", "prompt": "hi"}, b'{"error":'),
    "ai-sdk": ("/ai-sdk/chat", UI, b'{"type":"error"'),
    "ag-ui": ("/agui", ASK, b'{"type":"RUN_ERROR"'),
    "declared": ("/own", ASK, b'{"e":'),
}
CUT_BY_DEFAULT = {"ollama", "ollama-generate"}


def broken(upstream: ScriptedUpstream) -> None:
    upstream.always(openai_stream(["One", " two"])[:4], Rst())


async def end_of(url_port: int, contract: str) -> tuple[str, float]:
    """How the body of an answer that broke off ended, and how long after the request."""
    path, body, error = PATHS[contract]
    asked = time.monotonic()
    async with await RawClient.connect(url_port) as client:
        await client.post(path, body)
        assert (await client.read_head()).status == 200
        answer = await client.read_until(error)
        rest = await client.read_body()
        assert b"One" in answer + rest
        return client.end, time.monotonic() - asked


@pytest.mark.parametrize("contract", PATHS)
@pytest.mark.parametrize("errors", [None, "frame", "frame+abort"])
async def test_C7_a_route_decides_how_an_answer_that_broke_off_ends(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: str, errors: str | None
) -> None:
    more = {} if errors is None else {"errors": errors}
    proxy = await start_proxy(dedent(openai_config(upstream.url, **more)) + OWN)
    broken(upstream)
    end, later = await end_of(proxy.port, contract)
    cut = errors == "frame+abort" or (errors is None and contract in CUT_BY_DEFAULT)
    assert end == ("cut" if cut else "final chunk")
    if cut:
        assert later >= READ_ERROR_S, "the client had time to read the error"


@pytest.mark.parametrize("contract", PATHS)
async def test_C7_an_answer_that_is_complete_is_never_cut(
    start_proxy: StartProxy, upstream: ScriptedUpstream, contract: str
) -> None:
    proxy = await start_proxy(dedent(openai_config(upstream.url, errors="frame+abort")) + OWN)
    upstream.always(*openai_stream(["One", " two"]))
    path, body, _ = PATHS[contract]
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, body)
        await client.read_head()
        await client.read_body()
        assert client.end == "final chunk"


async def test_C7_an_event_reader_of_chat_is_never_cut(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    """It would send its request again, every second."""
    proxy = await start_proxy(openai_config(upstream.url, errors="frame+abort"))
    broken(upstream)
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", ASK, {"Accept": "text/event-stream"})
        await client.read_head()
        assert b"event: error" in await client.read_body()
        assert client.end == "final chunk"


def test_every_contract_says_that_it_reads_errors() -> None:
    for frontend, _, _ in REQUESTS.values():
        assert frontend.name == "ai-text" or "errors" in frontend.route_settings


async def test_C7_an_error_event_of_the_upstream_cuts_too(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(openai_stream(["One", " two"])[:4], event({"error": {"message": "ran away"}}), LAST_CHUNK)
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/ollama/api/chat", {**ASK, "model": "m"})
        await client.read_head()
        *_, last = (await client.read_body()).splitlines()
        assert json.loads(last) == {"error": "ran away"}
        assert client.end == "cut"
