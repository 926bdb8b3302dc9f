"""`smooth`: text that an upstream sends in bursts comes to the client word by word.

The words of a burst are spread over the time in which the next burst is expected, and over `max_lag` at most, so no word
is later than that. The first word of a burst is never held up, so neither is the first token, nor an upstream that sends
one word at a time. Everything but text goes on at once, with the text before it.
"""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from math import ceil

from proxy.events import Batch, Finish, StreamEvent, TextDelta
from proxy.pipeline.client import Client
from proxy.request import ChatRequest
from proxy.routing.plan import Plan

STEP_S = 0.01
"""The shortest time between two words. Where they have to come faster, several come together."""

LATEST = 0.3
"""How much the latest gap between two bursts weighs in their average."""

_MARKS = r"[\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u200d\u20d0-\u20ff\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]"
_PIECES = re.compile(rf"\s*\S{{1,24}}(?:{_MARKS}|(?<=\u200d)\S)*|\s+")
"""A word with the white space before it. Chinese and Japanese have no spaces: there it is some characters.

No accent, Thai vowel, or part of a joined emoji is cut from what it belongs to.
"""


def smoothed(client: Client, plan: Plan, request: ChatRequest) -> "SmoothClient | None":
    """The client with even text, where the plan wants it and the answer can have it."""
    if plan.smooth_s and client.streaming and request.rewritable:
        return SmoothClient(client, plan.smooth_s)
    return None


class SmoothClient:
    """Writes text to `client` word by word, each at most `max_lag` seconds late. Made in the running loop."""

    streaming = True

    def __init__(self, client: Client, max_lag: float) -> None:
        self._client, self._max_lag = client, max_lag
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, str]] = deque()  # words, each with the time by which it has to go
        self._empty_at = 0.0  # when the last of them is to go
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None  # awaited by the end of the answer
        self._came_at: float | None = None  # the last burst
        self._gap = max_lag  # between bursts, on average
        self._behind = False
        self._gone: Exception | None = None
        self.announce, self.heartbeat = client.announce, client.heartbeat

    @property
    def bytes_out(self) -> int:
        return self._client.bytes_out

    async def caught_up(self) -> None:
        self._behind = False
        await self._client.caught_up()

    async def send(self, batch: Batch) -> None:
        """As `Client.send`. The end of an answer follows its last word; that of a failed one comes at once."""
        self._raise_if_gone()
        before, words, after = _parts(batch.events)
        if before:
            self._flush()
            first = [TextDelta(words.pop(0))] if words else []
            await self._client.send(Batch([*before, *first]))
        self._add(words, held=bool(before))
        if after:
            await self._all_written()
            await self._client.send(Batch(after))
        elif self._behind:
            await self.caught_up()

    def write(self, batch: Batch) -> bool:
        self._raise_if_gone()
        before, words, after = _parts(batch.events)
        if before or after:
            self._flush()
            self._write(batch.events)
        else:
            self._add(words, held=False)
        behind, self._behind = self._behind, False
        return behind

    def close(self) -> None:
        """The answer is over, or nobody reads it."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _add(self, words: list[str], *, held: bool) -> None:
        """Plan the words of a burst. The first goes now, unless it has to wait for others, or was `held` for this."""
        if not words:
            return
        now = self._loop.time()
        if self._came_at is not None:
            self._gap = min(self._max_lag, (1 - LATEST) * self._gap + LATEST * (now - self._came_at))
        self._came_at = now
        if not self._queue and not held:
            self._write([TextDelta(words.pop(0))])
        self._queue.extend([(now + self._max_lag, word) for word in words])
        if self._queue:
            self._empty_at = now + self._gap
            self._schedule(now)

    def _schedule(self, now: float) -> None:
        due = min(now + max(STEP_S, (self._empty_at - now) / len(self._queue)), self._queue[0][0])
        if self._timer is not None:
            due = min(due, self._timer.when())  # a burst does not hold up the words of the one before it
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._write_due)

    def _write_due(self) -> None:
        """Write the words that are due."""
        self._timer = None
        now, queue = self._loop.time(), self._queue
        if not queue:
            return
        left = self._empty_at - now
        due = len(queue) if left < STEP_S else max(1, ceil(len(queue) * STEP_S / left))
        text = [queue.popleft()[1] for _ in range(due)]
        while queue and queue[0][0] <= now:
            text.append(queue.popleft()[1])
        try:
            self._write([TextDelta("".join(text))])
        except Exception as error:  # a timer has no caller: the next batch raises it
            self._gone = error
            queue.clear()
        if queue:
            self._schedule(now)
        elif self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def _all_written(self) -> None:
        """Wait until the last word is written."""
        if self._queue:
            self._emptied = self._loop.create_future()
            await self._emptied
        self._raise_if_gone()

    def _flush(self) -> None:
        if self._queue:
            text = "".join([word for _, word in self._queue])
            self.close()
            self._write([TextDelta(text)])

    def _write(self, events: list[StreamEvent]) -> None:
        self._behind = self._client.write(Batch(events)) or self._behind

    def _raise_if_gone(self) -> None:
        if self._gone is not None:
            raise self._gone


def _parts(events: Sequence[StreamEvent]) -> tuple[list[StreamEvent], list[str], list[StreamEvent]]:
    """What comes before the text of a batch, the words of that text, and the end of the answer.

    If anything but the end follows the text, nothing waits: all of it comes before.
    """
    after: list[StreamEvent] = [events[-1]] if events and type(events[-1]) is Finish else []
    body = events[: len(events) - len(after)]
    begins = next((at for at, event in enumerate(body) if type(event) is TextDelta), len(body))
    texts = [event.text for event in body[begins:] if type(event) is TextDelta]
    if begins + len(texts) < len(body):
        return [*body], [], after
    return [*body[:begins]], _PIECES.findall("".join(texts)), after
