"""Where a request stands in a distributed trace (W3C Trace Context). Needs no OpenTelemetry."""

import secrets
from collections.abc import Mapping
from typing import Protocol

import msgspec


class Trace(msgspec.Struct, frozen=True):
    """A request's span and its trace. Ids are lower-case hex; `parent_id` is the caller's span, if it was believed."""

    trace_id: str
    span_id: str
    sampled: bool
    parent_id: str = ""
    state: str = ""  # `tracestate`, as the caller sent it
    propagate: bool = True

    def headers(self, span_id: str) -> Mapping[str, str]:
        """What tells an upstream that it is called from the span `span_id`."""
        if not self.propagate:
            return {}
        parent = {"traceparent": f"00-{self.trace_id}-{span_id}-{'01' if self.sampled else '00'}"}
        return parent | {"tracestate": self.state} if self.state else parent


class Tracer(Protocol):
    """Begins traces, or goes on with those of callers."""

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """The trace of a request, by the `traceparent` and `tracestate` in `headers`, if they are there and valid."""


def new_span_id() -> str:
    return secrets.token_hex(8)
