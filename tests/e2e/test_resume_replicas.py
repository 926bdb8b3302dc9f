"""Two replicas and one Redis: an answer that one of them runs is resumed, joined and stopped on the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import pytest

from proxy.testing.script import Sleep, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.e2e.test_resume import TOKENS, ask, body, config, frames, halves, http, unnumbered, until
from tests.support.app import Process
from tests.support.redis import RedisServer, running

__all__ = ["http"]

Serve = Callable[..., Awaitable[Process]]

PATH = "/v1/chat/completions"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
async def asking() -> AsyncIterator[None]:
    """Fail, and do not wait for ever."""
    async with asyncio.timeout(60):
        yield


def shared(upstream: ScriptedUpstream, redis: RedisServer, resume: str = "{grace_s: 20}", auth: str = "") -> str:
    return config(upstream, resume, auth=f"store: {redis.url}\n        {auth}")


async def pair(serve: Serve, settings: str) -> tuple[Process, Process]:
    one, other = await asyncio.gather(serve(settings), serve(settings))
    return one, other


async def ends(http: aiohttp.ClientSession, proxy: Process, count: int) -> list[str]:
    """How the requests of a replica ended, once there are so many."""
    async with asyncio.timeout(60):
        while True:  # readers have the end of an answer before its record is kept
            told = [one["end"] for one in await (await http.get(f"{proxy.url}/status/requests")).json()]
            if len(told) >= count and None not in told:
                return told
            await asyncio.sleep(0.01)


async def test_an_answer_goes_on_at_another_replica(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer
) -> None:
    gate = asyncio.Event()
    upstream.always(*halves(gate))
    one, other = await pair(serve, shared(upstream, redis))
    first = await ask(http, one, PATH)
    id = first.headers["X-Stream-Id"]
    begun = await until(first, b"w4")
    first.close()
    again = await http.get(f"{other.url}/streams/{id}")
    assert again.headers["X-Chat-Target"] == "far/scripted-1"
    seen = await until(again, b"w4")
    gate.set()
    whole = frames(unnumbered(seen + await again.read())[0])
    assert whole[: len(frames(begun))] == frames(begun)
    assert whole[-1] == b"data: [DONE]"
    assert [token for token in TOKENS if token.strip().encode() not in b"".join(whole)] == []
    finished = await http.get(f"{other.url}/streams/{id}", params={"after": "4"})
    assert frames(unnumbered(await finished.read())[0]) == whole[5:]
    assert len(upstream.requests) == 1
    assert await ends(http, one, 1) == ["done"]
    assert await ends(http, other, 0) == []


@pytest.mark.heavy
async def test_a_reader_elsewhere_keeps_the_answer_running(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer
) -> None:
    gate = asyncio.Event()
    upstream.always(*halves(gate))
    settings = shared(upstream, redis, "{grace_s: 1}")
    one, other = await pair(serve, settings)
    first = await ask(http, one, PATH)
    await until(first, b"w4")
    again = await http.get(f"{other.url}/streams/{first.headers['X-Stream-Id']}")
    await until(again, b"w4")
    first.close()
    await asyncio.sleep(2.5)  # more than twice the grace
    gate.set()
    assert (await again.read()).endswith(b"data: [DONE]\n\n")


async def test_stop_at_one_replica_ends_the_answer_at_both(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer
) -> None:
    upstream.always(openai_stream(TOKENS)[:6], Sleep(60))
    auth = "auth: {keys: [{name: a, key: key-of-a-0123456789}, {name: b, key: key-of-b-0123456789}]}"
    settings = shared(upstream, redis, auth=auth)
    one, other = await pair(serve, settings)
    mine, theirs = ({"Authorization": f"Bearer key-of-{name}-0123456789"} for name in "ab")
    first = await ask(http, one, PATH, **mine)
    address = f"{other.url}/streams/{first.headers['X-Stream-Id']}"
    assert (await http.get(address, headers=theirs)).status == 404
    assert (await http.delete(address, headers=theirs)).status == 404
    second = await http.get(address, headers=mine)
    await until(second, b"w3")
    assert (await http.delete(address, headers=mine)).status == 204
    ends = frames(await first.read())[-1], frames(unnumbered(await second.read())[0])[-1]
    assert ends[0] == ends[1]
    assert b'"stopped"' in ends[0]


@pytest.mark.heavy
async def test_an_idempotency_key_joins_at_another_replica(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer
) -> None:
    gate = asyncio.Event()
    upstream.always(*halves(gate))
    one, other = await pair(serve, shared(upstream, redis))
    key = {"Idempotency-Key": "page-1"}
    both = await asyncio.gather(ask(http, one, PATH, **key), ask(http, other, PATH, **key))
    assert len({response.headers["X-Stream-Id"] for response in both}) == 1
    different = await http.post(other.url + PATH, json=body(PATH, temperature=0.5), headers=key)
    assert different.status == 409
    gate.set()
    read = [await response.read() for response in both]
    assert frames(read[0]) == frames(read[1])
    assert len(upstream.requests) == 1


@pytest.mark.heavy
async def test_a_killed_replica_leaves_a_cut_and_no_end(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer,
    asking: None,
) -> None:  # fmt: skip
    upstream.always(openai_stream(TOKENS)[:6], Sleep(60))
    one, other = await pair(serve, shared(upstream, redis))
    content = json.dumps(body(PATH))
    first = await http.post(one.url + PATH, data=content, headers={"Content-Type": "application/json"})
    await until(first, b"w3")
    second = await http.get(f"{other.url}/streams/{first.headers['X-Stream-Id']}")
    seen = await until(second, b"w3")
    one.process.kill()
    with pytest.raises(aiohttp.ClientPayloadError):
        seen += await second.read()
    assert b"[DONE]" not in seen


@pytest.mark.heavy
async def test_while_redis_is_away_each_replica_has_its_own(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer
) -> None:
    gate = asyncio.Event()
    upstream.always(*halves(gate))
    one, other = await pair(serve, shared(upstream, redis))
    begun = await ask(http, one, PATH)
    await until(begun, b"w4")
    redis.stop()
    alone = await ask(http, one, PATH)
    await until(alone, b"w4")
    own = await http.get(f"{one.url}/streams/{alone.headers['X-Stream-Id']}")
    unknown = await http.get(f"{other.url}/streams/{alone.headers['X-Stream-Id']}")
    assert (unknown.status, (await unknown.json())["error"]["code"]) == (503, "streams_unknown")
    gate.set()
    for response in (begun, alone, own):
        assert b"[DONE]" in await response.read()


async def test_a_client_may_be_ahead_of_what_was_copied(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer, asking: None
) -> None:
    """Frames reach a client before Redis: another replica waits for those that the client has."""
    gate = asyncio.Event()
    upstream.always(*halves(gate))
    one, other = await pair(serve, shared(upstream, redis))
    first = await ask(http, one, PATH)
    begun = await until(first, b"w4")
    has = len(frames(begun))
    redis.freeze()  # nothing more is copied
    gate.set()
    begun += await first.read()
    redis.thaw()
    whole = frames(begun)
    ahead = await http.get(f"{other.url}/streams/{first.headers['X-Stream-Id']}", params={"after": str(len(whole) - 2)})
    assert (ahead.status, frames(unnumbered(await ahead.read())[0])) == (200, whole[-1:])
    beyond = await http.get(f"{other.url}/streams/{first.headers['X-Stream-Id']}", params={"after": str(len(whole))})
    assert beyond.status == 410
    assert has < len(whole)


@pytest.mark.heavy  # a replica is believed in for ten seconds
async def test_a_request_whose_replica_died_before_its_answer_can_be_sent_again(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer, asking: None
) -> None:
    upstream.play(Sleep(60))
    upstream.always(*openai_stream(TOKENS))
    one, other = await pair(serve, shared(upstream, redis))
    key = {"Idempotency-Key": "page-1"}
    lost = asyncio.create_task(ask(http, one, PATH, **key))
    await upstream.received(1)
    one.process.kill()
    with pytest.raises(aiohttp.ClientError):
        await lost
    async with asyncio.timeout(60):
        while (again := await ask(http, other, PATH, **key)).status != 200:
            assert (again.status, (await again.json())["error"]["code"]) == (503, "replica_gone")
    assert (await again.read()).endswith(b"data: [DONE]\n\n")
    assert redis.kept_for_ever() == []


async def test_a_failure_before_the_first_token_is_not_kept_elsewhere_either(
    serve: Serve, upstream: ScriptedUpstream, http: aiohttp.ClientSession, redis: RedisServer
) -> None:
    upstream.play(*json_reply(400, {"error": {"message": "no"}}))
    upstream.always(*openai_stream(TOKENS))
    one, other = await pair(serve, shared(upstream, redis))
    key = {"Idempotency-Key": "page-1"}
    assert (await ask(http, one, PATH, **key)).status == 400
    async with asyncio.timeout(60):  # until Redis knows of its end
        while (again := await ask(http, other, PATH, **key)).status in {400, 404}:
            assert len(upstream.requests) == 1
    assert again.status == 200
