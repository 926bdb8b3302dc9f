"""Read fast streams once per tick of a shared timer: most of a token's cost is that it is read alone.

A display shows a frame each 16 to 33 ms. A stream that brings several tokens in that time is read and relayed, and then
left unread until the next tick; the kernel buffers meanwhile. The first token, and streams slower than the tick, are
never delayed; no token waits longer than one tick.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

STEPS_S = (0.0, 0.008, 0.016, 0.033)
"""The ticks that pacing by load chooses from. 33 ms is a frame of a display at 30 Hz."""

SAMPLE_S = 0.25  # between two samples of the load
BUSY = 0.7  # share of a CPU; above it the next step is taken
AT_EASE = 0.4  # below it, for `PATIENCE` samples in a row, one step back. Pacing itself saves about half.
LATE_S = 0.02  # a timer that fires later than this means the same as `BUSY`
PATIENCE = 12


class Held(Protocol):
    """A stream that waits for a tick."""

    def release(self) -> None: ...


class Pacer:
    """One shared timer. `tick_s` may change at any time; at 0 no stream waits."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.tick_s = tick_s
        self._held: list[Held] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("-inf")  # the time of the latest scheduled tick

    def hold(self, stream: Held) -> None:
        """Release `stream` at the next tick."""
        self._held.append(stream)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            tick_s = self.tick_s or STEPS_S[-1]
            # Multiples of the tick: streams that begin to wait at different times are read together. Some loops fire
            # timers up to a millisecond early, so a stream that waits again during a tick waits for the next one.
            self._due = max((loop.time() // tick_s + 1) * tick_s, self._due + tick_s)
            self._timer = loop.call_at(self._due, self._tick)

    def close(self) -> None:
        """Release all waiting streams now."""
        if self._timer is not None:
            self._timer.cancel()
        self._tick()

    def _tick(self) -> None:
        self._timer = None
        held, self._held = self._held, []
        for stream in held:
            stream.release()


class Load(msgspec.Struct, frozen=True):
    """The load of the event loop: its thread's share of a CPU, and how late a timer fired."""

    busy: float
    late_s: float


class AutoTick:
    """The tick for a load: one step longer as soon as it is high, one shorter when it has been low for a while."""

    def __init__(self) -> None:
        self._step = 0
        self._calm = 0

    @property
    def tick_s(self) -> float:
        return STEPS_S[self._step]

    def sample(self, load: Load) -> float:
        """Use one sample, taken each `SAMPLE_S`; returns the tick from now on, in seconds."""
        if load.busy > BUSY or load.late_s > LATE_S:
            self._calm = 0
            self._step = min(self._step + 1, len(STEPS_S) - 1)
        elif load.busy < AT_EASE and self._step:
            self._calm += 1
            if self._calm >= PATIENCE:
                self._calm = 0
                self._step -= 1
        else:
            self._calm = 0
        return self.tick_s


class Pacing:
    """The pacers of a process: one per fixed tick, and one that follows the load while it has streams."""

    def __init__(self, cpu_s: Callable[[], float] = time.thread_time) -> None:
        self._cpu_s = cpu_s
        self._fixed: dict[float, Pacer] = {}
        self._auto = Pacer()
        self._choice = AutoTick()
        self._streams = 0
        self._timer: asyncio.TimerHandle | None = None
        self._cpu_before = self._sampled_at = 0.0

    @property
    def auto_tick_s(self) -> float:
        """The present tick of pacing by load; 0 is off."""
        return self._auto.tick_s

    def pacer(self, tick_s: float | None) -> Pacer | None:
        """The pacer of a fixed tick; for `None` the one that follows the load, for 0 none."""
        if tick_s is None:
            return self._auto
        return self._fixed.setdefault(tick_s, Pacer(tick_s)) if tick_s else None

    def began(self, pacer: Pacer) -> None:
        """A stream is paced from now on, until `ended`."""
        if pacer is self._auto:
            self._streams += 1
            if self._timer is None:
                self._schedule()

    def ended(self, pacer: Pacer) -> None:
        if pacer is self._auto:
            self._streams -= 1

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pacer in (self._auto, *self._fixed.values()):
            pacer.close()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._cpu_before, self._sampled_at = self._cpu_s(), loop.time()
        self._timer = loop.call_later(SAMPLE_S, self._sample)

    def _sample(self) -> None:
        elapsed = asyncio.get_running_loop().time() - self._sampled_at
        load = Load(busy=(self._cpu_s() - self._cpu_before) / elapsed, late_s=elapsed - SAMPLE_S)
        self._auto.tick_s = self._choice.sample(load)
        if self._streams or self._auto.tick_s:
            self._schedule()
        else:
            self._timer = None
