"""Upstreams with moods: each cuts, stalls, refuses, slows down and recovers at random.

An answer is `N` numbered words that the question names, so a client can check it letter by letter, and an upstream
that is asked to go on knows what comes next.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Literal, get_args

import msgspec

from proxy.testing.script import Fin, Rst, Send, Sleep, Stall, Steps, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream, Seen

Mood = Literal["well", "slow", "cuts", "stalls", "busy", "errors"]
WEIGHTS = (20, 2, 4, 2, 1, 1)
MOOD_S = (0.2, 2.0)
"""How long a mood lasts at least and at most."""

ASKED = re.compile(r"stream (\d+) of (\d+) words")


def question(number: int, words: int) -> str:
    return f"stream {number} of {words} words"


def answer(number: int, words: int) -> list[str]:
    """The words of an answer: each is told from all others of all answers."""
    return [f"s{number}.{at} " for at in range(words)]


class Moody:
    """One upstream. `broken` lists what it was asked that nobody should ask."""

    def __init__(self, upstream: ScriptedUpstream, seed: str, broken: list[str]) -> None:
        self.upstream, self._seed, self._broken = upstream, seed, broken
        self.mood: Mood = "well"
        self.calm = False  # at the end, when all is to come to rest
        self.asked: Counter[int] = Counter()  # requests by stream
        self.did: Counter[str] = Counter()
        self.reported: dict[int, list[int]] = defaultdict(list)  # by stream: the tokens of each answer
        upstream.decide(self._decide)

    async def change(self) -> None:
        """Be moody until cancelled."""
        dice = random.Random(self._seed)
        while True:
            (self.mood,) = dice.choices(get_args(Mood), WEIGHTS)
            await asyncio.sleep(dice.uniform(*MOOD_S))

    def _decide(self, seen: Seen) -> Steps:
        messages = seen.json()["messages"]
        found = ASKED.search(str(messages[0]["content"]))
        assert found is not None, messages
        number, words = int(found[1]), int(found[2])
        self.asked[number] += 1
        dice = random.Random(f"{self._seed}/{number}/{self.asked[number]}")
        whole = "".join(answer(number, words))
        half = next((str(one["content"]) for one in messages if one["role"] == "assistant"), "")
        if not whole.startswith(half):
            self._broken.append(f"stream {number}: asked to go on with what nobody wrote: {half[-60:]!r}")
        told = self._again(half, dice, prefill=messages[-1]["role"] == "assistant")
        rest = re.findall(r"\S+ ?| ", whole[told:])
        self.reported[number].append(len(rest))
        steps = openai_stream(
            rest, gap_s=dice.uniform(0.002, 0.012),
            usage={"prompt_tokens": 10, "completion_tokens": len(rest), "total_tokens": 10 + len(rest)},
        )  # fmt: skip
        return self._spoilt(steps, dice)

    def _again(self, half: str, dice: random.Random, *, prefill: bool) -> int:
        """Where it goes on: often right behind the half, sometimes a few words before its end, or from the start."""
        if prefill or not half:
            return len(half)
        how = dice.random()
        if how < 0.6 or len(half) < 40:
            return len(half)
        return 0 if how < 0.7 else half.rindex(" ", 0, len(half) - dice.randint(12, 30)) + 1

    def _spoilt(self, steps: list[Send | Sleep], dice: random.Random) -> Iterator[Steps]:
        mood: Mood = "well" if self.calm else self.mood
        if mood in {"cuts", "stalls"} and dice.random() > 0.5:
            mood = "well"
        self.did[mood] += 1
        at = dice.randint(2, len(steps) - 3)
        match mood:
            case "well":
                yield steps
            case "slow":
                yield [Sleep(dice.uniform(0.3, 0.9)), *steps]
            case "cuts":
                yield [*steps[:at], dice.choice([Fin(), Rst()])]
            case "stalls":
                yield [*steps[:at], Stall()] if dice.random() < 0.7 else Stall()
            case "busy":
                yield json_reply(429, {"error": {"message": "busy"}}, {"Retry-After": "1"})
            case "errors":
                yield json_reply(dice.choice([500, 502, 503]), {"error": {"message": "out of order"}})


class Told(msgspec.Struct):
    """What all upstreams were asked."""

    requests: int
    by_stream: Counter[int]
    did: Counter[str]


def told(all_: list[Moody]) -> Told:
    by_stream: Counter[int] = Counter()
    did: Counter[str] = Counter()
    for one in all_:
        by_stream += one.asked
        did += one.did
    return Told(sum(by_stream.values()), by_stream, did)
