"""The hedged first token: a second target is asked while the first is slow, and the first content decides.

Both attempts share `first_token_s`. The loser is closed at once, or read to its end where a vendor bills for it
anyway and says at the end how much.
"""

import asyncio
from collections.abc import Callable, Iterator

from proxy.errors import InternalError, ProxyError
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.clock import RequestClock
from proxy.pipeline.select import more_helpful
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest, Usage
from proxy.routing.plan import Hedge, Plan
from proxy.telemetry.record import StreamRecord

DRAIN_S = 30.0
"""How long a loser is read at most."""


def repeatable(request: ChatRequest, plan: Plan) -> bool:
    """Whether asking twice does nothing twice: no tools that run at the upstream, and no answer that it keeps."""
    said = (request.params, request.raw_body or {}, plan.set, plan.default)
    return not request.hosted_tools and not any(values.get("store") is True for values in said)


class Hedged:
    """Asks one target after another, as `Fallback` does, and once a second one at the same time."""

    def __init__(
        self,
        hedge: Hedge,
        *,
        states: TargetStates,
        record: StreamRecord,
        losers: set[asyncio.Task[None]],
        tokens: Callable[[], int],
        budget: Callable[[], bool],
    ) -> None:
        """`losers` holds the tasks that end them; `tokens` estimates the request, which a loser was sent too.

        `budget` says whether there is one for extra work. It is drawn from where the next attempt is made.
        """
        self._hedge, self._states, self._record, self._losers = hedge, states, record, losers
        self._tokens, self._budget = tokens, budget
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._hedging: Attempt | None = None

    async def first(self, attempts: Iterator[Attempt], clock: RequestClock) -> Attempt:
        """See `Select`."""
        failure: ProxyError | None = None
        for attempt in attempts:
            try:
                return self._won(await self._race(attempt, attempts))
            except ProxyError as raised:
                error = raised
                await self._stop(error)
            except asyncio.CancelledError:
                reason = clock.cancelled_for()
                await self._stop(reason)
                if reason is None:
                    raise
                error = reason
            if self._record.hedge == "cancelled" and error.fallback:
                self._record.hedge = "both_failed"
            failure = more_helpful(failure, error)
            if not error.fallback:
                raise error from error.__cause__
        assert failure is not None, "a plan has a target"
        raise failure

    async def _race(self, attempt: Attempt, attempts: Iterator[Attempt]) -> Attempt:
        """The first that begins to answer, of `attempt` and its hedge. Raises what went wrong when none does."""
        self._ask(attempt)
        wait_s = None if self._record.hedge else self._after_s(attempt)
        failure: ProxyError | None = None
        while self._running:
            done, _ = await asyncio.wait(self._running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            wait_s = None
            if not done:
                self._hedge_with(attempts)
            for task in [one for one in self._running if one in done and one.exception() is None]:
                return self._running.pop(task)
            for task in done:
                del self._running[task]
                error = task.exception()
                if not isinstance(error, ProxyError):
                    raise error or InternalError("an attempt ended without an answer and without an error")
                if failure is None or failure.fallback:  # a refusal is what the client is to know
                    failure = more_helpful(failure, error) if error.fallback else error
        assert failure is not None, "something ran"
        raise failure

    def _ask(self, attempt: Attempt) -> None:
        self._running[asyncio.create_task(attempt.lead())] = attempt

    def _after_s(self, attempt: Attempt) -> float | None:
        """When to hedge; `None` as long as too little is known of the target."""
        hedge = self._hedge
        if hedge.after_s is not None:
            return hedge.after_s
        return self._states.percentile(attempt.target, hedge.after_percentile)

    def _hedge_with(self, attempts: Iterator[Attempt]) -> None:
        """Ask the next target too, if there is one and a budget for it."""
        if not self._budget():
            self._record.hedge = "no_budget"
            return
        attempt = next(attempts, None)
        if attempt is None:
            return
        self._record.hedge = "cancelled"  # as long as nothing else is known of its end
        attempt.tried.role = "answer"
        self._hedging = attempt
        self._ask(attempt)

    def _won(self, winner: Attempt) -> Attempt:
        if self._hedging is not None and self._record.hedge == "cancelled":
            self._record.hedge = "won" if winner is self._hedging else "lost"
        for leading, loser in self._running.items():
            loser.tried.role = "hedge_loser"
            loser.give_up("hedge_lost")
            if not self._hedge.drain:
                leading.cancel()
            self._record.loser = task = asyncio.create_task(self._end(leading, loser, self._tokens()))
            self._losers.add(task)
            task.add_done_callback(self._losers.discard)
        self._running = {}
        return winner

    async def _end(self, leading: asyncio.Task[None], loser: Attempt, tokens: int) -> None:
        """Close a loser, or read it to its end, and book what it cost."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await asyncio.wait([leading])
                if self._hedge.drain and _began(leading):
                    await loser.drain(read=True)
        except (TimeoutError, asyncio.CancelledError):
            leading.cancel()
        await asyncio.wait([leading])
        if _began(leading) and loser.tried.ended_at is None:
            await loser.drain(read=False)
        asked = loser.tried.started_at > 0  # it may have waited for a slot
        if asked and loser.tried.usage is None and loser.tried.error_code in {"", "hedge_lost"}:
            loser.tried.usage = Usage(tokens, loser.drained, estimated=True)

    async def _stop(self, reason: ProxyError | None) -> None:
        """End what runs: with `reason`, or because the client left."""
        running, self._running = self._running, {}
        for task, attempt in running.items():
            attempt.give_up("client_gone", reason)
            task.cancel()
        if running:
            await asyncio.wait(running)
        for task, attempt in running.items():
            if _began(task):  # just before it was cancelled
                await attempt.drain(read=False)


def _began(leading: asyncio.Task[None]) -> bool:
    """Whether an attempt has reached its commit point. `leading` is done."""
    return not leading.cancelled() and leading.exception() is None
