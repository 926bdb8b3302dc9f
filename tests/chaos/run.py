"""Everything goes wrong at once: moody upstreams, wandering clients, reloads, a replica that is killed; then the count.

Two `serve` processes share a Redis and a ledger. What is random comes from the seed; what the machine makes of it in
time does not, so two runs with one seed are alike, and not the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from proxy.testing.upstream import ScriptedUpstream
from tests.chaos.clients import Replica, Stream, all_streams, counted
from tests.chaos.upstreams import Moody, told
from tests.support.app import Process, serving
from tests.support.redis import RedisServer, running

REST_S = 60.0
WARM = 1_000_000
"""The number of the first stream that is not counted."""

MOST_ATTEMPTS, FEW = 1.2, 500
WARM_UP = 20
EXTRA, EXTRA_AT_FIRST = 0.2, 27 + 0.2 * WARM_UP
"""Hedges and continuations for each request, and what the budgets of three backends in three processes have at first."""

GROWTH_MB = 48.0
"""How much memory a replica may have more at rest after all streams than after the first."""

CONFIG = """
server:
  resume: {{grace_s: 6, keep_s: {keep_s}}}
  heartbeat_s: 1
store: {redis}
usage: {{store: "sqlite:///{folder}/usage.db", spool: "{folder}/spool-{replica}"}}
backends:
  one: {{kind: openai-compatible, base_url: "{one}"}}
  two: {{kind: openai-compatible, base_url: "{two}", quirks: {{prefill: continue_final_message}}}}
  three: {{kind: openai-compatible, base_url: "{three}"}}
routes:
  - name: default
    to: [one/m, two/m, {{target: three/m, concurrency: 24, queue: {{size: 100, wait_s: 2}}}}]
    pick: least-busy
    hedge: {{after_ms: 250}}
    on_cut: continue
    timeouts: {{first_token_s: 5, token_gap_s: 1, total_s: {total_s}}}
frontends:
  own:
    path: /own
    response:
      token: {{type: token, text: $text}}
      done: {{type: done}}
      error: {{type: error, message: $message}}
