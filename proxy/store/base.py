"""What every store does: take room in meters for a request, and give back what it did not need.

A meter is a leaky bucket, which is GCRA in its other form (ITU-T I.371): what was used drains at a constant rate. On top
lies what is *held* for requests under way. Room is taken in all meters of a request at once, or in none. The part that is
certain (`charge`) is used at once; the rest (`hold`) is held until the request settles with what it took, or until its
lease ends. So neither a reservation that was too large nor one that was given up lets anybody use more than the limit.
"""

import secrets
from collections.abc import Sequence
from itertools import count
from typing import Literal, Protocol, Self

import msgspec

Unit = Literal["requests", "tokens", "parallel", "usd"]

_PROCESS = secrets.token_hex(8)
_numbers = count()

SLACK = 1e-6
"""Of a unit: what rounding may hide. Without it the last request of a minute comes a moment too early now and then."""


class Meter(msgspec.Struct, frozen=True):
    """What counts one limit. Everything with the same `name` is one count."""

    name: str
    unit: Unit
    scope: str  # `key`, `user`, `route` or `target`
    owner: str  # the name of what is limited, for people
    limit: int
    period_s: float = 60.0  # in which `limit` drains; 0: it does not drain
    keeps_s: float = 60.0  # for which it is remembered when nobody asks, if it does not drain
    settles: bool = True  # at its end a request replaces what it held by what it used
    forfeits: bool = True  # what is held by a lease that ends by itself counts as used
    on_outage: Literal["allow", "deny", "local"] = "local"
    local_share: float = 1.0

    def forgotten_s(self, level: float) -> float:
        """How long after its last use it can be forgotten."""
        return level * self.period_s / self.limit if self.period_s else self.keeps_s

    @property
    def local(self) -> Self:
        """The same, with the part of the limit that one process admits alone."""
        return msgspec.structs.replace(self, limit=max(1, int(self.limit * self.local_share)))


class Want(msgspec.Struct, frozen=True):
    """Room that a request needs in a meter."""

    meter: Meter
    charge: int  # used at once
    hold: int  # held until the request settles


class Lease(msgspec.Struct):
    """Room that was taken. It ends with `settle`, or by itself after `lasts_s` seconds."""

    lasts_s: float
    wants: tuple[Want, ...]
    # Not the request's id, which a client may choose and send twice.
    id: str = msgspec.field(default_factory=lambda: f"{_PROCESS}-{next(_numbers):x}")
    taken_at: float = 0.0  # by the clock of the store
    store: "Store | None" = None  # that took it; `None`: nothing was taken, or it is settled


class Room(msgspec.Struct, frozen=True):
    """What is left in a meter: after it was taken, or where it was too little."""

    left: float
    wait_s: float  # until what was wanted fits; 0: it fits, below 0: when others end, which may be any time


class Store(Protocol):
    """Counts. `settle` and `remember` never wait and never fail."""

    kind: str

    async def take(self, lease: Lease) -> tuple[bool, Sequence[Room]]:
        """Take all that the lease wants, or nothing, and say what is left for each of its wants.

        Raises `LimitsUnknown`. Sets `store` of the lease if it was taken, and `wants` to what was asked for: less than
        before while a shared store is away.
        """

    def settle(self, lease: Lease, used: Sequence[int]) -> None:
        """End the lease: for each of its wants, what was used. Only the first call counts."""

    def remember(self, meter: Meter, used: int) -> None:
        """At least so much was used, whatever was counted."""

    def state(self) -> dict[str, object]:
        """For `/status`."""

    async def aclose(self) -> None: ...


class Watcher(Protocol):
    """Takes what meters say, for metrics."""

    def rooms(self, wants: Sequence[Want], rooms: Sequence[Room]) -> None:
        """This much is left for each of them, after room was taken or refused."""

    def denied(self, meter: Meter) -> None:
        """A request, or an attempt, was refused because of this limit."""
