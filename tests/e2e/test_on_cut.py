"""`on_cut: continue` over real sockets: the client gets one answer, each word once, and one truthful end."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from openai import APIError, AsyncOpenAI

from proxy.errors import UpstreamConnect
from proxy.pipeline.budget import ExtraWork
from proxy.routing.plan import Target
from proxy.testing.script import (
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    chunked,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Running, StartProxy

WORDS = [f"word{number} " for number in range(30)]
TEXT = "".join(WORDS)
PATHS = ["/chat?dialect=json", "/chat?dialect=sse", "/v1/responses", "/v1/messages", "/ollama/api/chat"]


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


def config(first: ScriptedUpstream, second: ScriptedUpstream, more: str = "", row: str = "") -> str:
    return f"""
        backends:
          one: {{kind: openai-compatible, base_url: "{first.url}"}}
          two: {{kind: openai-compatible, base_url: "{second.url}"{row}}}
        routes:
          - {{name: default, to: [one/m, two/m], on_cut: continue{more}}}
    """


def client(proxy: Running) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="-", max_retries=0, timeout=60)


async def answer(proxy: Running, **more: Any) -> tuple[str, str | None, Any]:
    """The text, the finish reason and the usage of a streamed answer."""
    stream = await client(proxy).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "count"}], stream=True,
        stream_options={"include_usage": True}, **more,
    )  # fmt: skip
    text, reason, usage, ids = "", None, None, set()
    async for chunk in stream:
        ids.add(chunk.id)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert len(ids) == 1, "one answer"
    return text, reason, usage


def cut_after(upstream: ScriptedUpstream, words: int, *ending: Any) -> None:
    upstream.always(openai_stream(WORDS)[: words + 2], *(ending or (Fin(),)))


async def test_what_both_attempts_used_counts_once_in_limits(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 12)
    second.play(*openai_stream(WORDS[12:], usage={"prompt_tokens": 20, "completion_tokens": 300, "total_tokens": 320}))
    proxy = await start_proxy(config(upstream, second, ", limits: {tokens_per_minute: 10000}"))
    await answer(proxy)
    (record,) = await proxy.ended()
    assert record.usage is not None
    body = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    async with aiohttp.ClientSession() as http, http.post(f"{proxy.url}/v1/chat/completions", json=body) as again:
        left = int(again.headers["x-ratelimit-remaining-tokens"])
    assert left == pytest.approx(10_000 - record.usage.total_tokens, abs=60), "some drain meanwhile"


async def test_what_was_seen_of_a_continuation_counts_once_when_its_client_leaves(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 12)
    second.play(*openai_stream(WORDS[12:])[:9], Stall())
    proxy = await start_proxy(config(upstream, second))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "count"}]}
    async with aiohttp.ClientSession() as http, http.post(f"{proxy.url}/v1/chat/completions", json=body) as one:
        async for line in one.content:
            if WORDS[18].strip().encode() in line:
                break
        one.close()
    (record,) = await proxy.ended()
    assert record.end == "client_gone"
    outputs = [attempt.usage.output_tokens for attempt in record.attempts if attempt.usage]
    assert outputs == [12, record.content_events - 12]
    assert record.usage is not None
    assert record.usage.output_tokens == record.content_events


@pytest.mark.parametrize("ending", [Fin(), Rst()], ids=["fin", "reset"])
@pytest.mark.parametrize("overlap", [0, 3])
async def test_B13_the_next_target_goes_on(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream, ending: Any, overlap: int
) -> None:
    cut_after(upstream, 12, ending)
    used = {"prompt_tokens": 20, "completion_tokens": 18 + overlap, "total_tokens": 38 + overlap}
    second.play(*openai_stream(WORDS[12 - overlap :], usage=used))
    proxy = await start_proxy(config(upstream, second))
    text, reason, usage = await answer(proxy)
    assert (text, reason) == (TEXT, "stop")
    asked = second.requests[0].json()["messages"]
    assert [message["role"] for message in asked] == ["user", "assistant", "user"]
    assert asked[1]["content"] == "".join(WORDS[:12])
    (record,) = await proxy.ended()
    assert (record.end, record.backend) == ("done", "two")
    assert [(one.role, one.outcome) for one in record.attempts] == [
        ("answer", "upstream_truncated"),
        ("continuation", "ok"),
    ]
    assert record.usage is not None
    assert record.usage.estimated
    assert record.usage.output_tokens == sum(one.usage.output_tokens for one in record.attempts if one.usage)
    assert usage.completion_tokens == record.usage.output_tokens == 30 + overlap


async def test_a_target_that_goes_on_by_itself_is_sent_the_answer_alone(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 5)
    second.play(*openai_stream([" ", *WORDS[5:]]))
    proxy = await start_proxy(config(upstream, second, row=", quirks: {prefill: continue_final_message}"))
    text, reason, _ = await answer(proxy)
    assert (text, reason) == (TEXT, "stop")
    body = second.requests[0].json()
    assert body["messages"][-1] == {"role": "assistant", "content": "".join(WORDS[:5]).rstrip()}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


async def test_a_stall_is_continued_too(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 8, Sleep(60))
    second.play(*openai_stream(WORDS[8:]))
    proxy = await start_proxy(config(upstream, second, ", timeouts: {token_gap_s: 0.5}"))
    assert (await answer(proxy))[:2] == (TEXT, "stop")
    await upstream.peer_gone(1)


async def test_the_same_target_is_asked_again_where_there_is_no_other(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    upstream.play(openai_stream(WORDS)[:10], Fin())
    upstream.play(*openai_stream(WORDS[8:]))
    proxy = await start_proxy(config(upstream, second).replace("[one/m, two/m]", "one/m"))
    assert (await answer(proxy))[:2] == (TEXT, "stop")
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("path", PATHS)
async def test_every_contract_gets_one_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream, path: str
) -> None:
    cut_after(upstream, 12)
    second.always(*openai_stream(WORDS[10:]))
    proxy = await start_proxy(config(upstream, second))
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 99,
        "stream": True,
        "messages": [{"role": "user", "content": "c"}],
    }
    if path == "/v1/responses":
        body = {"model": "m", "stream": True, "input": "c"}
    async with aiohttp.ClientSession() as http, http.post(proxy.url + path, json=body) as response:
        data = (await response.read()).decode()
    assert (await proxy.ended())[0].end == "done"
    position = 0
    for word in WORDS[:12] + WORDS[12:]:
        position = data.index(word.strip()[:-1], position)
    assert "error" not in data.split("word29")[-1]


async def test_B13_no_target_that_goes_on_leaves_the_first_error(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 5)
    second.always(*json_reply(500, {"error": {"message": "out of order"}}))
    proxy = await start_proxy(config(upstream, second))
    async with aiohttp.ClientSession() as http:
        body = {"messages": [{"role": "user", "content": "c"}]}
        async with http.post(f"{proxy.url}/chat?dialect=json", json=body) as response:
            data = await response.text()
    assert "upstream_truncated" in data
    assert "event: done" not in data
    (record,) = await proxy.ended()
    assert (record.end, record.error_code) == ("upstream_truncated", "upstream_truncated")
    assert len(record.attempts) == 3, "the cut one, the other, and the first again"


async def test_one_that_starts_over_in_other_words_is_not_shown(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 12)
    second.always(*openai_stream([*WORDS[:6], "other words ", *WORDS[7:]]))
    proxy = await start_proxy(config(upstream, second))
    async with aiohttp.ClientSession() as http:
        body = {"messages": [{"role": "user", "content": "c"}]}
        async with http.post(f"{proxy.url}/chat?dialect=json", json=body) as response:
            data = await response.text()
    assert "other words" not in data
    assert "upstream_truncated" in data
    assert "event: done" not in data


@pytest.mark.parametrize("delta", [
    {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
    {"reasoning_content": "hm"},
], ids=["call", "reasoning"])  # fmt: skip
async def test_calls_and_reasoning_are_not_continued(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream, delta: dict[str, Any]
) -> None:
    chunks = [openai_chunk({"content": "One"}), openai_chunk(delta)]
    upstream.always(
        Send(sse_head()), *(Send(chunked(f"data: {json.dumps(one)}\n\n".encode())) for one in chunks), Fin()
    )
    proxy = await start_proxy(config(upstream, second))
    with pytest.raises(APIError, match="complete"):
        await answer(proxy)
    assert second.requests == []


async def test_json_is_continued_letter_for_letter_or_not_at_all(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    cut_after(upstream, 5)
    proxy = await start_proxy(config(upstream, second))
    with pytest.raises(APIError, match="complete"):
        await answer(proxy, response_format={"type": "json_object"})
    assert second.requests == []


async def test_white_space_is_no_half_to_go_on_with(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Vendors refuse an assistant's message of nothing else."""
    for row in ("", ", quirks: {prefill: continue_final_message}"):
        upstream.play(openai_stream(["\n", "\n"])[:4], Fin())
        second.play(*openai_stream(["\n\n", *WORDS]))
        proxy = await start_proxy(config(upstream, second, row=row))
        assert (await answer(proxy))[:2] == ("\n\n" + TEXT, "stop")
        assert [one["role"] for one in second.requests[-1].json()["messages"]] == ["user"]


