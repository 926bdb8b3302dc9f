"""Guards that end an answer which is no good: one that is in a loop, and one that comes too slowly.

They stand between a backend and its attempt, so that what they find is a failure of the attempt: before the commit point
the next target is asked, after it the route's `on_cut` decides. Only routes with a guard have such a backend.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing

from proxy.backends.base import Backend, Relay, WrappedBackend
from proxy.errors import Degenerate, UpstreamSlow
from proxy.events import Batch, ReasoningDelta, TextDelta, ToolCallDelta
from proxy.pipeline.repetition import Repetition
from proxy.request import ChatRequest
from proxy.routing.plan import Plan, Target

WINDOW_S = 10
"""How long an answer has to be too slow."""

CHARACTERS_PER_TOKEN = 4  # for upstreams that send many tokens at once


def guarded(backend: Backend, plan: Plan) -> Backend:
    """The backend with the guards of the plan; itself without any."""
    if plan.repetition_guard or plan.min_tokens_per_s:
        return GuardedBackend(backend, repetition=plan.repetition_guard, min_tokens_per_s=plan.min_tokens_per_s)
    return backend


class GuardedBackend(WrappedBackend):
    """A backend for one attempt. Its answer fails with `Degenerate` or `UpstreamSlow` where a guard says so."""

    def __init__(self, backend: Backend, *, repetition: bool, min_tokens_per_s: float) -> None:
        super().__init__(backend)
        self._repetition = Repetition() if repetition else None
        self._pace = Pace(min_tokens_per_s) if min_tokens_per_s else None
        self._seen: Batch | None = None  # the last one that was looked at; it comes again if it was not relayed

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        """See `Backend.stream`."""
        pace, loops = self._pace, False

        def passed_on(batch: Batch) -> bool:
            nonlocal loops
            loops = self._loops(batch)
            return not loops and relay is not None and relay(batch)

        batches = self._backend.stream(request, target, None if relay is None else passed_on)
        del request  # it may be large, and has been sent
        try:
            async with aclosing(batches):
                while (batch := await (anext(batches, None) if pace is None else pace.next(batches))) is not None:
                    if loops or (batch is not self._seen and self._loops(batch)):
                        error = Degenerate()
                        error.period = self._repetition.period if self._repetition else 0
                        raise error
                    yield batch
        finally:
            if pace is not None:
                pace.stop()

    def _loops(self, batch: Batch) -> bool:
        """Whether the answer is in a loop with this batch, which is also counted."""
        self._seen = batch
        if self._pace is not None:
            self._pace.count(batch)
        if (repetition := self._repetition) is None:
            return False
        for event in batch.events:
            if (type(event) is TextDelta or type(event) is ReasoningDelta) and repetition.feed(event.text):
                return True
        return False


class Pace:
    """Counts the tokens of an answer, and ends the wait for more of them when too few came for `WINDOW_S` seconds.

    A token is one event of content, or four characters where an event holds more. The count begins with the first of
    them, and anew whenever the client is behind: then it is the client who is slow.
    """

    def __init__(self, least: float) -> None:
        """`least` is tokens a second."""
        self._loop = asyncio.get_running_loop()
        self._least = least
        self._tokens = 0.0
        self._samples: deque[float] = deque(maxlen=WINDOW_S + 1)  # the count of each second
        self._timer: asyncio.TimerHandle | None = None
        self._wait: asyncio.Timeout | None = None
        self._slow = False

    def count(self, batch: Batch) -> None:
        """Count what a batch holds."""
        characters = events = 0
        for event in batch.events:
            if type(event) is TextDelta or type(event) is ReasoningDelta:
                characters += len(event.text)
                events += 1
            elif type(event) is ToolCallDelta:
                characters += len(event.arguments)
                events += 1
        self._tokens += max(events, characters / CHARACTERS_PER_TOKEN)
        if events and self._timer is None:
            self._sample()

    async def next(self, batches: AsyncGenerator[Batch, None]) -> Batch | None:
        """The next batch; `None` at the end. Raises `UpstreamSlow`."""
        try:
            async with asyncio.timeout(None) as self._wait:
                return await anext(batches, None)
        except TimeoutError:
            if not self._slow:
                raise
            raise UpstreamSlow(
                f"the answer came too slowly: less than {self._least:g} tokens a second for {WINDOW_S} s "
                "(min_tokens_per_s of this route)"
            ) from None
        finally:
            self._wait = None

    def stop(self) -> None:
        """The answer is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self) -> None:
        samples = self._samples
        if self._wait is None:  # the last batch is still being sent to the client
            samples.clear()
        samples.append(self._tokens)
        if len(samples) > WINDOW_S and samples[-1] - samples[0] < self._least * WINDOW_S and self._wait is not None:
            self._slow = True
            self._wait.reschedule(self._loop.time())
        else:
            self._timer = self._loop.call_later(1.0, self._sample)
