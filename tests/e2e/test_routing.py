"""Which target answers, over real sockets: pickers, hedges and what is told of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proxy.errors import UpstreamConnect
from proxy.pipeline.targets import TargetStates
from proxy.routing.plan import Target
from proxy.testing.script import (
    Rst,
    Send,
    Sleep,
    Stall,
    Step,
    Wait,
    event,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream, Seen, eventually
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
COUNTED = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
FROM_A, FROM_B = (openai_stream(["from", name], usage=COUNTED) for name in (" a", " b"))


@pytest.fixture
async def other() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


def config(a: ScriptedUpstream, b: ScriptedUpstream, *, server: str = "{}", **keys: str) -> str:
    """A route to two backends; `keys` are more of its keys, as YAML."""
    more = "".join(f", {key}: {value}" for key, value in {"to": "[a/m, b/m]", **keys}.items())
    return (
        f"server: {server}\nbackends:\n"
        f'  a: {{kind: openai-compatible, base_url: "{a.url}"}}\n  b: {{kind: openai-compatible, base_url: "{b.url}"}}\n'
        f"routes:\n  - {{name: default{more}}}\n"
    )


async def ask(proxy: Running, **more: Any) -> tuple[int, dict[str, str], str]:
    """The status, the headers, and the text or the body."""
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/v1/chat/completions", {**ASK, **more})
        answer = await client.read_head()
        body = await client.read_body()
        return answer.status, answer.headers, told(body) if answer.status == 200 else body.decode()


def told(body: bytes) -> str:
    """The text of an OpenAI stream, which has to be whole."""
    assert body.rstrip().endswith(b"data: [DONE]"), body
    chunks = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))


async def get(proxy: Running, path: str) -> str:
    async with await RawClient.connect(proxy.port) as client:
        await client.get(path)
        await client.read_head()
        return (await client.read_body()).decode()


# -- pickers ---------------------------------------------------------------------------------------------------


async def test_least_busy_goes_where_no_stream_is_open(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, pick="least-busy"))
    go = asyncio.Event()
    for one, answer in ((upstream, FROM_A), (other, FROM_B)):
        one.always(Wait(go), *answer)
    streams = [asyncio.create_task(ask(proxy)) for _ in range(1)]
    for count in range(2, 9):
        await asyncio.sleep(0)
        while len(upstream.requests) + len(other.requests) < count - 1:
            await asyncio.sleep(0.005)
        streams.append(asyncio.create_task(ask(proxy)))
    while len(upstream.requests) + len(other.requests) < 8:
        await asyncio.sleep(0.005)
    assert (len(upstream.requests), len(other.requests)) == (4, 4)
    open_now = json.loads(await get(proxy, "/status"))["targets"]
    assert {name: row["open"] for name, row in open_now.items()} == {"a/m": 4, "b/m": 4}
    go.set()
    assert Counter(text for _, _, text in await asyncio.gather(*streams)) == {"from a": 4, "from b": 4}


async def test_A11_least_latency_leaves_a_target_that_became_slow(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, takes_s = TargetStates.first_token, {"a": 0.1, "b": 0.5}
    monkeypatch.setattr(
        TargetStates, "first_token", lambda states, target, _: measured(states, target, takes_s[target.backend])
    )
    proxy = await start_proxy(config(upstream, other, pick="least-latency"))
    upstream.always(*FROM_A)
    other.always(*FROM_B)
    assert [(await ask(proxy))[2] for _ in range(6)] == ["from a", "from b", *["from a"] * 4]
    takes_s["a"] = 1.3
    assert [(await ask(proxy))[2] for _ in range(3)] == ["from a", "from b", "from b"]
    other.always(Rst())
    for _ in range(5):
        proxy.app.states.end(Target("b", "m"), UpstreamConnect("refused"))
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/explain", {"path": "/v1/chat/completions", "body": ASK}, {"Host": "localhost"})
        await client.read_head()
        first, second = json.loads(await client.read_body())["targets"]
    assert (first["target"], second["target"]) == ("a/m", "b/m"), "the page knows what is known now"
    assert "s to the first token, 0 open" in first["score"]
    assert second["score"].endswith("tried last: circuit_open")


async def test_an_agui_thread_and_an_ai_sdk_chat_stay_with_their_target(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, pick="weighted", sticky="conversation"))
    upstream.always(*FROM_A)
    other.always(*FROM_B)

    async def target(path: str, body: dict[str, Any]) -> str:
        async with await RawClient.connect(proxy.port) as client:
            await client.post(path, body)
            headers = (await client.read_head()).headers
            await client.read_body()
            return headers["x-chat-target"]

    for path, named, message in (
        ("/agui", "threadId", {"id": "1", "role": "user", "content": "turn"}),
        ("/api/chat", "id", {"id": "1", "role": "user", "parts": [{"type": "text", "text": "turn"}]}),
    ):
        drawn = set()
        for chat in range(8):
            rest = {"runId": "r", "tools": [], "context": [], "state": {}, "forwardedProps": {}}
            messages = [json.loads(json.dumps(message).replace("turn", f"turn {turn}")) for turn in range(3)]
            found = {await target(path, {**rest, named: f"c{chat}", "messages": [one]}) for one in messages}
            assert len(found) == 1, "whatever is said first"
            drawn |= found
        assert drawn == {"a/m", "b/m"}


# -- hedges ----------------------------------------------------------------------------------------------------

HEDGE = "{after_ms: 100}"


@pytest.mark.parametrize("first", [[Stall()], [Send(sse_head()), Stall()]], ids=["nothing", "headers only"])
async def test_A04_a_slow_target_is_overtaken_and_closed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream, first: list[Any]
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge=HEDGE))
    upstream.always(*first)
    other.always(*FROM_B)
    took = 10.0
    for tries in range(1, 4):  # this machine is shared
        status, headers, text = await ask(proxy)
        assert (status, text, headers["x-chat-target"], headers["x-chat-attempts"]) == (200, "from b", "b/m", "2")
        closed = (await upstream.peer_gone(tries))[-1].at
        record = (await proxy.ended(tries))[-1]
        assert record.first_content_at is not None
        if (took := min(took, closed - record.first_content_at)) < 0.25:
            break
    assert took < 0.25
    assert [(one.backend, one.role, one.outcome, one.usage_source) for one in record.attempts] == [
        ("a", "hedge_loser", "hedge_lost", "estimated"),
        ("b", "answer", "ok", "reported"),
    ]
    metrics = await get(proxy, "/metrics")
    assert f'chat_proxy_hedges_total{{end="won",route="default"}} {tries}' in metrics.replace(".0", "")
    assert 'chat_proxy_upstream_attempts_total{backend="a",outcome="hedge_lost"}' in metrics


async def test_A05_an_error_of_the_hedge_does_not_win(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge=HEDGE))
    replies = [
        json_reply(429, {"error": {"message": "slow down"}}),
        json_reply(400, {"error": {"message": "no"}}),
        [Rst()],
    ]
    for number, reply in enumerate(replies, 1):
        failed = asyncio.Event()
        upstream.play(Wait(failed), *FROM_A)
        other.play(*reply)
        asking = asyncio.create_task(ask(proxy))
        await other.received(number)
        await eventually(lambda: proxy.app.states.stats(Target("b", "m")).open == 0)
        failed.set()
        assert (await asking)[2] == "from a"
    assert [one.hedge for one in await proxy.ended(3)] == ["lost"] * 3


async def test_B01_after_the_race_a_cut_of_the_winner_is_one_error(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge=HEDGE))
    upstream.always(Stall())
    other.always(Send(sse_head() + event(openai_chunk({"content": "Hel"}))), Rst())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/v1/chat/completions", ASK)
        await client.read_head()
        body = await client.read_body()
    assert (body.count(b"Hel"), body.count(b'"error"'), b"[DONE]" in body) == (1, 1, False)
    (record,) = await proxy.ended()
    assert (record.end, record.hedge) == ("upstream_truncated", "won")


async def test_C02_a_client_that_leaves_during_a_race_closes_both(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge=HEDGE))
    upstream.always(Stall())
    other.always(Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/v1/chat/completions", ASK)
        await other.received()
    await asyncio.gather(upstream.peer_gone(), other.peer_gone())
    (record,) = await proxy.ended()
    assert (record.end, record.hedge) == ("client_gone", "cancelled")


async def test_a_loser_that_is_drained_is_booked_as_its_upstream_counted(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge="{after_ms: 100, on_lose: drain}"))
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    other.always(*FROM_B)
    assert (await ask(proxy))[2] == "from b"
    assert proxy.records == [], "the record is not complete"
    go.set()
    (record,) = await proxy.ended()
    assert [(one.backend, one.role, one.usage_source) for one in record.attempts] == [
        ("a", "hedge_loser", "reported"),
        ("b", "answer", "reported"),
    ]
    assert upstream.closed == [], "it was read to its end"


async def test_a_loser_that_is_drained_does_not_hold_up_a_stop(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge="{after_ms: 100, on_lose: drain}"))
    upstream.always(Stall())
    other.always(*FROM_B)
    assert (await ask(proxy))[2] == "from b"
    async with asyncio.timeout(60):
        await proxy.app.snapshot.close()
    (record,) = await proxy.ended()
    assert [one.usage_source for one in record.attempts] == ["estimated", "reported"]


async def test_C4_sdks_are_told_not_to_try_again_where_there_was_no_budget_for_a_hedge(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge="{after_ms: 50}", timeouts="{first_token_s: 0.4}"))
    while proxy.app.states.extra.draw("a"):
        pass
    upstream.always(Stall())
    other.always(Stall())
    status, headers, _ = await ask(proxy)
    assert (status, headers["x-should-retry"]) == (504, "false")
    (record,) = await proxy.ended()
    assert (record.hedge, [one.backend for one in record.attempts]) == ("no_budget", ["a", "b"])
    assert record.attempts[0].ended_at is not None
    assert record.attempts[1].started_at >= record.attempts[0].ended_at, "one after the other"


@pytest.mark.parametrize(("limit", "hedged"), [(100, False), (1000, True)])
async def test_a_request_is_not_hedged_where_its_limit_has_no_room_for_another(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream, limit: int, hedged: bool
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge="{after_ms: 50}", limits=f"{{tokens_per_minute: {limit}}}"))
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    other.always(*FROM_B)
    asking = asyncio.create_task(ask(proxy, max_tokens=60))
    await upstream.received()
    await (other.received() if hedged else asyncio.sleep(0.3))
    if not hedged:
        go.set()
    assert (await asking)[2] == ("from b" if hedged else "from a")
    assert len(other.requests) == hedged


async def test_an_answer_in_one_piece_is_not_hedged(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream, other, hedge=HEDGE))
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    upstream.always(Sleep(0.4), json_reply(200, answer))
    status, _, _ = await _unstreamed(proxy)
    assert (status, len(other.requests)) == (200, 0)


async def _unstreamed(proxy: Running) -> tuple[int, dict[str, str], bytes]:
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/v1/chat/completions", {**ASK, "stream": False})
        answer = await client.read_head()
        return answer.status, answer.headers, await client.read_body()


# -- slots and queues ------------------------------------------------------------------------------------------


def limited(upstream: ScriptedUpstream, other: ScriptedUpstream, queue: str, *, fallback: bool = False) -> str:
    then = ", b/m" if fallback else ""
    return config(upstream, other, to=f"[{{target: a/m, concurrency: 2{queue}}}{then}]")


async def test_D01_no_more_streams_are_sent_than_a_target_takes_and_the_others_wait_their_turn(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(limited(upstream, other, ", queue: {size: 10, wait_s: 30}"))
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    streams = [asyncio.create_task(ask(proxy)) for _ in range(6)]
    await upstream.received(2)
    while json.loads(await get(proxy, "/status"))["concurrency"] != {"a/m": {"slots": 2, "taken": 2, "waiting": 4}}:
        await asyncio.sleep(0.01)
    assert len(upstream.requests) == 2
    assert 'chat_proxy_target_slots{state="waiting",target="a/m"} 4' in await get(proxy, "/metrics")
    go.set()
    assert {text for _, _, text in await asyncio.gather(*streams)} == {"from a"}
    records = await proxy.ended(6)
    assert sorted(bool(one.attempts[0].queued_s > 0.001) for one in records) == [False] * 2 + [True] * 4
    assert proxy.app.states.queues() == {"a/m": {"slots": 2, "taken": 0, "waiting": 0}}


async def test_A2_a_clients_key_that_fills_the_queue_shuts_out_no_other(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    keys = {name: f"cp-{name}-8Zk3LmP0xT7vR2nB5yW9sD4fG6hJ1c" for name in ("greedy", "other")}
    proxy = await start_proxy(f"""
        auth: {{keys: [{", ".join(f"{{name: {name}, key: {key}}}" for name, key in keys.items())}]}}
        backends: {{a: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
        routes: [{{name: default, to: [{{target: a/m, concurrency: 1, queue: {{size: 3, wait_s: 60}}}}]}}]
    """)
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)

    async def one(key: str, number: int) -> str:
        async with await RawClient.connect(proxy.port) as client:
            asked = {**ASK, "messages": [{"role": "user", "content": f"{key} {number}"}]}
            await client.post("/v1/chat/completions", asked, {"Authorization": f"Bearer {keys[key]}"})
            status = (await client.read_head()).status
            await client.read_body()
        return f"{key} {number}: {status}"

    streams = []
    for key, number, waiting in (
        ("greedy", 1, 0),
        ("greedy", 2, 1),
        ("greedy", 3, 2),
        ("greedy", 4, 3),
        ("other", 1, 3),
    ):
        streams.append(asyncio.create_task(one(key, number)))
        await eventually(lambda: proxy.app.states.queues().get("a/m") == {"slots": 1, "taken": 1, "waiting": waiting})  # noqa: B023
    await eventually(lambda: any(stream.done() for stream in streams))
    go.set()
    ends = await asyncio.gather(*streams)
    assert ends == ["greedy 1: 200", "greedy 2: 200", "greedy 3: 200", "greedy 4: 429", "other 1: 200"]
    order = [seen.json()["messages"][0]["content"] for seen in upstream.requests]
    assert order == ["greedy 1", "greedy 2", "other 1", "greedy 3"]


@pytest.mark.parametrize("queue", ["", ", queue: {size: 1, wait_s: 0.05}"], ids=["none", "full or slow"])
@pytest.mark.parametrize("fallback", [False, True])
async def test_D01_who_finds_a_target_full_goes_to_the_next_or_is_told_when_to_come_back(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream, queue: str, fallback: bool
) -> None:
    proxy = await start_proxy(limited(upstream, other, queue, fallback=fallback))
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    other.always(*FROM_B)
    streams = [asyncio.create_task(ask(proxy)) for _ in range(2)]
    await upstream.received(2)
    more = await asyncio.gather(*[ask(proxy) for _ in range(3)])
    if fallback:
        assert [text for _, _, text in more] == ["from b"] * 3
    else:
        for status, headers, body in more:
            assert (status, headers["retry-after"], headers["x-should-retry"]) == (429, "1", "true")
            assert json.loads(body)["error"]["code"] == "target_busy"
    go.set()
    assert {text for _, _, text in await asyncio.gather(*streams)} == {"from a"}
    assert len(upstream.requests) == 2
    busy = [record for record in await proxy.ended(5) if record.attempts[0].error_code == "target_busy"]
    assert len(busy) == 3
    assert {record.tries for record in busy} == {int(fallback)}, "it was not asked"
    assert proxy.app.states.open_circuits() == {}


async def test_C03_D01_a_client_that_leaves_the_queue_makes_room_at_once(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(limited(upstream, other, ", queue: {size: 1, wait_s: 60}"))
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    streams = [asyncio.create_task(ask(proxy)) for _ in range(2)]
    await upstream.received(2)
    took = 10.0
    for tries in range(1, 4):  # this machine is shared
        async with await RawClient.connect(proxy.port) as client:
            await client.post("/v1/chat/completions", ASK)
            while proxy.app.states.queues()["a/m"]["waiting"] != 1:
                await asyncio.sleep(0.005)
            left = asyncio.get_running_loop().time()
        while proxy.app.states.queues()["a/m"]["waiting"]:
            await asyncio.sleep(0.005)
        took = min(took, asyncio.get_running_loop().time() - left)
        assert [one.end for one in await proxy.ended(tries)] == ["client_gone"] * tries
        if took < 0.25:
            break
    assert took < 0.25
    go.set()
    assert {text for _, _, text in await asyncio.gather(*streams)} == {"from a"}
    assert len(upstream.requests) == 2, "who left was never asked for"
    assert (await ask(proxy))[2] == "from a", "and no slot is lost"


async def test_slots_survive_a_reload_and_follow_the_new_config(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    proxy = await start_proxy(limited(upstream, other, ", queue: {size: 10, wait_s: 30}"))
    go = asyncio.Event()
    upstream.always(Wait(go), *FROM_A)
    streams = [asyncio.create_task(ask(proxy)) for _ in range(3)]
    await upstream.received(2)
    proxy.rewrite(
        limited(upstream, other, ", queue: {size: 10, wait_s: 30}").replace("concurrency: 2", "concurrency: 4")
    )
    assert await proxy.app.reload()
    streams.append(asyncio.create_task(ask(proxy)))
    await upstream.received(4)
    go.set()
    assert {text for _, _, text in await asyncio.gather(*streams)} == {"from a"}
    assert proxy.app.states.queues() == {"a/m": {"slots": 4, "taken": 0, "waiting": 0}}


async def test_D05_a_target_that_stalls_with_hundreds_of_streams_holds_up_no_other(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    text = config(
        upstream, other, match="{model: m}", to="[{target: a/m, concurrency: 20, queue: {size: 500, wait_s: 60}}]"
    )
    proxy = await start_proxy(text + "  - {name: healthy, to: b/m}\n")
    upstream.always(Stall())
    other.always(*FROM_B)
    stalled = [asyncio.create_task(ask(proxy)) for _ in range(200)]
    await upstream.received(20)
    assert [(await ask(proxy, model="x"))[2] for _ in range(10)] == ["from b"] * 10
    assert len(upstream.requests) == 20
    for one in stalled:
        one.cancel()
    await asyncio.wait(stalled)
    await proxy.ended(210)
    assert proxy.app.states.queues() == {"a/m": {"slots": 20, "taken": 0, "waiting": 0}}


# -- health checks ---------------------------------------------------------------------------------------------


async def test_A11_a_backend_that_fails_its_health_checks_is_tried_last_until_it_is_well(
    start_proxy: StartProxy, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    well = True

    def answer(seen: Seen) -> list[Step]:
        if seen.path == "/health":
            return json_reply(200 if well else 503, {})
        return FROM_A

    upstream.decide(answer)
    other.always(*FROM_B)
    text = config(upstream, other).replace(
        f'"{upstream.url}"', f'"{upstream.url}", health: {{path: /health, every_s: 0.1}}'
    )
    proxy = await start_proxy(text)

    async def until(expected: str) -> None:
        async with asyncio.timeout(60):
            while (await ask(proxy))[2] != expected:
                await asyncio.sleep(0.02)
                asked.append(expected)
            asked.append(expected)

    asked: list[str] = []
    await until("from a")
    well = False
    await until("from b")
    assert (await proxy.ended(len(asked)))[-1].attempts[0].error_code == "unwell"
    other.always(Rst())
    assert (await ask(proxy))[2] == "from a", "with nothing better to try, it is tried"
    other.always(*FROM_B)
    well = True
    await until("from a")
    well = False
    await until("from b")
    proxy.rewrite(config(upstream, other))
    assert await proxy.app.reload()
    assert (await ask(proxy))[2] == "from a", "nobody checks any more"