async def test_a_target_that_is_held_back_goes_on_after_the_others(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as third:
        text = config(upstream, second).replace("[one/m, two/m]", "[one/m, three/m, two/m]")
        row = f'  three: {{kind: openai-compatible, base_url: "{third.url}"}}\n        routes:'
        proxy = await start_proxy(
            text.replace("routes:", row).replace(
                "backends:", "server: {breaker: {failures: 1, open_s: 60}}\n        backends:"
            )
        )
        proxy.app.states.end(Target("three", "m"), UpstreamConnect("refused"))
        cut_after(upstream, 12)
        second.always(*openai_stream(WORDS[12:]))
        assert (await answer(proxy))[:2] == (TEXT, "stop")
        assert third.requests == []


async def test_json_is_gone_on_with_letter_for_letter(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    whole = json.dumps({"a": [1, {"b": "c d"}], "e": " f "}, indent=2)
    proxy = await start_proxy(
        "        server: {breaker: {failures: 0}}"
        + config(upstream, second, row=", quirks: {prefill: continue_final_message}")
    )
    for at in range(1, len(whole)):
        upstream.play(openai_stream([whole[:at]])[:3], Fin())
        second.play(*openai_stream([whole[len(whole[:at].rstrip()) :]]))
        proxy.app.states.extra = ExtraWork()
        assert (await answer(proxy, response_format={"type": "json_object"}))[:2] == (whole, "stop"), at
        assert second.requests[-1].json()["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("asked", "route", "left"),
    [
        ({"max_tokens": 20}, "", {"max_tokens": 8}),
        ({"max_completion_tokens": 13}, "", {"max_completion_tokens": 1}),
        ({"max_completion_tokens": 5}, "", {"max_completion_tokens": 1}),
        ({}, ", set: {max_tokens: 20}", {"max_tokens": 8}),
        ({"max_tokens": 50}, ", default: {max_tokens: 20}", {"max_tokens": 38}),
        ({}, "", {}),
    ],
)
async def test_the_longest_answer_is_that_of_all_attempts(
    start_proxy: StartProxy,
    upstream: ScriptedUpstream,
    second: ScriptedUpstream,
    asked: dict[str, int],
    route: str,
    left: dict[str, int],
) -> None:
    cut_after(upstream, 12)
    second.always(*openai_stream(WORDS[12:]))
    proxy = await start_proxy(config(upstream, second, route))
    assert (await answer(proxy, **asked))[0] == TEXT
    body = second.requests[0].json()
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == left


async def test_one_of_five_answers_may_be_gone_on_with_for_ever(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The backend that requests are sent to pays, not the one that goes on, which may never be asked first."""
    proxy = await start_proxy("        server: {breaker: {failures: 0}}" + config(upstream, second))
    second.always(*openai_stream(WORDS[5:]))
    for number in range(1, 41):
        upstream.play(*([openai_stream(WORDS)[:7], Fin()] if number % 5 == 0 else openai_stream(WORDS)))
        assert (await answer(proxy))[:2] == (TEXT, "stop"), number
    assert len(second.requests) == 8


async def test_any_cut_with_any_repetition_gives_the_same_text(
    start_proxy: StartProxy, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    proxy = await start_proxy("        server: {breaker: {failures: 0}}" + config(upstream, second))
    dice = random.Random(14)
    for _ in range(25):
        cut = dice.randint(1, len(WORDS) - 1)
        goes_on = dice.choice([cut, 0, max(0, cut - dice.randint(2, 10))])
        pieces = ["".join(WORDS[goes_on:])[at : at + 7] for at in range(0, len("".join(WORDS[goes_on:])), 7)]
        upstream.play(openai_stream(WORDS)[: cut + 2], dice.choice([Fin(), Rst()]))
        second.play(*openai_stream(pieces))
        proxy.app.states.extra = ExtraWork()  # each cut is to be gone on with
        assert (await answer(proxy))[:2] == (TEXT, "stop"), (cut, goes_on)
