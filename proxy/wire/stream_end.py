"""What the decoders of upstreams' answers share: how a stream ends, what an error in it is, and lenient text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from proxy.errors import UpstreamError, UpstreamTruncated
from proxy.events import Batch, Fault
from proxy.request import Usage
from proxy.wire.upstream_errors import Clean, parse_error, upstream_error


class StreamEnd(ABC):
    """The end of a stream, told truthfully.

    `finished`: the upstream said that the answer is complete, whatever happens from here on; usage may still come.
    `done`: the terminal event was given; everything fed is ignored.
    """

    def __init__(self) -> None:
        self.done = False
        self.finished = False

    def finish(self) -> Batch:
        """The upstream has ended its body. An event without its blank line is dropped, as the standard says."""
        return self.fail(UpstreamTruncated("the answer was cut off: the upstream never said it was complete"))

    def fail(self, error: UpstreamError) -> Batch:
        """Nothing more will come, because of `error`; an answer that had finished is complete all the same."""
        batch = self._batch()
        if not self.done:
            if self.finished:
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


def text_of(value: Any) -> str:
    """An id or a name, which some upstreams send as a number, or not at all."""
    return value if isinstance(value, str) else "" if value is None else str(value)
