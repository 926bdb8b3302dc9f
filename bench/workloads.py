"""The loads a proxy is measured under. All paced ones offer 10,000 tokens a second, so their figures compare."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """`streams` at once, each asking again as soon as its answer ends; `pause_us` lies between two tokens.

    `apart_us` lies between the first requests of two streams. Answers being of one length, it sets the rhythm of all
    later requests too: a herd that comes back every second where it is short, an even flow where it is not.
    """

    name: str
    title: str
    streams: int
    tokens: int
    pause_us: int
    seconds: float
    streamed: bool = True
    tls: bool = False
    apart_us: int = 1000
    probed: bool = False
    """Whether somebody else asks for `/healthz` meanwhile, each time on a new connection."""

    @property
    def stamped(self) -> bool:
        """Whether tokens carry the time they were sent; without a pause there is no telling waiting from working."""
        return self.streamed and self.pause_us > 0

    @property
    def answer_s(self) -> float:
        """What an answer takes if nobody adds anything."""
        return self.tokens * self.pause_us / 1e6


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("burst", "burst: 64 streams, 100 tokens in one write", 64, 100, 0, 4),
        Workload("paced-200", "paced: 200 streams, a token each 20 ms", 200, 50, 20_000, 6),
        Workload("even-200", "the same, requests evenly spread", 200, 50, 20_000, 6, apart_us=5_000),
        Workload("paced-1000", "1,000 streams, a token each 100 ms", 1000, 50, 100_000, 8),
        # Each stream asks once: an answer takes 20 s, and after 8 s all are open.
        Workload("paced-4000", "4,000 streams, a token each 400 ms", 4000, 50, 400_000, 8.5, apart_us=2_000),
        Workload("fast", "fast model: 50 streams, 200 tokens a second each", 50, 200, 5_000, 6),
        Workload("whole", "not streamed: 64 at once, 5 tokens", 64, 5, 0, 4, streamed=False),
        Workload("tls", "paced, upstream over TLS: 200 streams, a token each 20 ms", 200, 50, 20_000, 6, tls=True),
        Workload("workers", "burst, proxy and tools on both CPUs: 64 streams, 100 tokens in one write", 64, 100, 0, 5),
        # More than one core carries: is everybody served, those too who come while it lasts?
        Workload(
            "overload-200",
            "overload: 200 clients in a closed loop, 20 tokens",
            200,
            20,
            0,
            6,
            apart_us=100,
            probed=True,
        ),
        Workload(
            "overload-400",
            "overload: 400 clients in a closed loop, 20 tokens",
            400,
            20,
            0,
            6,
            apart_us=100,
            probed=True,
        ),
        # As much as the litellm SDK can carry on one CPU, and half of that again.
        Workload("litellm", "through the litellm SDK: 8 streams, a token each 20 ms", 8, 50, 20_000, 6),
    )
}
