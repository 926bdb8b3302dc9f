"""The clock of one request: content timers, the total time, heartbeats, and stopping from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from proxy.errors import Limit, ProxyError, UpstreamIdle, UpstreamTimeout
from proxy.routing.plan import Timers


class RequestClock:
    """The clock of one request. Interrupts the task that runs it when something takes too long.

    One timer handle per request, set again only when it fires: content merely moves a number, so a token
    costs no timer. Interrupting is cancelling the task with a reason, as `asyncio.timeout` does.
    """

    __slots__ = (
        "_armed",
        "_beat_at",
        "_begun",
        "_cancelled_before",
        "_fires_at",
        "_handle",
        "_heartbeat",
        "_heartbeat_s",
        "_loop",
        "_reason",
        "_share_of",
        "_share_s",
        "_silent_until",
        "_started",
        "_task",
        "_timers",
        "_total_at",
        "content_at",
        "sending",
    )

    def __init__(self, timers: Timers, heartbeat_s: float, heartbeat: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timers = timers
        self._heartbeat_s = heartbeat_s
        self._heartbeat = heartbeat
        self._reason: ProxyError | None = None
        self._armed = True
        self.sending = False  # waiting for the client to read: no pause of the upstream
        self._handle: asyncio.TimerHandle | None = None
        self._started = self._loop.time()
        self._total_at = self._started + timers.total_s
        self.content_at = self._started  # when the last content came: moving this number is all that a token does
        self._begun = False  # content has come: only from now on does a pause count as one
        self._silent_until = self._started + timers.first_token_s
        self._beat_at = self._started + heartbeat_s if heartbeat_s else float("inf")
        self._fires_at = float("inf")
        self._share_s = timers.first_token_s  # what nothing came in, if nothing comes, and the timer that says so
        self._share_of = "first_token_s"

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        return self  # the first timer is set by `share`: one is what most requests need in all

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disarm()

    def share(self, timer: Literal["first_token_s", "whole_s"], targets_left: int) -> None:
        """Begin an attempt: it may use an equal share of what is left of the chain's one deadline (A03)."""
        now = self._loop.time()
        deadline: float = getattr(self._timers, timer)
        share = max(0.0, self._started + deadline - now) / targets_left
        self._silent_until = now + share
        self._share_s, self._share_of = share, timer
        self._schedule()

    def begun(self) -> None:
        """The answer has begun, with what is in `content_at`: from now on that decides."""
        self._begun = True
        self._count_from_content()
        if self._silent_until < self._fires_at:  # from then on it only moves later
            self._schedule()

    def interrupt(self, error: ProxyError) -> None:
        """Make the running task stop with `error`; the first reason stands."""
        if self._reason is None and self._armed:
            self._reason = error
            self._task.cancel()

    def disarm(self) -> None:
        """The end is decided and only has to be written: nothing may interrupt it any more."""
        self._armed = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def caught(self) -> ProxyError | None:
        """In `except CancelledError`: the reason if it was ours, `None` if somebody else cancelled the task."""
        reason, self._reason = self._reason, None
        if reason is None or self._task.uncancel() > self._cancelled_before:
            return None
        return reason

    def _idle(self) -> ProxyError:
        return UpstreamIdle(
            f"the answer stopped: no token for {self._timers.token_gap_s:g} s (timeouts.token_gap_s of this route)"
        )

    def _count_from_content(self) -> None:
        self._silent_until = self.content_at + self._timers.token_gap_s
        if self._heartbeat_s:
            self._beat_at = max(self._beat_at, self.content_at + self._heartbeat_s)

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = min(self._silent_until, self._total_at, self._beat_at)
        self._handle = self._loop.call_at(self._fires_at, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._begun:
            self._count_from_content()
        if now >= self._total_at:
            self.interrupt(
                Limit(f"the answer took longer than {self._timers.total_s:g} s (timeouts.total_s of this route)")
            )
        elif now >= self._silent_until and not self.sending:
            self.interrupt(self._idle() if self._begun else _nothing_in_time(self._share_s, self._share_of))
        else:
            if now >= self._silent_until:
                self.content_at = now
                self._silent_until = now + self._timers.token_gap_s
            if now >= self._beat_at:
                self._heartbeat()
                self._beat_at = now + self._heartbeat_s
            self._schedule()


def _nothing_in_time(seconds: float, timer: str) -> ProxyError:
    return UpstreamTimeout(f"no answer began within {seconds:.3g} s (timeouts.{timer} of this route)")
