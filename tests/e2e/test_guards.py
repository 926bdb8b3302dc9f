"""Guards over real sockets: what the client is told, and that the upstream is left."""

from __future__ import annotations

import asyncio
import json

from proxy.testing.script import Send, Stall, Wait, event, openai_chunk, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import StartProxy, openai_config
from tests.support.clients import RawClient

LOOP = "I will try again. "


async def test_B15_a_loop_ends_within_2000_characters_and_its_upstream_is_closed(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    endless = openai_stream(["It begins well. "], finish=None, done=False)[:-1]
    begun = asyncio.Event()
    upstream.play(endless, Wait(begun), Send(event(openai_chunk({"content": LOOP})), times=20_000), Stall())
    proxy = await start_proxy(openai_config(upstream.url, repetition_guard="true"))
    async with await RawClient.connect(proxy.port) as client:
        await client.post(
            "/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        )
        assert (await client.read_head()).status == 200
        begun.set()
        body = (await client.read_body()).decode()
    told = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in told if one.get("choices"))
    assert text.startswith("It begins well. ")
    assert len(text) <= 2_016
    assert told[-1]["error"]["code"] == "degenerate"
    assert "[DONE]" not in body
    await upstream.peer_gone()
    (record,) = await proxy.ended()
    assert (record.end, record.error_code) == ("upstream_error", "degenerate")
