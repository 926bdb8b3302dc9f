"""What a request will do: its targets, timers and policies. Plain values."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Limit(msgspec.Struct, frozen=True):
    """How many streams a target is sent at once, and how many more may wait for how long."""

    target: str  # its name in the config
    least: int
    most: int  # the same where the limit is fixed
    queue: int = 0
    wait_s: float = 0.0


class Target(msgspec.Struct, frozen=True):
    """Where one attempt goes. In a `Plan`, `model` is resolved: the target's own, else the request's."""

    backend: str
    model: str = ""
    connect_s: float = 5.0
    first_token_s: float = 60.0  # what a failure counts as where latencies are compared
    tick_s: float | None = None  # pacing: how often its answer is read at most; 0 is as it comes, `None` by load
    total_s: float = 1800.0  # how long an answer may take
    asked: bool = False  # True: the client named the model, not the config
    limit: Limit | None = None
    pattern: str = ""  # the config's own word for a model that a client named in part, such as `openai/$1`

    def __str__(self) -> str:
        return f"{self.backend}/{self.model}" if self.model else self.backend


class Timers(msgspec.Struct, frozen=True):
    """A route's timers, in seconds. Content restarts `token_gap_s`; pings do not."""

    connect_s: float = 5.0
    first_token_s: float = 60.0  # one deadline for the whole fallback chain
    token_gap_s: float = 60.0
    total_s: float = 1800.0
    whole_s: float = 600.0  # an answer that the client wants unstreamed: it comes as one body


class Hedge(msgspec.Struct, frozen=True):
    """When a second target is asked because the first is slow: after `after_s`, or else after that percentile."""

    after_s: float | None = None
    after_percentile: float = 0.0
    drain: bool = False  # read the loser to its end, for its usage, instead of closing it


class Resume(msgspec.Struct, frozen=True):
    """How an answer can be resumed: times in seconds."""

    keep_s: float
    grace_s: float
    bytes: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request will do: the route, its targets in the order they are tried, timers and policies."""

    route: str
    targets: tuple[Target, ...]
    timers: Timers = Timers()
    set: Mapping[str, Any] = {}
    default: Mapping[str, Any] = {}
    heartbeat_s: float = 15.0
    tick_s: float | None = None  # pacing, as in its targets
    repetition_guard: bool = False
    min_tokens_per_s: float = 0.0
    smooth_s: float = 0.0  # how late a word may be, to come evenly; 0: as the upstream sends it
    on_cut: str = "error"
    continue_with: str = ""  # with `on_cut: continue`, for targets that do not go on by themselves
    hedge: Hedge | None = None
    resume: Resume | None = None
    keeps_request: bool = False  # after the commit point too, to ask another target again
    options: Mapping[str, Any] = {}  # for the contract of the request; the router does not read them
