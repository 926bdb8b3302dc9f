"""Pickers: in which order a rule's targets are tried.

A picker only reads, so that `explain` shows what `plan` does. To add one, write it here, name it in `PICKERS`, and
allow its name in `RouteSettings.pick`.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from math import inf, log
from operator import itemgetter
from typing import NamedTuple, Protocol

import msgspec

from proxy.config.models import RouteSettings
from proxy.request import ChatRequest
from proxy.routing.conditions import Facts
from proxy.routing.plan import Target

STALE_S = 30.0
"""After this time without a sample, a target may have changed: a few requests measure it again."""

REMEASURE = 0.02
"""The share of requests that do so. It costs little on quiet routes, and half a minute on busy ones."""

BETTER = 0.9
"""A target takes the lead when its score is below this share of the leader's, so that equals do not take turns."""

COMPARE_ALL = 4
"""Among more targets than this, two are drawn and compared: all requests at once would run to the same best one."""

ANSWER_TOKENS = 1000
"""How long an answer is expected to be when prices are compared; less if the request limits it."""

INPUT_STEP = 1000
"""Prices are compared for the request's length in steps of so many tokens, so that they can be cached."""


class Stats(msgspec.Struct):
    """What is known of a target at the moment. Times are those of `States.now`."""

    open: int = 0  # attempts under way
    begun: int = 0  # the number of its latest attempt, counted over all targets; 0: none
    first_token_s: float = 0.0  # peak EWMA; 0: not measured
    sampled_at: float = 0.0


class States(Protocol):
    """Live statistics of all targets."""

    def now(self) -> float: ...
    def stats(self, target: Target) -> Stats: ...


class NothingKnown:
    """States before the first request."""

    def now(self) -> float:
        return 0.0

    def stats(self, target: Target) -> Stats:  # noqa: ARG002 - see `States`
        return Stats()


Price = Callable[[Target, int, int], Decimal | None]
"""What so many input and output tokens cost at a target, in US dollars; `None`: not known."""


class Weighted(NamedTuple):
    """A target that may be used for a request, and its weight in the config."""

    target: Target
    weight: float


Usable = Sequence[Weighted]


class Picker:
    """Orders the targets of one rule. Without more, it is the order of the config."""

    constant = False
    """Whether every request gets the order of the config."""

    def __init__(self, settings: RouteSettings, price: Price) -> None:
        self.route = settings.name
        self.sticky = settings.sticky
        self.price = price

    def order(self, usable: Usable, facts: Facts, states: States) -> tuple[Target, ...]:
        """All of `usable`, which is not empty, in the order they are tried."""
        raise NotImplementedError  # each picker has its own

    def shares(self, usable: Usable) -> Sequence[float]:
        """For each of `usable`, the share of requests that try it first; all alike where live state decides."""
        return [1 / len(usable)] * len(usable)

    def note(self, one: Weighted, facts: Facts, states: States) -> str:  # noqa: ARG002 - for pickers with a score
        """What `explain` says of a target's score."""
        return ""


class InOrder(Picker):
    """The order of the config."""

    constant = True

    def order(self, usable: Usable, facts: Facts, states: States) -> tuple[Target, ...]:  # noqa: ARG002 - see `Picker`
        return tuple([one.target for one in usable])

    def shares(self, usable: Usable) -> Sequence[float]:
        return [1.0, *(0.0 for _ in usable[1:])]


class ByWeight(Picker):
    """Weighted rendezvous hashing: each target draws a number for the value of `sticky`, and the lowest is first.

    All replicas and `explain` draw the same. A target that comes or goes moves only the share that it takes or leaves.
    Without a value to stick to, the draw is for the request's id.
    """

    def order(self, usable: Usable, facts: Facts, states: States) -> tuple[Target, ...]:  # noqa: ARG002 - see `Picker`
        return tuple([one.target for one in self.drawn(usable, facts)])

    def drawn(self, usable: Usable, facts: Facts) -> list[Weighted]:
        value = sticky_to(self.sticky, facts)[1] or facts.request.id
        return sorted(usable, key=lambda one: self._draw(one, value))

    def _draw(self, one: Weighted, value: str) -> float:
        """Exponentially distributed with rate `weight`: a target has the lowest number in proportion to its weight."""
        return -log(_unit(f"{self.route}\0{value}\0{one.target}")) / one.weight if one.weight else inf

    def shares(self, usable: Usable) -> Sequence[float]:
        total = sum(one.weight for one in usable)
        if not total:
            return [1.0, *(0.0 for _ in usable[1:])]
        return [one.weight / total for one in usable]


class LeastBusy(ByWeight):
    """The fewest open streams for its weight. Equals are drawn by weight."""

    def order(self, usable: Usable, facts: Facts, states: States) -> tuple[Target, ...]:
        def load(one: Weighted) -> float:
            return states.stats(one.target).open / one.weight if one.weight else inf

        return tuple([one.target for one in sorted(self.drawn(usable, facts), key=load)])

    def shares(self, usable: Usable) -> Sequence[float]:
        drawn = sum(1 for one in usable if one.weight)
        return [(1 / drawn if one.weight else 0.0) for one in usable] if drawn else Picker.shares(self, usable)

    def note(self, one: Weighted, facts: Facts, states: States) -> str:  # noqa: ARG002 - see `Picker`
        return f"{states.stats(one.target).open} open, weight {one.weight:g}"


