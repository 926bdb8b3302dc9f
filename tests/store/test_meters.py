"""Meters in memory and in Redis: one test over both, held to a model that works with exact fractions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from fractions import Fraction
from functools import cache

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from proxy.store.base import Lease, Meter, Store, Want
from proxy.store.memory import SWEEP_EVERY, MemoryStore
from proxy.store.redis import RedisStore
from tests.support import redis

REQUESTS = Meter("r", "requests", "key", "k", 5, settles=False)
TOKENS = Meter("t", "tokens", "key", "k", 100)
PARALLEL = Meter("p", "parallel", "key", "k", 3, period_s=0.0, forfeits=False)
BUDGET = Meter("b", "tokens", "key", "k", 400, period_s=0.0, keeps_s=86_400)
ALL = (REQUESTS, TOKENS, PARALLEL, BUDGET)
START = 1_800_000_000.0


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


class Model:
    """What a meter is meant to say, slowly: the bucket in exact fractions, and its leases."""

    def __init__(self, meter: Meter) -> None:
        self.meter, self.level, self.at = meter, Fraction(0), Fraction(START)
        self.leases: dict[str, tuple[Fraction, Want, Fraction]] = {}

    def advance(self, now: float) -> None:
        time = Fraction(now)
        if self.meter.period_s:
            self.level = max(Fraction(0), self.level - max(Fraction(0), time - self.at) * self.rate)
        self.at = time
        for id in [id for id, (ends, _, _) in self.leases.items() if ends <= time]:
            _, want, _ = self.leases.pop(id)
            if self.meter.forfeits:
                self.level += want.hold

    @property
    def rate(self) -> Fraction:
        return Fraction(self.meter.limit) / Fraction(self.meter.period_s) if self.meter.period_s else Fraction(0)

    @property
    def held(self) -> int:
        return sum(want.hold for _, want, _ in self.leases.values())

    def lack(self, want: Want) -> Fraction:
        return self.level + self.held + want.charge + want.hold - self.meter.limit

    def take(self, want: Want, lease: Lease) -> None:
        self.level += want.charge
        if self.meter.settles:
            self.leases[lease.id] = (self.at + Fraction(lease.lasts_s), want, self.at)

    def settle(self, lease: Lease, used: int) -> None:
        if lease.id in self.leases:
            _, want, taken_at = self.leases.pop(lease.id)
            more = Fraction(used - want.charge)
            if more < 0:
                more = -max(Fraction(0), -more - max(Fraction(0), self.at - taken_at) * self.rate)
            self.level = max(Fraction(0), self.level + more)


class Meters(RuleBasedStateMachine):
    """Requests come, go and are forgotten, while time passes by quarters of a second."""

    server: redis.RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.server.flush()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.model = {meter.name: Model(meter) for meter in ALL}
        self.stores: tuple[Store, ...] = (MemoryStore(self.clock), self.loop.run_until_complete(self._redis()))
        self.open: list[tuple[Lease, ...]] = []
        self.settled: list[tuple[Lease, ...]] = []

    async def _redis(self) -> RedisStore:
        return RedisStore(self.server.url, now=START, timeout_s=60, lease_s=1e6)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stores[1].aclose())
        self.loop.close()

    @rule(quarters=st.integers(1, 100))
    def time_passes(self, quarters: int) -> None:
        self.clock.now += quarters / 4
        self.stores[1].now = self.clock.now

    @rule(quarters=st.integers(1, 400))
    def the_clock_is_put_back(self, quarters: int) -> None:
        self.time_passes(-quarters)

    @rule(used=st.integers(0, 300))
    def the_ledger_says_what_was_spent(self, used: int) -> None:
        model = self.model["b"]
        model.advance(self.clock.now)
        model.level = max(model.level, Fraction(used))

        async def remember() -> None:
            for store in self.stores:
                store.remember(BUDGET, used)

        self.loop.run_until_complete(remember())

    @rule(
        tokens=st.tuples(st.integers(0, 100), st.integers(0, 60)),
        lasts=st.integers(1, 200),
        which=st.sets(st.sampled_from(range(len(ALL))), min_size=1),
    )
    def take(self, tokens: tuple[int, int], lasts: int, which: set[int]) -> None:
        amounts = {"r": (1, 0), "t": tokens, "p": (0, 1), "b": tokens}
        wants = tuple(Want(ALL[index], *amounts[ALL[index].name]) for index in sorted(which))
        leases = tuple(
            Lease(float(lasts), wants, f"{len(self.open)}-{len(self.settled)}-{self.clock.now}") for _ in self.stores
        )
        models = [self.model[want.meter.name] for want in wants]
        for model in models:
            model.advance(self.clock.now)
        lacks = [model.lack(want) for model, want in zip(models, wants, strict=True)]
        if any(0 < lack < Fraction(1, 10**4) for lack in lacks):
            return  # what a store answers here is rounding's affair
        said = [
            self.loop.run_until_complete(store.take(lease)) for store, lease in zip(self.stores, leases, strict=True)
        ]
        taken = all(lack <= 0 for lack in lacks)
        if taken:
            for model, want in zip(models, wants, strict=True):
                model.take(want, leases[0])
            self.open.append(leases)
        for ok, rooms in said:
            assert ok is taken
            for room, model, lack in zip(rooms, models, lacks, strict=True):
                assert room.left == pytest.approx(float(max(0, model.meter.limit - model.level - model.held)), abs=1e-3)
                assert (room.wait_s == 0) is (lack <= 0)
                if lack > 0:
                    assert (room.wait_s > 0) is bool(model.rate and lack <= model.level)
                if room.wait_s > 0:
                    assert room.wait_s == pytest.approx(float(lack / model.rate), abs=1e-3)
        assert said[0][0] == said[1][0]
        assert said[0][1] == said[1][1], "both stores compute the same numbers, to the last bit"

    @rule(data=st.data(), used=st.integers(0, 150))
    def settle(self, data: st.DataObject, used: int) -> None:
        if not self.open:
            return
        leases = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        wants = leases[0].wants
        amounts = [used if want.meter.unit == "tokens" else want.charge for want in wants]
        for want, amount in zip(wants, amounts, strict=True):
            if want.meter.settles:  # else nothing is asked, and a clock that is put back was not seen before
                model = self.model[want.meter.name]
                model.advance(self.clock.now)
                model.settle(leases[0], amount)
        for store, lease in zip(self.stores, leases, strict=True):
            store.settle(lease, amounts)
            store.settle(lease, amounts)  # only the first counts
        self.settled.append(leases)

    @invariant()
    def nobody_is_over_the_limit_of_what_runs_at_once(self) -> None:
        assert self.model["p"].held <= PARALLEL.limit


Servers = Callable[[str], redis.RedisServer]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A server of each program that is asked for."""
    with contextlib.ExitStack() as stack:
        yield cache(lambda program: stack.enter_context(redis.running(program)))


