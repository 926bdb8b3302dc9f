"""A Redis that stops, starts, forgets and sleeps, and limits that go on."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from proxy.errors import LimitsUnknown
from proxy.store.base import Lease, Meter, Want
from proxy.store.redis import MOST_OF_EACH, PROBE_S, RedisStore
from tests.support import redis

REQUESTS = Meter("key:web:requests", "requests", "key", "web", 10, period_s=3600.0, settles=False)
PARALLEL = Meter("key:web:parallel", "parallel", "key", "web", 4, period_s=0.0, forfeits=False)
TOKENS = Meter("key:web:tokens", "tokens", "key", "web", 1000, period_s=0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[redis.RedisServer]:
    with redis.running() as server:
        yield server


@pytest.fixture
async def store(server: redis.RedisServer) -> AsyncIterator[RedisStore]:
    if server.process is None:
        server.start()
    server.flush()
    store = RedisStore(server.url)
    yield store
    await store.aclose()


def lease(*meters: Meter, hold: int = 1) -> Lease:
    return Lease(
        600.0, tuple(Want(one, int(one.unit == "requests"), hold * (one.unit != "requests")) for one in meters)
    )


async def taken(store: RedisStore, *meters: Meter, hold: int = 1) -> Lease | None:
    one = lease(*meters, hold=hold)
    ok, _ = await store.take(one)
    return one if ok else None


def patience(store: RedisStore, seconds: float) -> None:
    """How long it waits for its server from now on: its pool, and the connection that counts."""
    redis.patience(store.client, seconds)
    store._timeout_s = seconds


def policy(meter: Meter, on_outage: str, share: float = 1.0) -> Meter:
    return msgspec.structs.replace(meter, on_outage=on_outage, local_share=share)


async def test_while_redis_is_away_each_limit_does_what_it_says(server: redis.RedisServer, store: RedisStore):
    assert await taken(store, REQUESTS)
    server.stop()
    assert all([await taken(store, policy(REQUESTS, "allow")) for _ in range(50)])
    with pytest.raises(LimitsUnknown):
        await taken(store, policy(REQUESTS, "deny"))
    with pytest.raises(LimitsUnknown):
        await taken(store, policy(REQUESTS, "allow"), policy(PARALLEL, "deny"))
    half = policy(REQUESTS, "local", 0.5)
    assert [bool(await taken(store, half)) for _ in range(7)] == [True] * 5 + [False] * 2
    state = store.state()
    assert (state["reachable"], state["outages"]) == (False, 1)
    server.start()
    await redis.reachable(store)
    assert store.state()["reachable"]
    assert [bool(await taken(store, half)) for _ in range(11)] == [True] * 10 + [False], "the server started empty"


async def test_what_ends_while_redis_is_away_is_counted_once_when_it_is_back(
    server: redis.RedisServer, store: RedisStore
):
    running = [await taken(store, PARALLEL, TOKENS, hold=1) for _ in range(4)]
    assert not await taken(store, PARALLEL)
    server.freeze()
    patience(store, 0.3)
    assert await taken(store, PARALLEL, TOKENS), "counted by this process alone"
    for one in running:
        assert one
        store.settle(one, [0, 100])
        store.settle(one, [0, 100])
    patience(store, 60)
    server.thaw()
    await redis.reachable(store)
    assert [bool(await taken(store, PARALLEL)) for _ in range(5)] == [True] * 4 + [False]
    last = lease(TOKENS)
    _, (room,) = await store.take(last)
    assert room.left == 1000 - 400 - 1, "neither what was taken in vain nor anything twice"


async def test_a_slow_redis_is_waited_for(server: redis.RedisServer):
    server.flush()
    store = RedisStore(server.url)
    assert await taken(store, REQUESTS)
    sleeping = asyncio.create_task(store.client.execute_command("DEBUG", "SLEEP", "0.3"))
    await asyncio.sleep(0.05)
    assert [bool(await taken(store, REQUESTS)) for _ in range(10)] == [True] * 9 + [False]
    await sleeping
    assert store.outages == 0
    await store.aclose()


async def test_a_client_that_leaves_while_redis_thinks_takes_nothing(server: redis.RedisServer):
    server.flush()
    store = RedisStore(server.url)
    assert await taken(store, PARALLEL)
    server.freeze()
    leaving = [asyncio.create_task(store.take(lease(PARALLEL))) for _ in range(3)]
    await asyncio.sleep(0.05)
    for one in leaving:
        one.cancel()
    await asyncio.wait(leaving)
    server.thaw()
    assert [bool(await taken(store, PARALLEL)) for _ in range(4)] == [True] * 3 + [False]
    await store.aclose()


async def test_a_server_that_forgot_the_script_is_told_it_again(store: RedisStore):
    assert await taken(store, REQUESTS)
    await store.client.script_flush()
    assert [bool(await taken(store, REQUESTS)) for _ in range(10)] == [True] * 9 + [False]
    assert store.outages == 0


async def test_a_server_that_answers_nonsense_is_away_and_nobody_waits_for_it(store: RedisStore):
    assert await taken(store, REQUESTS)
    store._sha = (await store.client.script_load("return 'nonsense'")).encode()
    assert await taken(store, REQUESTS), "counted by this process alone"
    assert store.outages == 1
    await redis.reachable(store)
    assert [bool(await taken(store, REQUESTS)) for _ in range(10)] == [True] * 9 + [False]


async def test_a_budget_goes_on_from_what_was_left_while_redis_is_away_and_is_told_what_the_ledger_knows(
    server: redis.RedisServer, store: RedisStore
):
    budget = msgspec.structs.replace(TOKENS, name="budget", unit="usd", keeps_s=86_400.0)
    one = await taken(store, budget, hold=700)
    assert one
    store.settle(one, [700])
    assert await taken(store, budget, hold=1)
    asked: list[str] = []
    store.on_back = lambda: (asked.append("the ledger"), store.remember(budget, 900))
    server.stop()
    assert not await taken(store, budget, hold=400), "and not the whole budget anew"
    assert await taken(store, budget, hold=200)
    server.start()
    await redis.reachable(store)
    assert asked == ["the ledger"]
    assert not await taken(store, budget, hold=101), "Redis had forgotten all of it"
    assert await taken(store, budget, hold=100)


async def test_a_server_that_was_emptied_is_told_what_the_ledger_knows(server: redis.RedisServer, store: RedisStore):
    """As one that evicts what it has no room for. It never was away, so nothing else tells of it."""
    budget = msgspec.structs.replace(TOKENS, name="emptied", unit="usd", period_s=0.0, keeps_s=86_400.0)
    asked: list[str] = []
    store.on_back = lambda: (asked.append("the ledger"), store.remember(budget, 900))
    for hold in (500, 400):
        lease = await taken(store, budget, hold=hold)
        assert lease
        store.settle(lease, [hold])
        assert not asked, "a budget that begins is not forgotten"
    assert not await taken(store, budget, hold=101)
    server.flush()
    await taken(store, budget, hold=1)
    assert asked == ["the ledger"]
    assert not await taken(store, budget, hold=100)
    assert asked == ["the ledger"]


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("ACL", "SETUSER", "default", "-evalsha"), ("ACL", "SETUSER", "default", "+@all")),
    ],
    ids=["full", "a replica", "forbidden"],
)
async def test_a_server_that_answers_and_does_not_count_is_away(
    server: redis.RedisServer, store: RedisStore, broken: tuple[str, ...], mended: tuple[str, ...]
):
    assert await taken(store, REQUESTS)
    await store.client.execute_command(*broken)
    try:
        await taken(store, REQUESTS)
        for _ in range(3):  # longer than it takes to look whether it is back
            await asyncio.sleep(PROBE_S)
            assert store.away
        assert store.outages == 1
    finally:
        await store.client.execute_command(*mended)
    await redis.reachable(store)


async def test_what_a_killed_process_held_is_free_within_a_minute_and_what_runs_stays_held(server: redis.RedisServer):
    server.flush()
    start = 1_800_000_000.0
    killed, alive, other = (RedisStore(server.url, now=start) for _ in range(3))
    budget = msgspec.structs.replace(TOKENS, name="budget", unit="usd", keeps_s=86_400.0)
    assert [bool(await taken(killed, PARALLEL, TOKENS, budget)) for _ in range(3)] == [True] * 3
    running = await taken(alive, PARALLEL, TOKENS, budget)
    assert running
    assert not await taken(other, PARALLEL)
    for seconds in range(20, 600, 20):
        alive.now = start + seconds
        alive.renew()
        assert await taken(alive, budget, hold=0), "and the renewal was sent before"
    other.now = start + 590
    assert [bool(await taken(other, PARALLEL)) for _ in range(4)] == [True] * 3 + [False]
    _, (room,) = await other.take(lease(budget, hold=0))
    assert room.left == 1000 - 4, "of a budget all of it is held for as long as the requests may last"
    alive.settle(running, [0, 0, 0])
    assert await taken(alive, budget, hold=0)
    assert await taken(other, PARALLEL)
    for store in (killed, alive, other):
        await store.aclose()


async def test_closing_sends_what_ended(server: redis.RedisServer, store: RedisStore):
    first = RedisStore(server.url)
    running = [await taken(first, PARALLEL) for _ in range(4)]
    for one in running:
        assert one
        first.settle(one, [0])
    await first.aclose()
    assert all([await taken(store, PARALLEL) for _ in range(4)])


async def test_nothing_is_kept_for_ever(store: RedisStore):
    one = await taken(store, REQUESTS, PARALLEL, TOKENS)
    assert one
    keys = await store.client.keys("*")
    assert len(keys) == 5
    assert all([0 < await store.client.ttl(key) < 90_000 for key in keys])


async def test_no_password_is_shown():
    store = RedisStore("redis://user:hunter2hunter2@127.0.0.1:1/0?password=also")
    assert "hunter2" not in str(store.state()) + store.address
    assert store.address == "redis://127.0.0.1:1/0"
    await store.aclose()


async def scripts(store: RedisStore) -> int:
    """How often the server ran the script."""
    return int((await store.client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.fixture
def leisurely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.store.redis.SETTLE_S", 3600.0)


@pytest.mark.usefixtures("leisurely")
@pytest.mark.parametrize("sum_of", [(TOKENS,), (TOKENS, PARALLEL)])
async def test_the_end_of_a_request_goes_with_the_next_unless_its_place_is_waited_for(
    store: RedisStore, sum_of: tuple[Meter, ...]
):
    assert await taken(store, REQUESTS)
    before = await scripts(store)
    for _ in range(8):
        one = await taken(store, *sum_of)
        assert one, "at most one is under way"
        store.settle(one, [10, 0][: len(sum_of)])
        await asyncio.wait_for(store._idle.wait(), 60)
    assert await scripts(store) - before == (16 if PARALLEL in sum_of else 8)
    _, (room,) = await store.take(lease(TOKENS, hold=0))
    assert room.left == 1000 - 8 * 10, "a take of this process sees all that ended before"


@pytest.mark.usefixtures("leisurely")
async def test_ends_that_wait_are_sent_when_they_are_many_and_when_the_store_is_closed(server: redis.RedisServer):
    server.flush()
    store, other = RedisStore(server.url), RedisStore(server.url)
    many = [await taken(store, TOKENS, hold=1) for _ in range(MOST_OF_EACH + 1)]
    for one in many[:-1]:
        assert one
        store.settle(one, [2])
    async with asyncio.timeout(60):
        while (await other.take(lease(TOKENS, hold=0)))[1][0].left != 1000 - 2 * MOST_OF_EACH - 1:
            pass
    assert many[-1]
    store.settle(many[-1], [2])
    await store.aclose()
    assert (await other.take(lease(TOKENS, hold=0)))[1][0].left == 1000 - 2 * MOST_OF_EACH - 2
    await other.aclose()


async def test_the_end_of_the_last_request_needs_no_other_call(server: redis.RedisServer, store: RedisStore):
    other = RedisStore(server.url)
    one = await taken(store, TOKENS, hold=1000)
    assert one
    store.settle(one, [0])
    async with asyncio.timeout(60):
        while not await taken(other, TOKENS, hold=1000):
            pass
    await other.aclose()


async def test_an_answer_that_came_while_this_process_stood_still_is_read(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
):
    assert await taken(store, REQUESTS)
    patience(store, 0.2)
    connection = store._connection
    send = connection.send_packed_command

    async def stand_still(command: bytes) -> None:
        await send(command)
        assert select.select([connection._writer.get_extra_info("socket")], [], [], 60)[0]
        time.sleep(0.5)

    monkeypatch.setattr(connection, "send_packed_command", stand_still)
    assert await taken(store, REQUESTS)
    assert store.outages == 0


async def test_a_server_that_is_silent_is_away_also_for_a_process_that_stood_still(
    server: redis.RedisServer, store: RedisStore
):
    assert await taken(store, REQUESTS)
    patience(store, 0.2)
    server.freeze()
    try:
        asking = asyncio.create_task(taken(store, REQUESTS))
        await asyncio.sleep(0)
        time.sleep(0.5)
        assert await asyncio.wait_for(asking, 60), "counted by this process alone"
        assert store.outages == 1
    finally:
        server.thaw()
