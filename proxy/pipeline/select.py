"""Which of a plan's attempts answers the client."""

from collections.abc import Iterator
from typing import Protocol

from proxy.errors import ProxyError
from proxy.pipeline.attempt import Attempt
from proxy.pipeline.clock import RequestClock


class Select(Protocol):
    """Chooses the attempt that answers. `attempts` makes each one when it is asked for, in the order of the plan."""

    async def first(self, attempts: Iterator[Attempt], clock: RequestClock) -> Attempt:
        """The attempt that reached its commit point first. Raises a `ProxyError` when none did."""


class Fallback:
    """Asks one target after another, each only when the one before failed."""

    async def first(self, attempts: Iterator[Attempt], clock: RequestClock) -> Attempt:  # noqa: ARG002 - see `Select`
        failure: ProxyError | None = None
        for attempt in attempts:
            try:
                await attempt.lead()
            except ProxyError as error:
                failure = more_helpful(failure, error)
                if not error.fallback:
                    raise
            else:
                return attempt
        assert failure is not None, "a plan has a target"
        raise failure


def more_helpful(earlier: ProxyError | None, later: ProxyError) -> ProxyError:
    """An earlier "try again in N seconds" helps the client more than a later "connection refused"."""
    return later if earlier is None or earlier.retry_after is None else earlier
