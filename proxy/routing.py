"""Which targets answer a request, and why: compiled rules, no I/O, no clock but the one passed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class Target(msgspec.Struct, frozen=True):
    """Where one attempt goes. In a `Plan`, `model` is resolved: the target's own, else the request's."""

    backend: str
    model: str = ""
    connect_s: float = 5.0

    def __str__(self) -> str:
        return f"{self.backend}/{self.model}" if self.model else self.backend


class Timers(msgspec.Struct, frozen=True):
    """A route's timers, in seconds. The content clock moves the first two (design §4.6)."""

    connect_s: float = 5.0
    first_token_s: float = 60.0  # one deadline for the whole fallback chain
    token_gap_s: float = 60.0
    total_s: float = 1800.0
    whole_s: float = 600.0  # an answer asked for unstreamed, passed through as one body


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a request will do: the route, its targets in the order they are tried, timers and policies."""

    route: str
    targets: tuple[Target, ...]
    timers: Timers = Timers()
    set: Mapping[str, Any] = {}
    default: Mapping[str, Any] = {}
    heartbeat_s: float = 15.0
    on_cut: str = "error"
    errors: str = "frame"  # founding contract: frame | frame+text | frame+abort (contracts.md §1.5)
    dialect: str | None = None  # founding contract: the route's choice of dialect (contracts.md §1.4)
