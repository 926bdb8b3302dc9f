"""What is known of one request. The pipeline fills it in, and every record sink reads it when the request is over."""

import asyncio
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from proxy.errors import EndReason, ProxyError
from proxy.events import Notice
from proxy.request import Task, Usage
from proxy.routing.conditions import Kept
from proxy.routing.router import Router
from proxy.telemetry.trace import Trace

AttemptRole = Literal["answer", "retry", "hedge_loser", "continuation"]
"""Why a target was asked, or what became of it: for the answer; because one before it failed; for the answer, and
another was quicker; to go on with an answer that was cut."""

MAY_HAVE_COST = frozenset({
    "upstream_timeout", "upstream_idle", "upstream_truncated", "upstream_malformed", "frame_too_large", "client_gone",
    "hedge_lost", "stopped", "draining", "limit",
})  # fmt: skip
"""The ends of attempts that a vendor accepted, and may bill although nothing came. Refused attempts are free."""

NOT_ASKED = frozenset({
    "circuit_open", "slow_start", "unwell", "rate_limit_wait", "no_budget", "target_busy", "target_limited",
    "unsupported",
})  # fmt: skip
"""The ends of attempts that no upstream saw."""

HedgeEnd = Literal["", "won", "lost", "both_failed", "cancelled", "no_budget"]


class AttemptRecord(msgspec.Struct):
    """One try at one target. Times are seconds of the event loop's clock; zero and `None`: it did not come to that."""

    backend: str
    model: str = ""  # as the target is asked for it
    started_at: float = 0.0
    connected_at: float | None = None  # a connection was had, new or kept from before
    committed_at: float | None = None  # its first content, of an unstreamed answer the whole of it
    ended_at: float | None = None
    status: int = 0  # HTTP status that its error alone would be answered with; 200 for a whole answer
    error_code: str = ""
    words: str = ""  # what the error says, for the log: with addresses, which clients are not shown
    usage: Usage | None = None  # as the upstream counted, or estimated
    role: AttemptRole = "answer"
    cost_usd: Decimal | None = None  # not known, or not asked for
    price: str = ""  # where the cost comes from
    queued_s: float = 0.0  # how long it waited for a slot, before it started
    span_id: str = ""  # where requests are traced
    finish_reason: str = ""  # of a whole answer

    def connected(self) -> None:
        """There is a connection to the target."""
        self.connected_at = asyncio.get_running_loop().time()

    def end(self, now: float, error: ProxyError | None) -> None:
        """The attempt is over: with an error, or with a whole answer."""
        self.ended_at, self.status = now, 200
        if error is not None:
            self.status, self.error_code, self.words = error.status, error.code, error.detail or error.message

    def left(self, now: float, why: str = "client_gone") -> None:
        """The attempt was given up, because the client left, or because another was quicker (`hedge_lost`)."""
        self.ended_at, self.error_code = now, why

    @property
    def outcome(self) -> str:
        """`ok`, `hedge_lost` or the error's code."""
        return self.error_code or ("hedge_lost" if self.role == "hedge_loser" else "ok")

    @property
    def asked(self) -> bool:
        """Whether it is, or will be, work for an upstream. One that waits for a slot counts."""
        return self.error_code not in NOT_ASKED

    @property
    def usage_source(self) -> Literal["reported", "estimated", "none"]:
        """Where `usage` comes from. `none`: it is not known whether the attempt cost anything."""
        return "none" if self.usage is None else "estimated" if self.usage.estimated else "reported"

    @property
    def free(self) -> bool:
        """Whether it cannot have cost anything: the target refused, or was not reached."""
        if self.usage is not None or self.committed_at is not None:
            return False
        return self.outcome != "ok" and self.outcome not in MAY_HAVE_COST

    @property
    def duration_s(self) -> float | None:
        """Seconds from its start to its end; `None` if the target was not asked."""
        return None if self.ended_at is None or not self.started_at else self.ended_at - self.started_at