"""


class Rest(msgspec.Struct):
    """What the first replica has open when nobody asks it anything."""

    fds: int
    memory_mb: float


class Report(msgspec.Struct):
    seed: str
    streams: list[Stream] = []
    broken: list[str] = []
    seconds: float = 0.0
    reloads: int = 0
    attempts: int = 0
    requests: int = 0
    did: Counter[str] = Counter()
    hedges: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    rows: int = 0
    tokens: int = 0
    before: Rest | None = None
    after: Rest | None = None

    def rule(self, true: object, what: str) -> None:
        if not true:
            self.broken.append(what)

    @property
    def table(self) -> str:
        outcomes = counted(self.streams)
        names = sorted({name for counts in outcomes.values() for name in counts})
        lines = ["| contract | streams | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
        for contract, counts in outcomes.items():
            lines.append(f"| {contract} | {counts.total()} | " + " | ".join(str(counts[name]) for name in names) + " |")
        total = Counter(stream.outcome for stream in self.streams)
        lines.append(f"| all | {total.total()} | " + " | ".join(str(total[name]) for name in names) + " |")
        assert self.before is not None and self.after is not None  # noqa: PT018
        facts = {
            "seed": self.seed,
            "seconds": f"{self.seconds:.0f}",
            "exceptions to the rules": str(len(self.broken)),
            "requests, attempts, attempts for each request": (
                f"{self.requests}, {self.attempts}, {self.attempts / max(1, self.requests):.2f}"
            ),
            "moods of the upstreams, as requests met them": _listed(self.did),
            "roles of attempts": _listed(self.roles),
            "ends of hedges": _listed(self.hedges),
            "connections that were resumed": str(sum(stream.resumed for stream in self.streams)),
            "answers that a killed replica cut": str(
                sum(one.outcome == "cut" and bool(one.excuse) for one in self.streams)
            ),
            "reloads": str(self.reloads),
            "rows of the ledger, tokens in them": f"{self.rows}, {self.tokens}",
            "descriptors at rest, before and after": f"{self.before.fds}, {self.after.fds}",
            "memory at rest, before and after": f"{self.before.memory_mb:.0f} MB, {self.after.memory_mb:.0f} MB",
        }
        told = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
        return "\n".join(lines) + f"\n\n| | |\n|---|---|\n{told}\n"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


class World:
    """Upstreams, replicas, and who disturbs them."""

    def __init__(self, seed: str, folder: Path, ports: tuple[int, int], keep_s: int) -> None:
        self.report = Report(seed)
        self.replicas: list[Replica] = []
        self.moody: list[Moody] = []
        self.processes: list[Process] = []
        self.logged: list[str] = []  # of processes that were killed
        self._folder, self._ports, self._keep_s = folder, ports, keep_s
        self._redis: RedisServer | None = None
        self._stacks: list[contextlib.AsyncExitStack] = []
        self._total_s = 100

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[World]:
        async with contextlib.AsyncExitStack() as stack:
            server = stack.enter_context(running())
            self._redis = server
            for number in range(3):
                upstream = await stack.enter_async_context(ScriptedUpstream())
                self.moody.append(Moody(upstream, f"{self.report.seed}/{number}", self.report.broken))
            for port in self._ports:
                self.replicas.append(Replica(f"http://127.0.0.1:{port}"))
                self._stacks.append(await stack.enter_async_context(contextlib.AsyncExitStack()))
                self.processes.append(await self._start(len(self.processes)))
            yield self

    async def _start(self, replica: int) -> Process:
        path = self._folder / f"config-{replica}.yaml"
        path.write_text(self._config(replica))
        process = await self._stacks[replica].enter_async_context(serving(path, "--port", str(self._ports[replica])))
        await process.wait_until_listening()
        return process

    def _config(self, replica: int) -> str:
        assert self._redis is not None
        one, two, three = (moody.upstream.url for moody in self.moody)
        return CONFIG.format(
            redis=self._redis.url,
            keep_s=self._keep_s,
            folder=self._folder,
            replica=replica,
            one=one,
            two=two,
            three=three,
            total_s=self._total_s,
        )

    async def reload(self) -> None:
        """Change the config every second."""
        while True:
            await asyncio.sleep(1)
            self._total_s += 1
            for replica, process in enumerate(self.processes):
                process.rewrite(self._config(replica))
            self.report.reloads += 1

    async def kill(self) -> None:
        """Kill the second replica without a word, and start it again."""
        self.replicas[1].killed += 1
        self.processes[1].process.kill()
        await self.processes[1].exit_code()
        await self._stacks[1].aclose()
        self.logged += self.processes[1].logged
        await asyncio.sleep(1)
        self.processes[1] = await self._start(1)

    # -- at rest ---------------------------------------------------------------------------------------------------

    async def at_rest(self, *, forgotten: bool = False) -> Rest:
        """Wait until nothing is under way anywhere; with `forgotten` until no answer is kept either."""
        left: list[str] = ["not asked yet"]
        try:
            async with asyncio.timeout(REST_S), aiohttp.ClientSession() as http:
                while left := [line for url in self._urls() for line in await _left(http, url, forgotten=forgotten)]:
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self.report.broken.append(f"{REST_S:.0f} s after the last client there is still: {left}")
        async with aiohttp.ClientSession() as http:
            metrics = await (await http.get(f"{self.replicas[0].url}/metrics")).text()
        fds, memory = _metric(metrics, "process_open_fds"), _metric(metrics, "process_resident_memory_bytes")
        return Rest(int(fds), memory / 1e6)

    def pooled(self) -> int:
        """Connections that wait for the next request: to upstreams, and to Redis."""
        assert self._redis is not None
        return sum(moody.upstream.open_connections for moody in self.moody) + self._redis.clients()

    def kept_for_ever(self) -> list[str]:
        assert self._redis is not None
        return [key for key in self._redis.kept_for_ever() if not key.startswith("chat-proxy:limit")]

    def _urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    async def count(self) -> None:
        """Whether the numbers agree: what upstreams were asked, log lines, metrics, rows of the ledger."""
        report, all_told = self.report, told(self.moody)
        report.attempts, report.did = all_told.requests, all_told.did
        lines = [_lines(process.logged) for process in self.processes]
        ended = {one["request_id"]: one for one in [*_lines(self.logged), *(each for some in lines for each in some)]}
        # Requests that a replica took: it wrote a record, or it was killed before it could.
        took = (sum(id in ended for _, id in stream.asked) or bool(stream.status) for stream in report.streams)
        report.requests = sum(took)
        ratio = report.attempts / report.requests
        few = report.requests < FEW
        report.rule(few or ratio <= MOST_ATTEMPTS, f"{ratio:.2f} attempts for each request")
        for stream in report.streams:
            self._check_records(stream, ended)
        report.hedges = Counter(one["hedge"] for one in ended.values() if one.get("hedge"))
        async with aiohttp.ClientSession() as http:
            for process, some in zip(self.processes, lines, strict=True):
                metrics = await (await http.get(f"{process.url}/metrics")).text()
                counted, logged = _tokens(metrics), sum(one.get("tokens_out", 0) for one in some)
                report.rule(counted == logged, f"{process.url}: {counted} tokens in metrics, {logged} in the log")
        await self._check_ledger(all_told.by_stream)

    def _check_records(self, stream: Stream, ended: dict[str, dict[str, Any]]) -> None:
        """One record for each request, with the end that the client saw (R7)."""
        records = [ended[id] for _, id in stream.asked if id in ended]
        stream.rule(records or stream.excuse or self._lost(stream), "no record")
        if not records or stream.excuse:
            return
        end = records[-1]["end"]
        if stream.outcome == "done":
            stream.rule("done" in {one["end"] for one in records}, f"the client saw done, the record says {end}")
        elif stream.outcome == "error":
            stream.rule(end not in {"done", "client_gone"}, f"the client saw an error, the record says {end}")

    def _lost(self, stream: Stream) -> bool:
        """Whether the only replica that would have a record was killed."""
        killed = [replica.killed for replica, _ in stream.asked]
        return all(killed) or (any(killed) and stream.status == 503)

    async def _check_ledger(self, by_stream: Counter[int]) -> None:
        """Each attempt that an upstream saw has a row, and a whole answer's tokens are what its upstream counted."""
        report = self.report
        database = self._folder / "usage.db"
        rows: list[sqlite3.Row] = []
        for _ in range(150):  # lines are brought in from the spool
            rows = await asyncio.to_thread(_rows, database)
            if len(rows) >= report.attempts:
                break
            await asyncio.sleep(0.1)
        found: Counter[int] = Counter()
        for row in rows:
            number = int(row["request_id"].split("-")[1])
            if number >= WARM:
                continue
            found[number] += 1
            report.rows += 1
            report.roles[row["role"]] += 1
            report.tokens += row["output_tokens"] or 0
            if row["usage"] == "reported" and row["outcome"] == "ok":
                counts = [some for moody in self.moody for some in moody.reported[number]]
                report.rule(
                    row["output_tokens"] in counts, f"stream {number}: {row['output_tokens']} tokens, not {counts}"
                )
        extra = report.roles["hedge_loser"] + report.roles["continuation"]
        report.rule(extra <= EXTRA * report.requests + EXTRA_AT_FIRST, f"{extra} hedges and continuations")
        for stream in report.streams:
            if not any(replica.killed for replica, _ in stream.asked):
                seen, booked = by_stream[stream.number], found[stream.number]
                stream.rule(booked >= seen, f"{seen} attempts, {booked} rows in the ledger")


