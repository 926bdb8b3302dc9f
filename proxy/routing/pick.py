"""Pickers: in which order a rule's targets are tried.

A picker is pure, so that `explain` shows what `plan` does. To add one, write it here, name it in `PICKERS`, and
allow its name in `RouteSettings.pick`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

from proxy.config.models import RouteSettings
from proxy.request import ChatRequest
from proxy.routing.conditions import Facts
from proxy.routing.plan import Target


class Weighted(NamedTuple):
    """A target that may be used for a request, and its weight in the config."""

    target: Target
    weight: float


class Picker(Protocol):
    """Orders the targets of one rule."""

    constant: bool
    """Whether every request gets the order of the config."""

    def order(self, usable: Sequence[Weighted], facts: Facts) -> tuple[Target, ...]:
        """All of `usable`, which is not empty, in the order they are tried."""

    def shares(self, usable: Sequence[Weighted]) -> Sequence[float]:
        """For each of `usable`, the share of requests that try it first."""


class InOrder:
    """The order of the config."""

    constant = True

    def __init__(self, settings: RouteSettings) -> None:
        """There is nothing to set."""

    def order(self, usable: Sequence[Weighted], facts: Facts) -> tuple[Target, ...]:  # noqa: ARG002 - see `Picker`
        return tuple([target for target, _ in usable])

    def shares(self, usable: Sequence[Weighted]) -> Sequence[float]:
        return [1.0, *(0.0 for _ in usable[1:])]


class ByWeight:
    """One target drawn by weight comes first; the others follow in the order of the config.

    The draw is a hash of the rule's name and the value of `sticky`, so that all replicas and `explain` draw the same.
    Without that value it is a hash of the request's id.
    """

    constant = False

    def __init__(self, settings: RouteSettings) -> None:
        self._route = settings.name
        self._sticky = _sticky_value(settings.sticky)

    def order(self, usable: Sequence[Weighted], facts: Facts) -> tuple[Target, ...]:
        targets = [target for target, _ in usable]
        first = targets.pop(self._draw([weight for _, weight in usable], facts))
        return (first, *targets)

    def shares(self, usable: Sequence[Weighted]) -> Sequence[float]:
        total = sum(weight for _, weight in usable)
        if not total:
            return [1.0, *(0.0 for _ in usable[1:])]
        return [weight / total for _, weight in usable]

    def _draw(self, weights: Sequence[float], facts: Facts) -> int:
        value = self._sticky(facts) or facts.request.id
        digest = blake2b(f"{self._route}\0{value}".encode("utf-8", "replace"), digest_size=8).digest()
        point = int.from_bytes(digest) / 2**64 * sum(weights)
        for index, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return index
        return 0  # all weights left are 0


PICKERS: Mapping[str, Callable[[RouteSettings], Picker]] = {"in-order": InOrder, "weighted": ByWeight}
"""Every picker by its name in the config."""


def _sticky_value(sticky: str | None) -> Callable[[Facts], str | None]:
    """What a route's `sticky` reads from a request."""
    match sticky:
        case None:
            return lambda _: None
        case "key":
            return lambda facts: facts.principal.name if facts.principal else None
        case "user":
            return lambda facts: facts.request.user
        case "conversation":
            return lambda facts: _conversation(facts.request)
        case _:
            header = sticky.removeprefix("header:").lower()
            return lambda facts: facts.request.headers.get(header)


def _conversation(request: ChatRequest) -> str | None:
    """What stays the same from turn to turn: an id the client gives, else how the conversation began."""
    for name in ("conversation_id", "thread_id", "session_id", "chat_id"):
        if isinstance(found := request.metadata.get(name), str) and found:
            return found
    return next((message.text[:4096] for message in request.messages if message.role == "user"), None)