@pytest.mark.parametrize("program", redis.SERVERS)
def test_both_stores_count_as_the_model_does(servers: Servers, program: str):
    Meters.server = servers(program)
    run_state_machine_as_test(
        Meters,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # a failure is made smaller for many minutes otherwise
        ),
    )


@pytest.fixture(params=["memory", *redis.SERVERS])
async def store(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(Clock())
        return
    server = servers(request.param)
    server.flush()
    store = RedisStore(server.url, now=START, timeout_s=60)
    yield store
    await store.aclose()


async def test_ten_thousand_at_once_are_never_more_than_the_limit(store: Store):
    meters = (
        Meter("requests", "requests", "key", "k", 1234, settles=False),
        Meter("parallel", "parallel", "key", "k", 1000, period_s=0.0, forfeits=False),
    )
    running = most = admitted = 0

    async def request() -> None:
        nonlocal running, most, admitted
        lease = Lease(60.0, (Want(meters[0], 1, 0), Want(meters[1], 0, 1)))
        taken, _ = await store.take(lease)
        if not taken:
            return
        admitted += 1
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        store.settle(lease, [1, 0])

    await asyncio.gather(*(request() for _ in range(10_000)))
    assert most <= 1000
    assert 1000 <= admitted <= 1234
    for _ in range(1234 - admitted):
        await request()
    assert admitted == 1234, "no more fit into this minute, and no fewer"
    await request()
    assert admitted == 1234


async def test_what_was_reserved_for_long_and_not_used_lets_nobody_use_more_than_the_limit():
    """A refund of what has drained meanwhile would: ten reservations, given up at once, would leave room for ten limits."""
    clock = Clock()
    store = MemoryStore(clock)
    leases = []
    for _ in range(10):
        lease = Lease(3600.0, (Want(TOKENS, 100, 0),))
        assert (await store.take(lease))[0]
        leases.append(lease)
        clock.now += 60
    for lease in leases:
        store.settle(lease, [0])
    used = 0
    while (await store.take(Lease(3600.0, (Want(TOKENS, 10, 0),))))[0]:
        used += 10
    assert used == 100


async def test_meters_that_hold_nothing_are_forgotten():
    clock = Clock()
    store = MemoryStore(clock)
    for number in range(3 * SWEEP_EVERY):
        clock.now += 0.1
        user = Meter(f"user:{number}", "requests", "user", "k", 5, settles=False)
        assert (await store.take(Lease(1.0, (Want(user, 1, 0),))))[0]
    assert len(store) < 1.5 * SWEEP_EVERY


async def test_a_clock_that_goes_back_gives_nothing_away(store: Store):
    want, tokens = Want(REQUESTS, 1, 0), Want(TOKENS, 50, 0)
    for _ in range(5):
        assert (await store.take(Lease(1.0, (want,))))[0]
    reserved = Lease(600.0, (tokens,))
    assert (await store.take(Lease(600.0, (tokens,))))[0]
    assert (await store.take(reserved))[0]

    def at(now: float) -> None:
        if isinstance(store, RedisStore):
            store.now = now
        else:
            store._clock.now = now

    at(START - 3600)
    assert not (await store.take(Lease(1.0, (want,))))[0]
    store.settle(reserved, [40])
    _, (room,) = await store.take(Lease(1.0, (Want(TOKENS, 0, 0),)))
    assert room.left == 10, "what was not used is given back, and no more"
    at(START - 3600 + 12)
    assert (await store.take(Lease(1.0, (want,))))[0], "it drains by the new clock, and not an hour later"
    assert not (await store.take(Lease(1.0, (want,))))[0]
