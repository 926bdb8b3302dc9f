"""A loop over descriptors, signals and the clock. asyncio's would cost the parent ten megabytes."""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from itertools import count
from typing import Any

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call = at, call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Sleeps until something happens, and calls whoever waits for it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._signals: dict[int, Callable[[], None]] = {}
        self._waker, self._wakes = socket.socketpair()
        for one in (self._waker, self._wakes):
            one.setblocking(False)
        self.watch(self._waker, READ, self._signalled)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)

    def on_signal(self, number: signal.Signals, call: Callable[[], None]) -> None:
        self._signals[number] = call
        signal.signal(number, lambda *_: None)  # the wake-up is what counts

    def watch(self, what: socket.socket, events: int, call: Callable[[int], None]) -> None:
        """Call when it can be read or written; again with other `events` to change that."""
        if what.fileno() in self._selector.get_map():
            self._selector.modify(what, events, call)
        else:
            self._selector.register(what, events, call)

    def forget(self, what: socket.socket) -> None:
        self._selector.unregister(what)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    def run(self, until: Callable[[], bool]) -> None:
        while not until():
            for key, events in self._selector.select(self._patience()):
                key.data(events)
            self._ring()

    def leave(self) -> None:
        """In a child after a fork: it has a life of its own."""
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._waker.close()
        self._wakes.close()

    def _patience(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _ring(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.call()

    def _signalled(self, _events: int) -> None:
        for number in self._waker.recv(4096):
            call: Any = self._signals.get(number)
            if call is not None:
                call()


def reaped() -> list[tuple[int, int]]:
    """`(pid, exit code)` of every child that is over; negative for a signal. PID 1 is given strangers' too."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))