class LeastLatency(ByWeight):
    """The shortest expected wait: the usual time to the first token, times the open streams there and this one."""

    def order(self, usable: Usable, facts: Facts, states: States) -> tuple[Target, ...]:
        remeasure = _unit(f"remeasure\0{facts.request.id}") < REMEASURE
        candidates = self.drawn(usable, facts) if len(usable) > COMPARE_ALL else usable
        scored = [(self._score(states.stats(one.target), states.now(), remeasure), one.target) for one in candidates]
        if len(usable) > COMPARE_ALL:
            leader = min(scored[:2], key=_first)
        else:
            leader, best = max(scored, key=lambda one: states.stats(one[1]).begun), min(scored, key=_first)
            if best[0] < BETTER * leader[0]:
                leader = best
        return (leader[1], *(one[1] for one in sorted(scored, key=_first) if one is not leader))

    def _score(self, stats: Stats, now: float, remeasure: bool) -> float:
        """Seconds. Below zero: one request is to measure it. Infinite: one is doing so."""
        if not stats.first_token_s:
            return inf if stats.open else -1.0
        if remeasure and not stats.open and now - stats.sampled_at > STALE_S:
            return -1.0
        return stats.first_token_s * (stats.open + 1)

    def shares(self, usable: Usable) -> Sequence[float]:
        return Picker.shares(self, usable)

    def note(self, one: Weighted, facts: Facts, states: States) -> str:  # noqa: ARG002 - see `Picker`
        stats = states.stats(one.target)
        waits = f"{stats.first_token_s:.3g} s to the first token" if stats.first_token_s else "not measured yet"
        return f"{waits}, {stats.open} open"


class Cheapest(Picker):
    """The lowest price of the request and the answer that is expected. A target whose price is unknown is last."""

    def order(self, usable: Usable, facts: Facts, states: States) -> tuple[Target, ...]:  # noqa: ARG002 - see `Picker`
        def costs(target: Target) -> Decimal:
            price = self._costs(target, facts)
            return Decimal("Infinity") if price is None else price

        return tuple(sorted((one.target for one in usable), key=costs))

    def note(self, one: Weighted, facts: Facts, states: States) -> str:  # noqa: ARG002 - see `Picker`
        price = self._costs(one.target, facts)
        return "price unknown" if price is None else f"about ${price:.2g}"

    def _costs(self, target: Target, facts: Facts) -> Decimal | None:
        limits = [facts.request.params.get(name) for name in ("max_tokens", "max_completion_tokens")]
        output = min([limit for limit in limits if isinstance(limit, int)] + [ANSWER_TOKENS])
        return self.price(target, -(-facts.tokens // INPUT_STEP) * INPUT_STEP, output)


PICKERS: Mapping[str, type[Picker]] = {
    "in-order": InOrder,
    "weighted": ByWeight,
    "least-latency": LeastLatency,
    "least-busy": LeastBusy,
    "cheapest": Cheapest,
}
"""Every picker by its name in the config."""


_first = itemgetter(0)


def _unit(text: str) -> float:
    """A hash of `text` between 0 and 1, both excluded."""
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return ((int.from_bytes(digest) >> 12) + 0.5) / 2**52


def sticky_to(sticky: str | None, facts: Facts) -> tuple[str, str | None]:
    """What a route's `sticky` finds in a request: its name, and its value if there is one."""
    request = facts.request
    match sticky:
        case None:
            return "", None
        case "key":
            return "key", facts.principal.name if facts.principal else None
        case "user":
            return "user", request.user
        case "conversation":
            return _conversation(request)
        case _:
            return sticky, request.headers.get(sticky.removeprefix("header:").lower())


_IN_BODY = ("prompt_cache_key", "conversation", "thread_id", "threadId", "chat_id")
"""OpenAI's names, AG-UI's, and ours for the AI SDK's `id`."""

_IN_METADATA = ("conversation_id", "thread_id", "session_id", "chat_id")
_IN_HEADERS = ("session_id", "session-id", "conversation_id", "x-session-id")  # Codex sends the first


def _conversation(request: ChatRequest) -> tuple[str, str | None]:
    """What stays the same from turn to turn: an id that the client gives, else its user, else how it all began."""
    places = ((request.raw_body or {}, _IN_BODY), (request.metadata, _IN_METADATA), (request.headers, _IN_HEADERS))
    for values, names in places:
        for name in names:
            found = values.get(name)
            if isinstance(found, dict):  # `conversation: {id: …}`
                found = found.get("id")
            if isinstance(found, str) and found:
                return name, found
    if request.user:
        return "user", request.user
    system = next((message.text[:4096] for message in request.messages if message.role in {"system", "developer"}), "")
    first = next((message.text[:4096] for message in request.messages if message.role == "user"), None)
    return "how it began", None if first is None else f"{system}\0{first}"
