"""Guards over real sockets: what the client is told, and that the upstream is left."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.pipeline import guards
from proxy.testing.script import Rst, Send, Sleep, Stall, Step, Wait, event, openai_chunk, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import OpenAIWire, answer
from tests.support.app import Running, StartProxy, openai_config
from tests.support.clients import RawClient

LOOP = "I will try again. "


ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


def told(body: str) -> tuple[str, str]:
    """The text of an answer, and the code of its error."""
    events = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in events if one.get("choices"))
    error = next((one["error"]["code"] for one in events if "error" in one), "")
    assert ("[DONE]" in body) == (not error)
    return text, error


async def asked(proxy: Running, begun: asyncio.Event | None = None) -> tuple[str, str]:
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/v1/chat/completions", ASK)
        assert (await client.read_head()).status == 200
        if begun is not None:
            begun.set()
        return told((await client.read_body()).decode())


def beginning(text: str) -> list[Step]:
    return openai_stream([text], finish=None, done=False)[:-1]


async def test_B15_a_loop_ends_within_2000_characters_and_its_upstream_is_closed(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    begun = asyncio.Event()
    loop = Send(event(openai_chunk({"content": LOOP})), times=20_000)
    upstream.play(beginning("It begins well. "), Wait(begun), loop, Stall())
    proxy = await start_proxy(openai_config(upstream.url, repetition_guard="true"))
    text, error = await asked(proxy, begun)
    assert text.startswith("It begins well. ")
    assert len(text) <= 2_016
    assert error == "degenerate"
    await upstream.peer_gone()
    (record,) = await proxy.ended()
    assert (record.end, record.error_code) == ("upstream_error", "degenerate")


async def test_B16_a_slow_answer_ends_and_its_upstream_is_closed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "WINDOW_S", 1)
    slow = [step for _ in range(100) for step in (Sleep(0.2), Send(event(openai_chunk({"content": "word "}))))]
    upstream.play(beginning("A "), slow)
    proxy = await start_proxy(openai_config(upstream.url, min_tokens_per_s="500"))
    text, error = await asked(proxy)
    assert text.startswith("A ")
    assert error == "upstream_slow"
    await upstream.peer_gone()


async def test_all_at_once(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    """A burst, a cut, a second upstream that goes on: each word once, evenly, and one end."""
    first, rest = "It was the best of times, ", "it was the worst of times, it was the age of wisdom."
    upstream.play(beginning(first), Sleep(0.02), Rst())
    upstream.play(answer(OpenAIWire(), [first + rest]))
    guarded = {"smooth": "{max_lag_ms: 150}", "repetition_guard": "true", "min_tokens_per_s": "1", "on_cut": "continue"}
    proxy = await start_proxy(openai_config(upstream.url, **guarded))
    assert await asked(proxy) == (first + rest, "")
    (record,) = await proxy.ended()
    assert [one.role for one in record.attempts] == ["answer", "continuation"]
    assert record.end == "done"