class StreamRecord(msgspec.Struct, kw_only=True):
    """One request, from its head to its end. Times are seconds of the event loop's (monotonic) clock.

    Names only: neither prompts nor keys ever enter a record, so nothing that reads one can leak them.
    """

    request_id: str
    id_chosen: bool = True  # by the client, so that anything may stand in it
    started_at: float
    contract: str = ""
    method: str = "POST"
    path: str = ""
    task: Task = "chat"
    key: str = ""  # the key's name in the config
    route: str = ""
    backend: str = ""  # the one that answered, or failed last
    model: str = ""  # as the client asked
    user: str = ""  # the body's `user`, as the client says
    upstream_model: str = ""  # as the target says
    stream: bool = True
    status: int = 0
    attempts: list[AttemptRecord] = []  # in the order tried, also targets that were passed over and the one under way
    trace: Trace | None = None  # where requests are traced
    router: Router | None = None  # that decided, with what it may be asked again by
    kept: Kept | None = None
    notices: list[Notice] = []  # what of the request was omitted on the way to the target that answered
    usage: Usage | None = None
    priced: bool = False  # what the attempts cost was looked up
    hedge: HedgeEnd = ""  # how the second target, asked at the same time, fared; `no_budget`: none was asked
    loser: asyncio.Task[None] | None = None  # ends the slower attempt of a hedge; the record is complete after it
    has_finish_reason: bool = True  # False: the end sentinel came without a finish reason (R3)
    end: EndReason | None = None
    error_code: str = ""
    words: str = ""  # what the client was told, of an error that no attempt had
    ended_at: float | None = None
    bytes_out: int = 0
    first_content_at: float | None = None
    last_content_at: float | None = None
    longest_gap_s: float = 0.0
    content_batches: int = 0
    content_events: int = 0  # about one a token: the estimate where an upstream gives no usage (B14)

    def content(self, now: float, events: int) -> None:
        """Content has come, in so many events. Called once for each batch that has some, so it does next to nothing."""
        last = self.last_content_at
        if last is None:
            self.first_content_at = now
        elif now - last > self.longest_gap_s:
            self.longest_gap_s = now - last
        self.last_content_at = now
        self.content_batches += 1
        self.content_events += events

    def finish(self, end: EndReason, now: float, *, error_code: str = "") -> bool:
        """Say how it ended. The first reason stands: a later one is its consequence. True if this was the first."""
        if self.end is not None:
            return False
        self.end, self.ended_at, self.error_code = end, now, error_code
        return True

    def estimate(self, usage: Usage) -> None:
        """Take an estimate for an answer whose upstream counted nothing."""
        self.usage = usage
        for attempt in reversed(self.attempts):
            if attempt.started_at and not attempt.free and attempt.role != "hedge_loser":
                attempt.usage = attempt.usage or usage
                return

    @property
    def ids(self) -> dict[str, str]:
        """What finds the request in the log and in traces."""
        found = {"request_id": self.request_id}
        return found if self.trace is None else found | {"trace_id": self.trace.trace_id}

    @property
    def target(self) -> str:
        """The backend and model that answer, or failed last; empty before one is asked."""
        return f"{self.backend}/{self.upstream_model}" if self.upstream_model else self.backend

    @property
    def asked(self) -> bool:
        """Whether a target was asked, or is about to be."""
        return any(attempt.asked for attempt in self.attempts)

    @property
    def without_budget(self) -> bool:
        """Whether extra work was left undone for want of a budget."""
        return self.hedge == "no_budget" or any(attempt.error_code == "no_budget" for attempt in self.attempts)

    @property
    def tries(self) -> int:
        """How many attempts were begun."""
        return len([attempt for attempt in self.attempts if attempt.started_at])

    @property
    def final_status(self) -> int:
        """The status to account for: 499, nginx's word for it, when the client left, whatever was sent before."""
        return 499 if self.end == "client_gone" else self.status

    @property
    def duration_s(self) -> float:
        """Seconds from start to end; zero while it runs."""
        return 0.0 if self.ended_at is None else self.ended_at - self.started_at

    @property
    def first_content_s(self) -> float | None:
        """Seconds until the first content; `None` if there was none."""
        return None if self.first_content_at is None else self.first_content_at - self.started_at

    @property
    def mean_gap_s(self) -> float | None:
        """Mean seconds between content batches; `None` with fewer than two."""
        if self.first_content_at is None or self.last_content_at is None or self.content_batches < 2:
            return None
        return (self.last_content_at - self.first_content_at) / (self.content_batches - 1)


class RecordSink(Protocol):
    """Takes the record of each request: the log, the metrics, and whatever else accounts for requests."""

    def ended(self, record: StreamRecord) -> None:
        """A request is over. Called on the event loop, so it never waits; a sink that writes has a queue of its own."""
