"""How what became of earlier requests decides where the next one goes, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from proxy.testing.script import Rst, Send, Sleep, Stall, Wait, event, json_reply, openai_chunk, sse_head
from proxy.testing.upstream import ScriptedUpstream
from tests.e2e.test_routing import ASK, FROM_A, FROM_B, ask, config, get
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient

BREAKER = "{breaker: {failures: 1, open_s: 30}}"


@pytest.fixture
async def other() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        upstream.always(*FROM_B)
        yield upstream


class Clock:
    """The time that `proxy` measures circuits with."""

    def __init__(self, proxy: Running) -> None:
        self.now = 0.0
        proxy.app.states.now = lambda: self.now


async def until(proxy: Running, target: str, open_streams: int) -> None:
    async with asyncio.timeout(60):
        while json.loads(await get(proxy, "/status"))["targets"][target]["open"] != open_streams:
            await asyncio.sleep(0.01)


async def test_A11_a_target_that_recovered_is_sent_two_streams_at_first(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, server=BREAKER))
    clock = Clock(proxy)
    upstream.play(Rst())
    assert (await ask(proxy))[2] == "from b"
    clock.now = 31
    upstream.play(*FROM_A)
    assert (await ask(proxy))[2] == "from a", "the probe"
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    streams = []
    for taken in (1, 2):
        streams.append(asyncio.create_task(ask(proxy)))
        await until(proxy, "a/m", taken)
    assert [(await ask(proxy))[2] for _ in range(3)] == ["from b"] * 3
    assert (await proxy.ended(5))[-1].attempts[0].error_code == "slow_start"
    other.always(Rst())
    streams.append(asyncio.create_task(ask(proxy)))
    await until(proxy, "a/m", 3)
    go.set()
    assert {text for _, _, text in await asyncio.gather(*streams)} == {"from a"}, "with nothing better it is asked"


async def test_A11_a_target_that_recovers_goes_before_one_that_fails(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, server=BREAKER, to="[b/m, a/m]"))
    clock = Clock(proxy)
    other.always(Rst())
    upstream.play(Rst())
    assert (await ask(proxy))[0] == 502
    clock.now = 31
    other.play(Rst())
    upstream.play(*FROM_A)
    assert (await ask(proxy))[2] == "from a"
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    streams = []
    for taken in (1, 2, 3):
        streams.append(asyncio.create_task(ask(proxy)))
        await until(proxy, "a/m", taken)
    go.set()
    assert {text for _, _, text in await asyncio.gather(*streams)} == {"from a"}
    assert len(other.requests) == 2, "it was not asked again"


async def test_conversations_leave_a_target_that_fails_and_come_back(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as third:
        text = config(upstream, other, server=BREAKER, to="[a/m, b/m, c/m]", pick="weighted", sticky="conversation")
        row = f'  c: {{kind: openai-compatible, base_url: "{third.url}"}}\n'
        proxy = await start_proxy(text.replace("routes:\n", row + "routes:\n"))
        clock = Clock(proxy)
        upstream.always(*FROM_A)
        third.always(*FROM_B)

        async def targets() -> list[str]:
            return [(await ask(proxy, prompt_cache_key=f"c{chat}"))[1]["x-chat-target"] for chat in range(24)]

        before = await targets()
        assert set(before) == {"a/m", "b/m", "c/m"}
        upstream.always(Rst())
        meanwhile = await targets()
        moved = [now for was, now in zip(before, meanwhile, strict=True) if was == "a/m"]
        assert set(moved) == {"b/m", "c/m"}, "not all to the same"
        assert [now for was, now in zip(before, meanwhile, strict=True) if was != now] == moved
        assert await targets() == meanwhile
        upstream.always(*FROM_A)
        clock.now = 31
        assert await targets() == before


async def test_weight_0_is_asked_only_when_all_others_fail(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    to = "[{target: a/m, weight: 0}, {target: b/m, weight: 1}]"
    proxy = await start_proxy(config(upstream, other, server="{breaker: {failures: 0}}", to=to, pick="weighted"))
    upstream.always(*FROM_A)
    assert {(await ask(proxy))[2] for _ in range(30)} == {"from b"}
    other.always(Rst())
    assert (await ask(proxy))[2] == "from a"


async def test_cheapest_asks_the_lowest_price_and_an_unknown_one_last(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    prices = 'prices: {"b/m": {input_per_million: 1, output_per_million: 2}}\n'
    proxy = await start_proxy(prices + config(upstream, other, pick="cheapest"))
    upstream.always(*FROM_A)
    assert (await ask(proxy))[2] == "from b"
    other.always(Rst())
    assert (await ask(proxy))[2] == "from a"


@pytest.mark.parametrize("shown", [False, True], ids=["before the first token", "in the middle"])
async def test_A2_clients_that_leave_say_nothing_about_a_target(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream, shown: bool
) -> None:
    proxy = await start_proxy(config(upstream, other, server="{breaker: {failures: 2, open_s: 30}}"))
    half = [Send(sse_head() + event(openai_chunk({"content": "Hel"})))] if shown else []
    upstream.always(*half, Stall())
    for number in range(1, 5):
        async with await RawClient.connect(proxy.port) as client:
            await client.post("/v1/chat/completions", ASK)
            await upstream.received(number)
            if shown:
                await client.read_head()
        assert (await proxy.ended(number))[-1].end == "client_gone"
    upstream.always(*FROM_A)
    assert (await ask(proxy))[2] == "from a"


async def test_A2_an_answer_that_was_let_in_before_a_429_does_not_end_the_wait(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other))
    go = asyncio.Event()
    upstream.play(Wait(go), *FROM_A)
    earlier = asyncio.create_task(ask(proxy))
    await upstream.received(1)
    upstream.play(*json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "60"}))
    assert (await ask(proxy))[2] == "from b"
    go.set()
    assert (await earlier)[2] == "from a"
    assert (await ask(proxy))[2] == "from b"
    assert len(upstream.requests) == 2, "it was asked to be left alone for a minute"


async def test_an_adaptive_number_of_streams_grows_while_all_are_used_and_shrinks_at_a_429(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    to = "[{target: a/m, concurrency: {min: 2, max: 4}, queue: {size: 50, wait_s: 60}}]"
    proxy = await start_proxy(config(upstream, other, to=to))

    async def slots() -> int:
        return int(json.loads(await get(proxy, "/status"))["concurrency"]["a/m"]["slots"])

    upstream.always(Sleep(0.1), *FROM_A)  # so that no answer is twice as late as another only because we are
    for _ in range(5):
        await ask(proxy)
    assert await slots() == 2, "one at a time does not need more"
    async with asyncio.timeout(60):
        while await slots() < 4:
            await asyncio.gather(*[ask(proxy) for _ in range(12)])
    upstream.always(*json_reply(429, {"error": {"message": "slow down"}}))
    assert [(await ask(proxy))[0] for _ in range(3)] == [429] * 3
    assert await slots() == 2
