"""Redis and Postgres stop, start, sleep, fill up and forget under traffic; then everything is counted.

Two `serve` processes share both. A route for each `on_outage` says what may happen meanwhile, and a budget how much may be
spent whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psycopg
from redis import Redis

from proxy.testing.script import Steps, openai_stream
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support import postgres, redis
from tests.support.app import Process, serving

KEY = "cp-web-7Q2k0yXn3mVb8LrTz5WcHs"
ROUTES = ("allow", "deny", "local", "paid")
MOST_AT_ONCE = 6
"""Answers of the route `local` that may be under way at once."""

BUDGET, PRICE = 0.02, 0.0001
"""US dollars: what `paid` may spend for each round of troubles, and what each of its answers costs."""

LONGEST_S = 8.0
"""A store that is away may cost a request a timeout, and no more."""

CONFIG = """
store: "{redis}"
usage: {{store: "{postgres}", spool: "{folder}/spool-{replica}"}}
auth: {{keys: [{{name: web, sha256: "{digest}"}}]}}
backends: {{far: {{kind: openai-compatible, base_url: "{url}"}}}}
prices: {{paid: {{input_per_million: 0, output_per_million: 10}}, "*": {{input_per_million: 0, output_per_million: 0}}}}
routes:
  - {{name: allow, match: {{model: allow}}, to: far/allow, limits: {{parallel: 1000, on_outage: allow}}}}
  - {{name: deny, match: {{model: deny}}, to: far/deny, limits: {{parallel: 1000, on_outage: deny}}}}
  - {{name: local, match: {{model: local}}, to: far/local,
     limits: {{parallel: {parallel}, on_outage: local, local_share: 0.5}}}}
  - {{name: paid, to: far/paid, budget: {{usd: {budget}, per: total, on_outage: deny}}}}
