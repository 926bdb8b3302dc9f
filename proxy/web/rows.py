"""A record of a request as the page shows it, and why it went where it went. Computed when a page asks."""

from typing import Any

from proxy.request import ChatRequest
from proxy.routing.conditions import Facts, NotKept
from proxy.telemetry.record import AttemptRecord, StreamRecord
from proxy.telemetry.redact import Redactor


class Clock:
    """The moment of a look: the event loop's clock beside the time of day, both in seconds."""

    def __init__(self, loop_time: float, unix_time: float) -> None:
        self._offset = unix_time - loop_time

    def unix_ms(self, at: float) -> int:
        return round((at + self._offset) * 1000)


def row(record: StreamRecord, clock: Clock, redactor: Redactor) -> dict[str, Any]:
    """What a list of requests shows of one. Times are milliseconds from its start; `null`: it did not come to that."""

    def after(at: float | None) -> float | None:
        return round((at - record.started_at) * 1000, 1) if at else None

    usage = record.usage
    return {
        "id": record.request_id,
        "began": clock.unix_ms(record.started_at),
        "contract": record.contract,
        "path": redactor.clean_name(record.path),
        "key": record.key,
        "route": record.route,
        "target": redactor.clean_name(record.target),
        "model": redactor.clean_name(record.model),
        "stream": record.stream,
        "status": record.final_status,
        "end": record.end,
        "error": record.error_code,
        "first": after(record.first_content_at),
        "last": after(record.last_content_at),
        "ms": after(record.ended_at),
        "gap": round(record.longest_gap_s * 1000, 1),
        "pieces": record.content_events,
        "tokens": usage and {
            "in": usage.input_tokens,
            "out": usage.output_tokens,
            "cached": usage.cached_tokens,
            "reasoning": usage.reasoning_tokens,
            "estimated": usage.estimated,
        },
        "notices": [notice.message for notice in record.notices],
        "attempts": [_attempt(one, after, redactor) for one in record.attempts],
    }  # fmt: skip


def _attempt(one: AttemptRecord, after: Any, redactor: Redactor) -> dict[str, Any]:
    return {
        "target": redactor.clean_name(f"{one.backend}/{one.model}" if one.model else one.backend),
        "start": after(one.started_at),
        "connected": after(one.connected_at),
        "first": after(one.committed_at),
        "ended": after(one.ended_at),
        "role": one.role,
        "status": one.status,
        "code": one.error_code,
        "words": redactor.clean(one.words) if one.words else "",
    }


def told(record: StreamRecord, clock: Clock, redactor: Redactor) -> dict[str, Any]:
    """All that is known of one request."""
    shown = row(record, clock, redactor)
    words = next((one["words"] for one in reversed(shown["attempts"]) if one["words"]), record.words)
    return {
        **record.ids,
        **shown,
        "why": why(record),
        "error": {"code": record.error_code, "message": redactor.clean(words)} if record.error_code else None,
    }


def why(record: StreamRecord) -> list[str]:
    """Why the rules above did not take it, and which rule did, by the config that it was answered by."""
    if record.router is None or record.kept is None:
        return []
    try:
        explanation = record.router.explain_by(Facts(as_request(record), record.kept.principal, record.kept))
    except NotKept as missing:  # its own router kept all that it asked for
        return [f"not known any more: {missing}"]
    lines = [str(rule) for rule in explanation.skipped]
    if explanation.route:
        lines.append(f"{explanation.route}: takes it")
    elif explanation.error is not None:
        lines.append(f"refused: {explanation.error.message}")
    return lines


def as_request(record: StreamRecord) -> ChatRequest:
    """The request again, as far as it is kept: without its contents."""
    return ChatRequest(
        id=record.request_id,
        contract=record.contract,
        dialect="",
        messages=(),
        model=record.model or None,
        user=record.user or None,
        path=record.path,
    )
