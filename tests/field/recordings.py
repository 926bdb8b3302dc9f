"""Answers as upstreams met in the field gave them, taken from public reports and shortened: `recordings.json`.

Each has the row of docs/reliability.md that it belongs to, the way to ask for it, its bytes, and what they mean. How its
stream is written to the socket is another matter: `DELIVERIES`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec

from proxy.testing.script import LAST_CHUNK, Fin, Rst, Send, Sleep, Split, Step, chunked, head, json_reply
from proxy.testing.upstream import Seen


class Meaning(msgspec.Struct, kw_only=True, frozen=True):
    """What an answer says. `error` is a part of the words of its failure, and then it has no `end`."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = []
    end: str | None = None
    error: str | None = None


class Recording(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """An answer, streamed and, where it has this form, `whole`. A number among the `frames` is a pause in seconds."""

    name: str
    row: str
    kind: str
    model: str
    wire: str
    type: str = "text/event-stream"
    cut: bool = False
    frames: list[str | float]
    means: Meaning
    whole: str | None = None
    whole_means: Meaning | None = None

    def meant(self, *, stream: bool) -> Meaning:
        """What a client should read: whole, an answer that failed is nothing but its error."""
        if stream:
            return self.means
        if self.whole_means is not None:
            return self.whole_means
        return self.means if self.means.error is None else Meaning(error=self.means.error)

    @property
    def bytes(self) -> bytes:
        return b"".join(frame.encode() for frame in self.frames if isinstance(frame, str))


RECORDINGS = msgspec.json.decode(Path(__file__).with_suffix(".json").read_bytes(), type=list[Recording])


def _as_recorded(one: Recording) -> list[Step]:
    return [Sleep(frame) if isinstance(frame, float) else Send(chunked(frame.encode())) for frame in one.frames]


def _one_write(one: Recording) -> list[Step]:
    return [Send(chunked(one.bytes))]


def _byte_by_byte(one: Recording) -> list[Step]:
    return [Split(one.bytes)]


def _cut_at_random(one: Recording) -> list[Step]:
    at = sorted(random.Random(one.name).choices(range(len(one.bytes)), k=9))
    return [Send(one.bytes[a:b]) for a, b in pairwise([0, *at, len(one.bytes)])]


DELIVERIES: dict[str, Callable[[Recording], list[Step]]] = {
    "as recorded": _as_recorded,
    "in one write": _one_write,
    "byte by byte": _byte_by_byte,
    "cut at random": _cut_at_random,
}


def answers(one: Recording, delivery: str) -> Callable[[Seen], list[Step]]:
    """A server that gives this answer, streamed or whole as it is asked."""
    framed = delivery in {"as recorded", "in one write"}

    def answer(seen: Seen) -> list[Step]:
        if not seen.json().get("stream"):
            assert one.whole is not None
            return json_reply(200, one.whole.encode())
        length = {"transfer-encoding": "chunked"} if framed else {"connection": "close"}
        steps: list[Step] = [Send(head(200, {"content-type": one.type, **length})), *DELIVERIES[delivery](one)]
        if one.cut:
            return [*steps, Rst()]
        return [*steps, Send(LAST_CHUNK) if framed else Fin()]

    return answer
