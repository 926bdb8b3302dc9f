"""What the decoders of upstreams' answers share: how a stream ends, what an error in it is, and lenient names."""

from abc import ABC, abstractmethod
from typing import Any

from proxy.errors import UpstreamError, UpstreamFailed, UpstreamTruncated
from proxy.events import Batch, Fault
from proxy.request import Usage
from proxy.wire.upstream_errors import Clean, parse_error, upstream_error


class StreamEnd(ABC):
    """The end of a stream, told truthfully.

    `complete`: the upstream said that the answer is complete, so that it is whole however the body ends now (R3).
    `finished`: it said so in a way that a short silence confirms; usage may still come. Content takes both back.
    `done`: the terminal event was given; everything fed is ignored.
    """

    finished_s: float = 2.0
    """How long silence after every finish reason may last until the answer counts as complete.

    Usage and the end sentinel may still come. A server that never closes must not hold a client for a minute.
    """

    def __init__(self) -> None:
        self.done = False
        self.finished = False
        self.complete = False

    def finish(self) -> Batch:
        """The upstream has ended its body. An event without its blank line is dropped, as the standard says."""
        return self.fail(UpstreamTruncated())

    def fail(self, error: UpstreamError) -> Batch:
        """Nothing more will come, because of `error`. An answer that is complete ends well all the same."""
        batch = self._batch()
        if not self.done:
            if self.complete or self.finished:
                self._finish(batch)
            else:
                self._fault(batch, error)
        return batch

    def _fault(self, batch: Batch, error: UpstreamError) -> None:
        batch.events.append(Fault(error, self._counted()))
        self.done = True

    @abstractmethod
    def _batch(self) -> Batch:
        """An empty one."""

    @abstractmethod
    def _finish(self, batch: Batch) -> None:
        """Add what ends an answer that is complete."""

    @abstractmethod
    def _counted(self) -> Usage | None:
        """The tokens counted so far."""


def error_in(data: bytes, clean: Clean) -> UpstreamError | None:
    """The upstream's error that a body or an event's data holds; None if it holds none."""
    detail = parse_error(data)
    return upstream_error(detail, clean=clean) if detail else None


def error_event(data: bytes, clean: Clean) -> UpstreamError:
    """The error that an event named `error` tells, in whatever form."""
    words = clean(data.decode(errors="replace")).strip()
    return error_in(data, clean) or UpstreamFailed(words or "the upstream sent an error without a word")


def text_of(value: Any) -> str:
    """An id or a name, which some upstreams send as a number, or not at all."""
    return value if isinstance(value, str) else "" if value is None else str(value)
