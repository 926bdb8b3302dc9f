"""The spans of a request, made of its record when it is over: one for the request, one for each attempt.

Nothing is asked per token: all times are the record's. Prompts and answers are not in a record, so they are in no span.
"""

import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from proxy import __version__
from proxy.telemetry.otlp.names import Names
from proxy.telemetry.otlp.places import Place, Places
from proxy.telemetry.record import AttemptRecord, StreamRecord
from proxy.telemetry.trace import Trace, new_span_id

SCOPE = InstrumentationScope("chat-proxy", __version__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_NO_ERROR = frozenset({"", "client_gone", "hedge_lost", "no_budget"})


class Clock:
    """Turns times of the event loop into Unix times in nanoseconds, as they were at the moment it is made.

    One for each record: the machine's clock may be set while the process runs.
    """

    def __init__(self, loop_now: float) -> None:
        self._zero = time.time_ns() - int(loop_now * 1e9)

    def ns(self, at: float) -> int:
        return self._zero + int(at * 1e9)


def operation(record: StreamRecord) -> str:
    """The conventions' word for what was asked."""
    return {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}[record.task]


class Spans:
    """Makes spans under the names of one generation."""

    def __init__(self, resource: Resource, names: Names) -> None:
        self._resource, self._names = resource, names

    def of(self, record: StreamRecord, trace: Trace, places: Places, clock: Clock) -> Iterator[ReadableSpan]:
        """The spans of a request that is over; the attempts come first, as they ended first."""
        server = _context(trace, trace.span_id)
        for attempt in record.attempts:
            if attempt.started_at:
                context = _context(trace, attempt.span_id or new_span_id())  # it began before a reload
                place = places.get(attempt.backend, Place())
                yield self._attempt(record, attempt, place, clock, context=context, parent=server)
        yield self._request(record, trace, server, clock)

    def _request(self, record: StreamRecord, trace: Trace, server: SpanContext, clock: Clock) -> ReadableSpan:
        method = record.method if record.method in _METHODS else "_OTHER"
        failed = record.final_status >= 500 or (record.final_status < 400 and record.end not in {"done", "client_gone"})
        error = record.error_code or str(record.end)
        attributes = {
            "http.request.method": method,
            "url.path": record.path,
            "http.route": record.path,
            "http.response.status_code": record.status or None,
            "error.type": error if failed else None,
            "chat_proxy.request_id": record.request_id,
            "chat_proxy.contract": record.contract,
            "chat_proxy.route": record.route,
            "chat_proxy.key": record.key,
            "chat_proxy.target": record.target,
            "chat_proxy.attempts": record.tries,
            "chat_proxy.end": str(record.end),
        }
        events = [
            Event(
                "chat_proxy.passed_over",
                {"backend": one.backend, "model": one.model, "reason": one.error_code},
                clock.ns(one.ended_at or record.started_at),
            )
            for one in record.attempts
            if not one.started_at
        ]
        return self._span(
            f"{method} {record.path}".strip(),
            kind=SpanKind.SERVER,
            context=server,
            parent=_context(trace, trace.parent_id, remote=True) if trace.parent_id else None,
            attributes={name: value for name, value in attributes.items() if value is not None and value != ""},
            events=[*events, *_events(clock, record.first_content_at, record.ended_at, str(record.end))],
            times=(clock.ns(record.started_at), clock.ns(record.ended_at or record.started_at)),
            error=error if failed else "",
        )

    def _attempt(
        self, record: StreamRecord, attempt: AttemptRecord, place: Place, clock: Clock, **contexts: SpanContext
    ) -> ReadableSpan:
        what, usage = operation(record), attempt.usage
        ended_at = attempt.ended_at or record.ended_at or attempt.started_at
        streamed_at = attempt.committed_at if record.stream else None
        error = "" if attempt.error_code in _NO_ERROR else attempt.error_code
        attributes = self._names.attributes(
            {
                "operation": what,
                "provider": self._names.provider(place.provider_of(attempt.model)),
                "model": attempt.model or None,
                "stream": record.stream,
                "first_chunk_s": None if streamed_at is None else streamed_at - attempt.started_at,
                "finish_reasons": (attempt.finish_reason,) if attempt.finish_reason else None,
                "input_tokens": usage.input_tokens if usage else None,
                "output_tokens": usage.output_tokens if usage else None,
                "cached_tokens": usage.cached_tokens or None if usage else None,
                "reasoning_tokens": usage.reasoning_tokens or None if usage else None,
            }
        )
        if place.address:
            attributes |= {"server.address": place.address, "server.port": place.port}
        if error:
            attributes["error.type"] = error
        attributes |= {"chat_proxy.backend": attempt.backend, "chat_proxy.attempt.role": attempt.role}
        attributes |= {"chat_proxy.usage_source": attempt.usage_source}
        return self._span(
            f"{what} {attempt.model}".strip(),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            events=_events(clock, streamed_at, ended_at, attempt.outcome),
            times=(clock.ns(attempt.started_at), clock.ns(ended_at)),
            error=error,
            **contexts,
        )

    def _span(self, name: str, *, times: tuple[int, int], error: str, **fields: Any) -> ReadableSpan:
        status = Status(StatusCode.ERROR, error) if error else Status(StatusCode.UNSET)
        start, end = times
        return ReadableSpan(
            name,
            resource=self._resource,
            instrumentation_scope=SCOPE,
            start_time=start,
            end_time=end,
            status=status,
            **fields,
        )


def _events(clock: Clock, first_at: float | None, ended_at: float | None, reason: str) -> list[Event]:
    events = [] if first_at is None else [Event("chat_proxy.first_token", {}, clock.ns(first_at))]
    return events if ended_at is None else [*events, Event("chat_proxy.end", {"reason": reason}, clock.ns(ended_at))]


def _context(trace: Trace, span_id: str, *, remote: bool = False) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if trace.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([trace.state]) if trace.state else None
    return SpanContext(int(trace.trace_id, 16), int(span_id, 16), remote, flags, state)