def _rows(database: Path) -> list[sqlite3.Row]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute("SELECT * FROM chat_proxy_usage").fetchall()
        except sqlite3.OperationalError:
            return []


def _lines(logged: list[str]) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in logged if line.startswith("{"))
    return [line for line in lines if line["event"] == "request_end"]


def _metric(metrics: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"(?m)^{name}(?:\{{[^}}]*\}})? (\S+)$", metrics))


def _tokens(metrics: str) -> int:
    found = re.findall(r'(?m)^chat_proxy_tokens_total\{[^}]*direction="out"[^}]*\} (\S+)$', metrics)
    return int(sum(map(float, found)))


async def _left(http: aiohttp.ClientSession, url: str, *, forgotten: bool) -> list[str]:
    status = await (await http.get(f"{url}/status")).json()
    counts = {
        "active": status["active"],
        "streams running": status["streams"]["running"],
        "readers": status["streams"]["readers"],
        "open at targets": sum(target["open"] for target in status["targets"].values()),
        "slots": sum(slots["taken"] + slots["waiting"] for slots in status["concurrency"].values()),
        "streams kept": status["streams"]["kept"] if forgotten else 0,
    }
    return [f"{url}: {name} {count}" for name, count in counts.items() if count]


async def chaos(
    streams: int,
    seed: str,
    folder: Path,
    *,
    at_once: int = 40,
    ports: tuple[int, int] = (24700, 24701),
    keep_s: int = 20,
) -> Report:
    """Run it all. The report has what broke a rule; an empty list is what a run is for."""
    world = World(seed, folder, ports, keep_s)
    async with world.open():
        report, began, over = world.report, time.monotonic(), 0
        warm = await all_streams(WARM_UP, seed, world.replicas, at_once=at_once, first=WARM)
        for stream in warm:
            report.broken += stream.broken
        report.before = await world.at_rest()
        for moody in world.moody:
            moody.asked.clear()
        enough = asyncio.Event()

        def progress(_: Stream) -> None:
            nonlocal over
            over += 1
            if over >= streams // 4:
                enough.set()

        async def strike() -> None:
            await enough.wait()
            await world.kill()

        disturbing = [asyncio.create_task(work) for work in (world.reload(), *(one.change() for one in world.moody))]
        striking = asyncio.create_task(strike())
        try:
            report.streams = await all_streams(streams, seed, world.replicas, at_once=at_once, progress=progress)
            await striking
        finally:
            for task in disturbing:
                task.cancel()
            await asyncio.wait(disturbing)
        for moody in world.moody:
            moody.calm = True
        report.after = await world.at_rest(forgotten=True)
        report.seconds = time.monotonic() - began
        await world.count()
        report.rule(
            report.after.fds <= report.before.fds + world.pooled(),
            f"descriptors at rest: {report.before.fds}, and then {report.after.fds}, of them {world.pooled()} pooled",
        )
        report.rule(not (kept := world.kept_for_ever()), f"keys that stay in Redis: {kept}")
        grown = report.after.memory_mb - report.before.memory_mb
        report.rule(grown <= GROWTH_MB, f"memory at rest: {grown:.0f} MB more")
        for stream in report.streams:
            report.broken += stream.broken
        for process in world.processes:
            report.broken += [line for line in process.logged if '"level":"error"' in line]
        return report
