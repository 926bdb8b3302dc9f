"""Meters in this process. `meters.lua` does the same, line by line; one property test holds both to one model."""

from collections.abc import Callable, Sequence

from proxy.store.base import SLACK, Lease, Meter, Room, Want

SWEEP_EVERY = 4096
"""New meters between two sweeps. Users are named by clients, so meters that hold nothing are forgotten."""


class _Bucket:
    __slots__ = ("at", "held", "leases", "level", "meter", "soonest")

    def __init__(self, meter: Meter, now: float) -> None:
        self.meter = meter
        self.level = 0.0  # used and not drained, at the time `at`
        self.at = now
        self.held = 0
        self.leases: dict[str, tuple[float, int]] = {}  # by id: when it ends by itself, and what it holds
        self.soonest = float("inf")  # no lease ends before

    def advance(self, meter: Meter, now: float) -> None:
        """Drain, and end the leases whose time is over."""
        self.meter = meter
        if now > self.at and meter.period_s:
            self.level = max(0.0, self.level - (now - self.at) * meter.limit / meter.period_s)
        self.at = now  # also after a clock was put back: it drains from there on
        if self.soonest > now:
            return
        for id, (ends, hold) in list(self.leases.items()):
            if ends <= now:
                del self.leases[id]
                self.held -= hold
                if meter.forfeits:
                    self.level += hold
        self.soonest = min([ends for ends, _ in self.leases.values()], default=float("inf"))

    def drained(self, now: float) -> bool:
        """Whether it can be forgotten."""
        return now - self.at > self.meter.forgotten_s(self.level)

    def lacks(self, want: Want) -> float:
        """How much more room there would have to be."""
        lack = self.level + self.held + want.charge + want.hold - want.meter.limit
        return lack if lack > SLACK else 0.0

    def room(self, want: Want, lack: float) -> Room:
        meter = want.meter
        left = max(0.0, meter.limit - self.level - self.held)
        if not lack:
            return Room(left, 0.0)
        return Room(
            left, lack * meter.period_s / meter.limit if meter.period_s and lack <= self.level + SLACK else -1.0
        )


class MemoryStore:
    """Counts in this process, by `clock` in seconds."""

    kind = "memory"

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._new = 0
        self.on_back: Callable[[], None] = lambda: None  # it is never away

    async def take(self, lease: Lease) -> tuple[bool, Sequence[Room]]:
        """See `Store`. Never waits."""
        return self.take_now(lease)

    def take_now(self, lease: Lease) -> tuple[bool, Sequence[Room]]:
        now, wants = self._clock(), lease.wants
        buckets = [self._bucket(want.meter, now) for want in wants]
        lacks = [bucket.lacks(want) for bucket, want in zip(buckets, wants, strict=True)]
        taken = not any(lacks)
        if taken:
            lease.store, lease.taken_at = self, now
            ends = now + lease.lasts_s
            for bucket, want in zip(buckets, wants, strict=True):
                bucket.level += want.charge
                if want.meter.settles:
                    bucket.held += want.hold
                    bucket.leases[lease.id] = ends, want.hold
                    bucket.soonest = min(bucket.soonest, ends)
        return taken, [bucket.room(want, lack) for bucket, want, lack in zip(buckets, wants, lacks, strict=True)]

    def remember(self, meter: Meter, used: int) -> None:
        """See `Store`."""
        bucket = self._bucket(meter, self._clock())
        bucket.level = max(bucket.level, used)

    def correct(self, meter: Meter, used: float) -> bool:
        """Take over what the shared store says was used; returns whether any use was known before."""
        bucket = self._bucket(meter, self._clock())
        knew, bucket.level = bucket.level > 0, used
        return knew

    def settle(self, lease: Lease, used: Sequence[int]) -> None:
        """See `Store`."""
        if lease.store is None:
            return
        lease.store = None
        now = self._clock()
        for want, amount in zip(lease.wants, used, strict=True):
            meter = want.meter
            if not meter.settles:
                continue
            bucket = self._bucket(meter, now)
            if bucket.leases.pop(lease.id, None) is None:  # it ended by itself
                continue
            bucket.held -= want.hold
            more: float = amount - want.charge
            if more < 0:  # what has drained since then is not given back: it may have been used by others
                time = max(0.0, now - lease.taken_at)
                drained = time * meter.limit / meter.period_s if meter.period_s else 0.0
                more = -max(0.0, -more - drained)
            bucket.level = max(0.0, bucket.level + more)

    def state(self) -> dict[str, object]:
        return {"kind": self.kind}

    async def aclose(self) -> None:
        """There is nothing to close."""

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, meter: Meter, now: float) -> _Bucket:
        bucket = self._buckets.get(meter.name)
        if bucket is None:
            self._new += 1
            if self._new >= SWEEP_EVERY:
                self._sweep(now)
            bucket = self._buckets[meter.name] = _Bucket(meter, now)
        bucket.advance(meter, now)
        return bucket

    def _sweep(self, now: float) -> None:
        """Forget the meters that nothing is held in and that have drained."""
        self._new = 0
        self._buckets = {name: one for name, one in self._buckets.items() if one.leases or not one.drained(now)}
