"""The official OpenAI SDKs, of Python and of Node, through the whole proxy: what their programs see."""

from __future__ import annotations

import hashlib
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Send,
    Stall,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.openai_sdks import SDKS, Sdk
from tests.support.app import StartProxy, openai_config

ASK = {"model": "m", "messages": [{"role": "user", "content": "Say it: two\n\nparagraphs  😀 "}]}
SAID = "Say it: two\n\nparagraphs  😀 "
ECHO = """
    backends: {echo: {kind: echo}}
    routes: [{name: default, to: echo}]
"""
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.fixture(params=["python", pytest.param("node", marks=pytest.mark.browser)])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    return SDKS[request.param]


def choice(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {**openai_chunk(None), "choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}


def streamed(*chunks: dict[str, Any]) -> list[Any]:
    return [Send(sse_head()), *(event(chunk) for chunk in chunks), event("[DONE]"), LAST_CHUNK]


# -- answers that the proxy itself writes


async def test_they_read_a_stream(start_proxy: StartProxy, sdk: Sdk) -> None:
    told = await sdk.call((await start_proxy(ECHO)).url, "stream", {**ASK, "stream_options": {"include_usage": True}})
    assert (told.error, told.text(), told.finished) == (None, SAID, ["stop"])
    assert told.chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert told.chunks[-1]["choices"] == []
    assert told.chunks[-1]["usage"]["completion_tokens"] > 0


async def test_they_read_a_whole_answer(start_proxy: StartProxy, sdk: Sdk) -> None:
    told = await sdk.call((await start_proxy(ECHO)).url, "whole", ASK)
    assert told.whole is not None, told.error
    assert told.whole["choices"][0]["message"]["content"] == SAID
    assert told.whole["usage"]["completion_tokens"] > 0


async def test_their_helpers_add_up_a_stream(start_proxy: StartProxy, sdk: Sdk) -> None:
    told = await sdk.call((await start_proxy(ECHO)).url, "helper", ASK)
    assert told.whole is not None, told.error
    assert told.whole["choices"][0]["message"]["content"] == SAID
    assert told.whole["choices"][0]["finish_reason"] == "stop"


async def test_they_list_the_models_of_the_routes(start_proxy: StartProxy, sdk: Sdk) -> None:
    config = """
        backends: {echo: {kind: echo}}
        routes:
          - {name: named, match: {model: "acme/large"}, to: echo}
          - {name: default, to: echo}
    """
    assert "acme/large" in (await sdk.call((await start_proxy(config)).url, "models", {})).models


# -- answers of the upstream


async def test_heartbeats_leave_the_answer_exact(start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{heartbeat_s: 0.05}"))
    upstream.always(openai_stream(["a", " \n", "b"], gap_s=0.12, usage=USAGE))
    told = await sdk.call(proxy.url, "stream", {**ASK, "stream_options": {"include_usage": True}})
    assert (told.error, told.text(), told.finished) == (None, "a \nb", ["stop"])
    assert told.chunks[-1]["usage"]["total_tokens"] == USAGE["total_tokens"]
    async with (
        aiohttp.ClientSession(proxy.url) as http,
        http.post("/v1/chat/completions", json={**ASK, "stream": True}) as answer,
    ):
        assert b": ping\n\n" in await answer.read()


PIECES = [
    {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"in'}},
    {"index": 1, "id": "call_b", "type": "function", "function": {"name": "time", "arguments": '{"z":'}},
    {"index": 0, "function": {"arguments": '":"Ulm 😀"}'}},
    {"index": 1, "function": {"arguments": "1}"}},
]
CALLS = [("call_a", "weather", '{"in":"Ulm 😀"}'), ("call_b", "time", '{"z":1}')]
TOOLS = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": {"type": "object"}}}
    for name in ("weather", "time")
]


def tool_stream(pieces: list[dict[str, Any]]) -> list[Any]:
    deltas = [{"role": "assistant", "content": None}, *({"tool_calls": [piece]} for piece in pieces)]
    return streamed(*map(choice, deltas), choice({}, finish="tool_calls"))


async def test_their_helpers_put_tool_calls_together(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk
) -> None:
    one_after_the_other = sorted(PIECES, key=lambda piece: piece["index"])  # else their helpers read half a call
    upstream.play(tool_stream(one_after_the_other))
    proxy = await start_proxy(openai_config(upstream.url))
    told = await sdk.call(proxy.url, "helper", {**ASK, "tools": TOOLS, "parallel_tool_calls": True})
    assert told.whole is not None, told.error
    calls = told.whole["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls] == CALLS
    assert told.whole["choices"][0]["finish_reason"] == "tool_calls"
    assert upstream.requests[0].json()["tools"] == TOOLS


async def test_interleaved_pieces_of_tool_calls_pass(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk
) -> None:
    upstream.play(tool_stream(PIECES))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", {**ASK, "tools": TOOLS})
    deltas = [chunk["choices"][0]["delta"] for chunk in told.chunks]
    pieces = [piece for delta in deltas for piece in delta.get("tool_calls") or []]
    calls = [
        (
            next(piece["id"] for piece in pieces if piece["index"] == index),
            next(piece["function"]["name"] for piece in pieces if piece["index"] == index),
            "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == index),
        )
        for index in (0, 1)
    ]
    assert (told.error, calls, told.finished) == (None, CALLS, ["tool_calls"])


async def test_two_choices_stay_apart(start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk) -> None:
    upstream.play(streamed(
        choice({"role": "assistant", "content": ""}), choice({"role": "assistant", "content": ""}, index=1),
        choice({"content": "a"}), choice({"content": "x"}, index=1), choice({"content": "b"}),
        choice({}, finish="stop"), choice({"content": "y"}, index=1), choice({}, index=1, finish="length"),
    ))  # fmt: skip
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", {**ASK, "n": 2})
    assert (told.error, told.text(0), told.text(1), told.finished) == (None, "ab", "xy", ["stop", "length"])


async def test_log_probabilities_pass(start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk) -> None:
    chances = {"content": [{"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}], "refusal": None}
    upstream.play(streamed(choice({"content": "a"}, logprobs=chances), choice({}, finish="stop")))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", {**ASK, "logprobs": True})
    assert told.chunks[0]["choices"][0]["logprobs"] == chances


async def test_leaving_the_loop_closes_the_upstream_at_once(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk
) -> None:
    upstream.play(openai_stream(["a"])[:3], Stall())
    proxy = await start_proxy(openai_config(upstream.url))
    async with sdk.leave(proxy.url, ASK):
        await upstream.peer_gone(1)
    assert await proxy.end_reason() == "client_gone"


# -- failures


async def test_a_stream_that_was_cut_raises(start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk) -> None:
    upstream.play(openai_stream(["a", "b"])[:4], Fin())
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK, retries=2)
    assert (told.text(), told.finished) == ("ab", [])
    assert told.error is not None
    assert (told.error.name, told.error.code) == ("APIError", "upstream_truncated")
    assert len(upstream.requests) == 1, "half an answer is not asked for again"


async def test_an_error_inside_the_stream_raises(start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk) -> None:
    busy = {"error": {"message": "too busy", "type": "overloaded_error"}}
    upstream.play(openai_stream(["a"])[:3], event(busy), LAST_CHUNK)
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK)
    assert told.text() == "a"
    assert told.error is not None
    assert told.error.name == "APIError"
    assert "too busy" in told.error.message


async def test_a_refusal_keeps_its_status_and_its_words(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk
) -> None:
    said = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    upstream.play(json_reply(400, said))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK, retries=2)
    assert told.error is not None
    assert (told.error.name, told.error.status) == ("BadRequestError", 400)
    assert told.error.code == "context_length_exceeded"
    assert "too long" in told.error.message
    assert len(upstream.requests) == 1


async def test_a_bad_request_is_refused(start_proxy: StartProxy, sdk: Sdk) -> None:
    told = await sdk.call((await start_proxy(ECHO)).url, "whole", {"model": "m", "messages": "hi"}, retries=2)
    assert told.error is not None
    assert (told.error.name, told.error.status) == ("BadRequestError", 400)
    assert "messages" in told.error.message


async def test_a_wrong_key_is_turned_away_and_the_right_one_is_not(start_proxy: StartProxy, sdk: Sdk) -> None:
    digest = hashlib.sha256(b"sk-right-0123456789").hexdigest()
    proxy = await start_proxy(ECHO + f"    auth: {{keys: [{{name: mine, sha256: {digest}}}]}}\n")
    wrong = await sdk.call(proxy.url, "stream", ASK, key="sk-wrong-0123456789", retries=2)
    right = await sdk.call(proxy.url, "stream", ASK, key="sk-right-0123456789")
    assert wrong.error is not None
    assert (wrong.error.name, wrong.error.status, wrong.error.code) == ("AuthenticationError", 401, "invalid_api_key")
    assert "sk-wrong" not in wrong.error.message
    assert (right.error, right.text()) == (None, SAID)


async def test_a_model_that_no_route_takes_is_not_found(start_proxy: StartProxy, sdk: Sdk) -> None:
    config = "{backends: {echo: {kind: echo}}, routes: [{name: named, match: {model: other}, to: echo}]}"
    told = await sdk.call((await start_proxy(config)).url, "stream", ASK, retries=2)
    assert told.error is not None
    assert (told.error.name, told.error.status, told.error.code) == ("NotFoundError", 404, "model_not_found")


async def test_they_try_again_as_soon_as_they_are_told_to(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk
) -> None:
    upstream.play(json_reply(429, {"error": {"message": "slow down"}}, {"retry-after-ms": "20"}), times=2)
    upstream.play(openai_stream(["there"]))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK, retries=2)
    assert (told.error, told.text(), len(upstream.requests)) == (None, "there", 3)


async def test_they_give_up_with_the_limit_and_its_time(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk
) -> None:
    upstream.always(json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "7"}))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK)
    assert told.error is not None
    assert (told.error.name, told.error.status, told.error.retry_after) == ("RateLimitError", 429, "7")
    assert "slow down" in told.error.message
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [500, 503])
async def test_they_try_again_when_the_upstream_failed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, sdk: Sdk, status: int
) -> None:
    upstream.play(json_reply(status, {"error": {"message": "oops"}}))
    upstream.play(openai_stream(["there"]))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK, retries=1)
    assert (told.error, told.text(), len(upstream.requests)) == (None, "there", 2)
    upstream.always(json_reply(status, {"error": {"message": "oops"}}))
    told = await sdk.call((await start_proxy(openai_config(upstream.url))).url, "stream", ASK)
    assert told.error is not None
    assert told.error.name == "InternalServerError"
    assert told.error.status is not None
    assert told.error.status >= 500
