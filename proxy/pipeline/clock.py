"""The clock of one request: content timers, the total time, heartbeats, and interruption from outside."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from proxy.errors import Limit, ProxyError, UpstreamIdle, UpstreamTimeout
from proxy.routing.plan import Timers

LATE_S = 0.05
"""A timer that fires later than this tells of a process that stood still. What came meanwhile is read before the upstream
is called silent, which takes less than this."""


class RequestClock:
    """Cancels the task that entered it when something takes too long, with the reason, as `asyncio.timeout` does.

    One timer handle per request, set again only when it fires. Content only moves `content_at`, so a token sets no
    timer.
    """

    __slots__ = (
        "_armed", "_attempt_s", "_attempt_timer", "_cancelled_before", "_committed", "_fires_at", "_handle",
        "_heartbeat", "_heartbeat_at", "_heartbeat_s", "_loop", "_reason", "_silent_until", "_started", "_task",
        "_timers", "_total_at", "content_at", "sending",
    )  # fmt: skip

    def __init__(self, timers: Timers, heartbeat_s: float, heartbeat: Callable[[], None]) -> None:
        """`heartbeat` is called on each silence of `heartbeat_s` seconds; 0 is never."""
        self._loop = asyncio.get_running_loop()
        self._timers, self._heartbeat_s, self._heartbeat = timers, heartbeat_s, heartbeat
        self._reason: ProxyError | None = None
        self._armed = True
        self._handle: asyncio.TimerHandle | None = None
        self._fires_at = float("inf")
        self._started = self._loop.time()
        self._total_at = self._started + timers.total_s
        self._silent_until = self._started + timers.first_token_s
        self._heartbeat_at = self._started + heartbeat_s if heartbeat_s else float("inf")
        self._attempt_s, self._attempt_timer = timers.first_token_s, "first_token_s"  # for the message
        self._committed = False  # content has come, and from then on each pause counts
        self.content_at = self._started  # when the last content came; set by whoever reads the answer
        self.sending = False  # we wait for the client to read, so silence is no pause of the upstream

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        return self  # `start_attempt` sets the first timer; most requests need no other

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disarm()
        del self._task  # a task keeps its error, whose frames keep this clock: a cycle for the garbage collector

    def start_attempt(self, timer: Literal["first_token_s", "whole_s"], targets_left: int) -> bool:
        """Give an attempt an equal share of what is left of the one deadline that all targets share (A03).

        False if earlier attempts have used it up.
        """
        now = self._loop.time()
        deadline: float = getattr(self._timers, timer)
        share = (self._started + deadline - now) / targets_left
        if share <= 0 and self._handle is not None:
            return False
        self._silent_until = now + share
        self._attempt_s, self._attempt_timer = share, timer
        self._schedule()
        return True

    def commit(self) -> None:
        """The answer has begun: from now on the pauses between content count."""
        self._committed = True
        self._count_from_content()
        if self._silent_until < self._fires_at:  # from then on it only moves later
            self._schedule()

    def go_on(self) -> None:
        """Another attempt goes on with the answer; it may be silent for as long as the one before it."""
        self.content_at = self._loop.time()
        self.sending = False
        self._count_from_content()
        self._schedule()

    def interrupt(self, error: ProxyError) -> None:
        """Cancel the task with `error` as the reason. The first reason stands."""
        if self._reason is None and self._armed:
            self._reason = error
            self._task.cancel()

    def disarm(self) -> None:
        """The end is decided and only has to be written: nothing interrupts it any more."""
        self._armed = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def cancelled_for(self) -> ProxyError | None:
        """In `except CancelledError`: the reason if this clock cancelled the task, `None` if somebody else did."""
        reason, self._reason = self._reason, None
        if reason is None or self._task.uncancel() > self._cancelled_before:
            return None
        return reason

    def _count_from_content(self) -> None:
        self._silent_until = self.content_at + self._timers.token_gap_s
        if self._heartbeat_s:
            self._heartbeat_at = max(self._heartbeat_at, self.content_at + self._heartbeat_s)

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = min(self._silent_until, self._total_at, self._heartbeat_at)
        self._handle = self._loop.call_at(self._fires_at, self._fire)

    def _fire(self, late_s: float = LATE_S) -> None:
        now = self._loop.time()
        if self._committed:
            self._count_from_content()
        if now >= self._total_at:
            total_s = self._timers.total_s
            self.interrupt(Limit(f"the answer took longer than {total_s:g} s (timeouts.total_s of this route)"))
        elif now >= self._silent_until and not self.sending:
            if now > self._fires_at + late_s:
                self._handle = self._loop.call_later(LATE_S, self._fire, float("inf"))
            else:
                self.interrupt(self._silent())
        else:
            if now >= self._silent_until:
                self.content_at = now
                self._silent_until = now + self._timers.token_gap_s
            if now >= self._heartbeat_at:
                self._heartbeat()
                self._heartbeat_at = now + self._heartbeat_s
            self._schedule()

    def _silent(self) -> ProxyError:
        if self._committed:
            gap_s = self._timers.token_gap_s
            return UpstreamIdle(f"the answer stopped: no token for {gap_s:g} s (timeouts.token_gap_s of this route)")
        return UpstreamTimeout(
            f"no answer began within {self._attempt_s:.3g} s (timeouts.{self._attempt_timer} of this route)"
        )
