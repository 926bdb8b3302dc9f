"""From `limits:` of the config to meters, and from meters to words."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from proxy.config.limits import UsageLimits
from proxy.errors import RateLimited
from proxy.store.base import Meter, Store, Unit, Want, Watcher

UNITS: dict[Unit, str] = {"requests": "requests_per_minute", "tokens": "tokens_per_minute", "parallel": "parallel"}
"""What is counted, and the key of the config that limits it."""

FIRST_GUESS = 1000
"""Tokens that an answer is expected to take before any was seen."""


def meters(limits: UsageLimits | None, scope: str, owner: str, count: str = "") -> Iterator[Meter]:
    """The meters of one `limits:`. `count` tells apart what is counted apart, if that is not `owner`."""
    for unit, key in UNITS.items():
        limit = getattr(limits, key, None)
        if limits is None or limit is None:
            continue
        yield Meter(
            name=f"{scope}:{count or owner}:{unit}",
            unit=unit,
            scope=scope,
            owner=owner,
            limit=limit,
            period_s=0.0 if unit == "parallel" else 60.0,
            settles=unit != "requests",
            forfeits=unit != "parallel",
            on_outage=limits.on_outage,
            local_share=limits.local_share,
        )


def shortened(name: str) -> str:
    """A name that clients choose, for the name of a meter: of one length, and nobody's name is kept."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def wants(meters: Sequence[Meter], tokens_in: int, tokens_out: int) -> tuple[Want, ...]:
    """What a request needs of each meter. An answer is expected to be no longer than the meter has room for."""
    found = []
    for meter in meters:
        match meter.unit:
            case "requests":
                found.append(Want(meter, 1, 0))
            case "parallel":
                found.append(Want(meter, 0, 1))
            case "tokens":
                found.append(Want(meter, tokens_in, max(0, min(tokens_out, meter.limit - tokens_in))))
            case "usd":  # knows prices: see `proxy.pipeline.spending`
                pass
    return tuple(found)


def used(wants: Sequence[Want], tokens: int, spent: int = 0) -> list[int]:
    """What each of `wants` settles with. `spent` is in billionths of a dollar."""
    return [
        tokens if want.meter.unit == "tokens" else spent if want.meter.unit == "usd" else want.charge for want in wants
    ]


def limit_in_words(meter: Meter) -> str:
    """Such as `60 requests a minute`."""
    unit = "requests" if meter.unit == "parallel" else meter.unit
    noun = unit.removesuffix("s") if meter.limit == 1 else unit
    return f"{meter.limit} {noun} {'at a time' if meter.unit == 'parallel' else 'a minute'}"


def whose(scope: str, owner: str) -> str:
    """Whose limit it is, in words."""
    return f"each user of the key `{owner}`" if scope == "user" else f"the {scope} `{owner}`"


def never_fits(wants: Sequence[Want]) -> RateLimited | None:
    """Why a request is longer than a limit is large, if it is: no wait helps, but another target may."""
    for want in wants:
        meter = want.meter
        if want.charge > meter.limit:
            limit = f"the limit of {whose(meter.scope, meter.owner)} is {limit_in_words(meter)}"
            error = RateLimited(f"This request is about {want.charge} tokens long, and {limit}. Send a shorter one.")
            error.retryable, error.fallback = False, True
            return error
    return None


def in_words(limits: UsageLimits | None) -> Iterator[str]:
    """Each of these limits, in words."""
    yield from map(limit_in_words, meters(limits, "", ""))
    if limits is not None and limits.max_output_tokens is not None:
        yield f"answers of {limits.max_output_tokens} tokens"


class Counting(NamedTuple):
    """What counts for all configs."""

    store: Store
    outputs: "Outputs"
    watcher: Watcher


class Outputs:
    """How long the answers of a route or backend were lately, to know how much the next may take."""

    MOST, EVERY = 128, 16

    def __init__(self) -> None:
        self._lately: dict[str, deque[int]] = {}
        self._expected: dict[str, int] = {}
        self._count = 0

    def expected(self, of: str, most: int | None) -> int:
        """Tokens that an answer takes at most, in 95 of 100 cases; no more than `most`."""
        expected = self._expected.get(of, FIRST_GUESS)
        return expected if most is None else min(expected, most)

    def seen(self, of: str, tokens: int) -> None:
        """A whole answer took so many."""
        lately = self._lately.setdefault(of, deque(maxlen=self.MOST))
        lately.append(tokens)
        self._count += 1
        if len(lately) <= self.EVERY or not self._count % self.EVERY:  # sorting costs more than all the rest
            self._expected[of] = sorted(lately)[int(0.95 * (len(lately) - 1) + 0.5)]
