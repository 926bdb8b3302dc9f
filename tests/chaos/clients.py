"""Clients that read, leave and come back, stop, and lose their replica."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Literal

import aiohttp
import msgspec

from tests.chaos.contracts import CONTRACTS, Contract, Heard, heard, number_of, split
from tests.chaos.upstreams import answer, question

Habit = Literal["stays", "comes back", "wanders", "stops", "leaves"]
HABITS: dict[Habit, int] = {"stays": 5, "comes back": 4, "wanders": 2, "stops": 1, "leaves": 1}
TRIES = 40
PATIENCE_S = 60.0


class Replica:
    """One `serve` process as clients see it. `killed` counts how often it was."""

    def __init__(self, url: str) -> None:
        self.url, self.killed = url, 0


class Stream(msgspec.Struct):
    """What became of one question."""

    number: int
    contract: Contract
    habit: Habit
    words: int
    asked: list[tuple[Replica, str]] = []  # the replicas that took it, with the request's id
    frames: list[bytes] = []
    status: int = 0
    resumed: int = 0
    outcome: str = ""
    excuse: str = ""  # why it may be cut: its replica was killed
    broken: list[str] = []  # rules

    def rule(self, true: object, what: str) -> None:
        if not true:
            self.broken.append(f"stream {self.number} ({self.contract.name}, {self.habit}): {what}")

    @property
    def heard(self) -> Heard:
        if not self.contract.separator:
            return Heard(b"".join(self.frames).decode())
        return heard(self.contract, self.frames)


class _Left(Exception):
    """The client left on purpose."""


class Client:
    """Asks one question and sees it through."""

    def __init__(self, number: int, seed: str, http: aiohttp.ClientSession, replicas: list[Replica]) -> None:
        self._dice = dice = random.Random(f"{seed}/{number}")
        self._http, self._replicas = http, replicas
        (habit,) = dice.choices(list(HABITS), list(HABITS.values()))
        self.stream = Stream(number, CONTRACTS[number % len(CONTRACTS)], habit, dice.randint(8, 50))
        self._key = {"Idempotency-Key": f"{seed}-{number}"} if dice.random() < 0.5 else {}
        self._id = ""
        self._runner: Replica
        self._killed_before = 0
        self._leave_at: int | None = None

    async def run(self) -> Stream:
        stream = self.stream
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._through()
        except TimeoutError:
            stream.rule(False, f"no end within {PATIENCE_S:.0f} s: {len(stream.frames)} frames, {stream.heard.ends}")
            stream.outcome = "hangs"
        if stream.outcome in {"done", "error", "cut"}:
            self._judge()
        return stream

    async def _through(self) -> None:
        stream, dice = self.stream, self._dice
        leaves = {"stays": 0, "comes back": 1, "wanders": dice.randint(2, 5), "stops": 1, "leaves": 1}[stream.habit]
        self._leave_at = dice.randint(1, 30) if leaves else None
        for _ in range(TRIES):
            try:
                if await (self._resume() if self._id else self._ask()):
                    return
            except _Left:
                leaves -= 1
                self._leave_at = len(stream.frames) + dice.randint(1, 20) if leaves > 0 else None
                if stream.habit == "leaves":
                    stream.outcome = "left"
                    return
                if stream.habit == "stops":
                    await self._stop()
                await asyncio.sleep(dice.uniform(0, 0.3))
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
            if self._id and self._runner.killed > self._killed_before:
                stream.excuse = "its replica was killed"
        stream.rule(False, f"no end after {TRIES} tries")
        stream.outcome = "lost"

    async def _ask(self) -> bool:
        stream = self.stream
        self._runner = self._dice.choice(self._replicas)
        self._killed_before = self._runner.killed
        id = f"chaos-{stream.number}-{len(stream.asked)}"
        stream.asked.append((self._runner, id))
        body = stream.contract.body(question(stream.number, stream.words), stream.number)
        headers = {"X-Request-Id": id, **self._key}
        async with self._http.post(self._runner.url + stream.contract.path, json=body, headers=headers) as response:
            stream.status = response.status
            if response.status != 200:
                stream.rule(response.status in {429, 500, 502, 503, 504}, f"status {response.status}")
                await response.read()
                stream.outcome = f"status {response.status}"
                return True
            self._id = response.headers["X-Stream-Id"]
            return await self._read(response)

    async def _resume(self) -> bool:
        stream, after = self.stream, len(self.stream.frames) - 1
        replica = self._dice.choice(self._replicas)
        stream.resumed += 1
        params, headers = (
            ({"after": str(after)}, {}) if self._dice.random() < 0.5 else ({}, {"Last-Event-ID": str(after)})
        )
        address = f"{replica.url}/streams/{self._id}"
        async with self._http.get(address, params=params, headers=headers) as response:
            if response.status != 200:
                body = (await response.text())[:200]
                gone = response.status in {404, 410, 503} and self._runner.killed > self._killed_before
                stream.rule(gone, f"resume after {after}: status {response.status} {body}")
                stream.outcome, stream.excuse = "cut", stream.excuse or "its replica was killed"
                return True
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> bool:
        """Read to an end (true), or until the client leaves. A connection that is lost raises `ClientError`."""
        stream, contract, rest = self.stream, self.stream.contract, b""
        try:
            while data := await response.content.readany():
                frames, rest = split(contract, rest + data)
                for frame in frames:
                    number = number_of(frame)
                    stream.rule(number in {None, len(stream.frames)}, f"frame {number} comes as {len(stream.frames)}")
                    stream.frames.append(frame if number is None else frame.partition(b"\n")[2])
                    if self._leave_at is not None and len(stream.frames) >= self._leave_at:
                        response.close()
                        raise _Left
        except aiohttp.ClientPayloadError:
            if stream.heard.ends or self._is_cut():  # an error frame and a cut; or nothing but a cut
                stream.outcome = "error" if stream.heard.ends else "cut"
                return True
            raise
        stream.rule(not rest, f"half a frame at the end: {rest[:80]!r}")
        if not contract.separator:
            stream.outcome = "done"  # a clean end is the only mark of a bare text
            return True
        ends = stream.heard.ends
        stream.rule(ends, "the connection ends cleanly without an end")
        stream.outcome = ends[0] if ends else "cut"
        return True

    def _is_cut(self) -> bool:
        """Whether asking again is of no use: a bare text has no other error, and a killed replica no other end."""
        if not self.stream.contract.separator:
            return self.stream.resumed > 2
        return self._runner.killed > self._killed_before and self.stream.resumed > 2

    async def _stop(self) -> None:
        for replica in self._dice.sample(self._replicas, len(self._replicas)):
            try:
                async with self._http.delete(f"{replica.url}/streams/{self._id}") as response:
                    known = response.status == 204 or self._runner.killed > self._killed_before
                    self.stream.rule(known, f"stop: status {response.status}")
                    return
            except aiohttp.ClientError:
                continue

    def _judge(self) -> None:
        """The rules of one answer: one end, and true."""
        stream, told = self.stream, self.stream.heard
        whole = "".join(answer(stream.number, stream.words))
        if self._runner.killed > self._killed_before:
            stream.excuse = "its replica was killed"
        stream.rule(len(told.ends) <= 1, f"ends {told.ends}")
        stream.rule(not told.after_end, "text after the end")
        if stream.outcome == "done":
            stream.rule(told.text == whole, f"done, but the text differs: {_difference(told.text, whole)}")
        else:
            stream.rule(whole.startswith(told.text), f"a wrong half: {_difference(told.text, whole)}")
        if stream.outcome == "cut" and stream.contract.separator:
            stream.rule(stream.excuse, "cut without an error")


def _difference(one: str, other: str) -> str:
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"at {at}: {one[at - 20 : at + 30]!r} for {other[at - 20 : at + 30]!r}"


async def all_streams(
    count: int, seed: str, replicas: list[Replica], *, at_once: int, first: int = 0, progress: Any = None
) -> list[Stream]:
    """Run all clients, so many at a time. Their numbers begin at `first`."""
    room = asyncio.Semaphore(at_once)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http:

        async def one(number: int) -> Stream:
            async with room:
                stream = await Client(number, seed, http, replicas).run()
            if progress is not None:
                progress(stream)
            return stream

        return await asyncio.gather(*(one(number) for number in range(first, first + count)))


def counted(streams: list[Stream]) -> dict[str, Counter[str]]:
    """Outcomes by contract."""
    table: dict[str, Counter[str]] = {}
    for stream in streams:
        table.setdefault(stream.contract.name, Counter())[stream.outcome] += 1
    return table