"""


class StoresReport(msgspec.Struct):
    """What happened, and which rules it broke."""

    seed: str
    budget: float
    seconds: float = 0.0
    outcomes: dict[str, Counter[str]] = msgspec.field(default_factory=lambda: {route: Counter() for route in ROUTES})
    asked: Counter[str] = msgspec.field(default_factory=Counter)  # what the upstream saw, by route
    troubles: Counter[str] = msgspec.field(default_factory=Counter)
    rows: int = 0
    tokens: int = 0
    spent: float = 0.0
    lost_under_way: int = 0  # answers of `paid` that ran when Redis forgot its counts
    slowest_s: float = 0.0
    outages: int = 0
    broken: list[str] = []

    def rule(self, true: object, what: str) -> None:
        if not true:
            self.broken.append(what)

    @property
    def table(self) -> str:
        names = sorted({name for counts in self.outcomes.values() for name in counts})
        lines = ["| route | requests | asked upstream | " + " | ".join(names) + " |", "|---" * (len(names) + 3) + "|"]
        for route, counts in self.outcomes.items():
            told = " | ".join(str(counts[name]) for name in names)
            lines.append(f"| {route} | {counts.total()} | {self.asked[route]} | {told} |")
        facts = {
            "seed": self.seed,
            "seconds": f"{self.seconds:.0f}",
            "exceptions to the rules": str(len(self.broken)),
            "troubles": ", ".join(f"{count} {name}" for name, count in sorted(self.troubles.items())),
            "outages of Redis, as both replicas saw them": str(self.outages),
            "rows of the ledger, tokens in them": f"{self.rows}, {self.tokens}",
            "budget, spent": f"${self.budget}, ${self.spent:.4f}",
            "longest request": f"{self.slowest_s:.1f} s",
        }
        told = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
        return "\n".join(lines) + f"\n\n| | |\n|---|---|\n{told}\n"


class Stores:
    """The servers, the replicas and the upstream."""

    def __init__(self, seed: str, folder: Path, rounds: int) -> None:
        self.report = StoresReport(seed, BUDGET * rounds)
        self.dice = random.Random(seed)
        self.under_way: Counter[str] = Counter()
        self.trouble_of_redis = 0  # 0: none now, nor a moment ago
        self.tokens = 0
        self._folder = folder
        self._redis: redis.RedisServer
        self._postgres: postgres.PostgresServer
        self.upstream: ScriptedUpstream
        self.replicas: list[Process] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Stores]:
        async with contextlib.AsyncExitStack() as stack:
            self._redis = stack.enter_context(redis.running())
            self._postgres = stack.enter_context(postgres.running())
            self.upstream = await stack.enter_async_context(ScriptedUpstream())
            self.upstream.decide(self._answer)
            for replica in range(2):
                path = self._folder / f"config-{replica}.yaml"
                path.write_text(
                    CONFIG.format(
                        redis=self._redis.url,
                        postgres=self._postgres.url,
                        folder=self._folder,
                        replica=replica,
                        digest=hashlib.sha256(KEY.encode()).hexdigest(),
                        url=self.upstream.url,
                        parallel=MOST_AT_ONCE,
                        budget=self.report.budget,
                    )
                )
                self.replicas.append(await stack.enter_async_context(serving(path)))
                await self.replicas[-1].wait_until_listening()
            yield self

    def _answer(self, seen: Seen) -> Steps:
        """Ten tokens in a third of a second."""
        self.report.asked[seen.json()["model"]] += 1
        self.tokens += 10
        usage = {"prompt_tokens": 0, "completion_tokens": 10, "total_tokens": 10}
        return openai_stream(["word "] * 10, gap_s=0.03, usage=usage)

    # -- traffic -------------------------------------------------------------------------------------------------

    async def keep_asking(self, http: aiohttp.ClientSession, number: int, stop: asyncio.Event) -> None:
        dice = random.Random(f"{self.report.seed}/{number}")
        while not stop.is_set():
            route = dice.choice(ROUTES)
            began = time.monotonic()
            disturbed = self.trouble_of_redis
            outcome = await self._ask(http, self.replicas[dice.randrange(2)].url, route)
            self.report.outcomes[route][outcome] += 1
            self.report.slowest_s = max(self.report.slowest_s, time.monotonic() - began)
            self._judge(route, outcome, disturbed or self.trouble_of_redis)
            if outcome != "done":
                await asyncio.sleep(0.05)

    async def _ask(self, http: aiohttp.ClientSession, url: str, route: str) -> str:
        body: dict[str, Any] = {"model": route, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with http.post(f"{url}/v1/chat/completions", json=body | {"max_tokens": 10}) as answer:
            if answer.status != 200:
                return str(answer.status)
            self.under_way[route] += 1
            try:
                text = await answer.read()
            finally:
                self.under_way[route] -= 1
        return "done" if text.rstrip().endswith(b"[DONE]") and text.count(b"word ") == 10 else "cut"

    def _judge(self, route: str, outcome: str, disturbed: int) -> None:
        allowed = {"allow": {"done"}, "deny": {"done"}, "local": {"done", "429"}, "paid": {"done", "402"}}[route]
        if disturbed and route in {"deny", "paid"}:
            allowed = {*allowed, "503"}
        self.report.rule(outcome in allowed, f"{route}: {outcome}")
        most = MOST_AT_ONCE * (2 if disturbed else 1)  # what both admit alone comes on top of what runs
        self.report.rule(self.under_way["local"] <= most, f"local: {self.under_way['local']} at once")

    # -- troubles ------------------------------------------------------------------------------------------------

    async def disturb(self, rounds: int) -> None:
        """Each trouble once in a round, in an order of the seed's; now and then two at once."""
        ours: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("Redis forgets all", self._redis_restarts),
            ("Redis sleeps", self._redis_sleeps),
            ("Redis is full", lambda: self._redis_is_told(("maxmemory", "1"), ("maxmemory", "0"))),
            ("Redis must not write", lambda: self._redis_is_told(("min-replicas-to-write", "1"),
                                                                 ("min-replicas-to-write", "0"))),
            ("Redis forgets its scripts", self._scripts),
            ("Postgres is stopped", self._postgres_restarts),
            ("Postgres is locked", self._postgres_is_locked),
            ("Postgres is full", self._postgres_is_full),
        ]  # fmt: skip
        for _ in range(rounds):
            self.dice.shuffle(ours)
            for (name, cause), (other, with_it) in zip(ours, [*ours[1:], ours[0]], strict=True):
                self.report.troubles[name] += 1
                if self.dice.random() < 0.3 and name.split()[0] != other.split()[0]:
                    self.report.troubles[other] += 1
                    await asyncio.gather(cause(), with_it())
                else:
                    await cause()
                await asyncio.sleep(self.dice.uniform(0.5, 1.5))

    @contextlib.asynccontextmanager
    async def _redis_in_trouble(self) -> AsyncIterator[None]:
        self.trouble_of_redis += 1
        try:
            yield
            await asyncio.sleep(self.dice.uniform(0.5, 2.0))
        finally:
            asyncio.get_running_loop().call_later(3.0, self._redis_is_well)

    def _redis_is_well(self) -> None:
        self.trouble_of_redis -= 1

    async def _redis_restarts(self) -> None:
        async with self._redis_in_trouble():
            self.report.lost_under_way += self.under_way["paid"] + 2
            await asyncio.to_thread(self._redis.stop)
        await asyncio.to_thread(self._redis.start)

    async def _redis_sleeps(self) -> None:
        async with self._redis_in_trouble():
            self._redis.freeze()
        self._redis.thaw()

    async def _redis_is_told(self, bad: tuple[str, str], good: tuple[str, str]) -> None:
        with contextlib.closing(Redis(unix_socket_path=str(self._redis.socket))) as client:
            async with self._redis_in_trouble():
                client.config_set(*bad)
            client.config_set(*good)

    async def _scripts(self) -> None:
        with contextlib.closing(Redis(unix_socket_path=str(self._redis.socket))) as client:
            client.script_flush()

    async def _postgres_restarts(self) -> None:
        await asyncio.to_thread(self._postgres.stop)
        await asyncio.sleep(self.dice.uniform(0.5, 2.0))
        await asyncio.to_thread(self._postgres.start)

    async def _postgres_is_locked(self) -> None:
        async with await psycopg.AsyncConnection.connect(self._postgres.url) as connection:
            await connection.execute("LOCK TABLE chat_proxy_usage")
            await asyncio.sleep(self.dice.uniform(0.5, 2.0))

    async def _postgres_is_full(self) -> None:
        alter = "ALTER TABLE chat_proxy_usage "
        async with await psycopg.AsyncConnection.connect(self._postgres.url, autocommit=True) as connection:
            await connection.execute(alter + "ADD CONSTRAINT no_more CHECK (false) NOT VALID")
            await asyncio.sleep(self.dice.uniform(0.5, 2.0))
            await connection.execute(alter + "DROP CONSTRAINT no_more")

    # -- the count -----------------------------------------------------------------------------------------------

    async def count(self) -> None:
        """Whether nothing was lost and nothing counted twice."""
        report, asked = self.report, self.report.asked
        for route, counts in report.outcomes.items():
            report.rule(asked[route] == counts["done"], f"{route}: asked {asked[route]}, {counts['done']} done")
        await self._all_sent()
        async with await psycopg.AsyncConnection.connect(self._postgres.url) as connection:
            sums = (
                "count(*), count(DISTINCT (id, attempt)), coalesce(sum(output_tokens), 0), coalesce(sum(cost_usd), 0)"
            )
            found = await (await connection.execute(f"SELECT {sums} FROM chat_proxy_usage")).fetchone()
        assert found is not None
        report.rows, once, report.tokens, report.spent = found[0], found[1], int(found[2]), found[3]
        report.rule(report.rows == once == asked.total(), f"{report.rows} rows of {asked.total()} attempts")
        report.rule(report.tokens == self.tokens, f"{report.tokens} tokens in the ledger, {self.tokens} reported")
        most = report.budget + report.lost_under_way * PRICE
        report.rule(report.spent <= most + 1e-9, f"${report.spent:.4f} spent of ${report.budget}, at most ${most:.4f}")
        with contextlib.closing(Redis(unix_socket_path=str(self._redis.socket))) as client:
            for name in client.keys("*"):
                held = client.hget(name, "held") if client.type(name) == b"hash" else None
                report.rule(not held or float(held) == 0, f"{name!r} holds {held!r}")
        report.rule(not (kept := self._redis.kept_for_ever()), f"keys that stay in Redis: {kept}")

    async def _all_sent(self) -> None:
        """Wait until neither replica has anything left to send to a store."""
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(90):
            for replica in self.replicas:
                while True:
                    status = await (await http.get(f"{replica.url}/status")).json()
                    ledger, store = status["usage"], status["store"]
                    if store["reachable"] and not (store["unsent"] or ledger["spooled_bytes"] or ledger["queued"]):
                        break
                    await asyncio.sleep(0.2)
                self.report.rule(not ledger["lost"], f"{replica.url}: {ledger['lost']} rows lost")
                self.report.outages += store["outages"]


async def chaos_of_stores(seed: str, folder: Path, *, rounds: int = 3, at_once: int = 24) -> StoresReport:
    """Run it all. The report has what broke a rule; an empty list is what a run is for."""
    async with Stores(seed, folder, rounds).open() as world:
        report, began, stop = world.report, time.monotonic(), asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {KEY}"}) as http:
            asking = [asyncio.create_task(world.keep_asking(http, number, stop)) for number in range(at_once)]
            try:
                await asyncio.sleep(1)
                await world.disturb(rounds)
                await asyncio.sleep(4)  # all is well again, and the limits hold for both together
            finally:
                stop.set()
                await asyncio.gather(*asking)
        report.seconds = time.monotonic() - began
        await world.count()
        report.rule(report.slowest_s < LONGEST_S, f"a request took {report.slowest_s:.1f} s")
        return report
