"""The log line of a request on a terminal: one line of the screen, the decision first.

12:03:04 200 openai  default → ollama/llama3.2  first 0.21 s  12 → 340 tokens  done 2.10 s
12:03:05 400 openai  rejected invalid_request 0.00 s  messages[0].role: expected one of system, user, assistant
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_DIM, _RED, _GREEN, _YELLOW, _CYAN, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[0m"

LEAST_WIDTH = 20  # columns
FEWEST_WORDS = 40  # characters of an error that other parts make room for


class _Piece(NamedTuple):
    """A part of the line. Where the line is too long, those with the highest `spare` are left out first; 0: never."""

    text: str
    color: str = ""
    spare: int = 0


def request_line(timestamp: str, fields: Mapping[str, Any], *, width: int, colors: bool) -> str:
    """The line of `fields`, those of a `request_end`, at most `width` characters long."""
    pieces, left, line = list(_pieces(timestamp, fields)), max(width, LEAST_WIDTH), []
    words = _words(fields)
    while sum(len(one.text) for one in pieces) + len(words[:FEWEST_WORDS]) > left and any(one.spare for one in pieces):
        pieces.remove(max(pieces, key=lambda piece: piece.spare))
    for text, color, _ in (*pieces, _Piece(words)):
        shown = text if len(text) <= left else text[: max(left - 1, 0)] + "…"[:left]
        line.append(f"{color}{shown}{_RESET}" if colors and color else shown)
        left -= len(shown)
    return "".join(line)


def _pieces(timestamp: str, fields: Mapping[str, Any]) -> Iterator[_Piece]:
    status, end = fields.get("status"), fields.get("end")
    good = end == "done" and (status or 500) < 400
    color = _GREEN if good else _YELLOW if end in {"rejected", "client_gone"} else _RED
    yield _Piece(timestamp[11:19] + " ", _DIM, spare=3)
    yield _Piece(f"{status or '---'!s:<3} ", color)
    yield _Piece(fields.get("contract") or fields.get("path", ""))
    if where := _where(fields):
        yield _Piece(f"  {where}", _CYAN)
    if (first := fields.get("first_token_ms")) is not None:
        yield _Piece(f"  first {_seconds(first)}", spare=2)
    if (out := fields.get("tokens_out")) is not None:
        about = "~" if fields.get("tokens_estimated") else ""
        yield _Piece(f"  {about}{fields.get('tokens_in') or 0} → {out} tokens", spare=1)
    yield _Piece(f"  {end}" + (f" {fields['error_code']}" if fields.get("error_code") else ""), color)
    if (took := fields.get("duration_ms")) is not None:
        yield _Piece(f" {_seconds(took)}")
    yield _Piece(f"  {fields.get('request_id', '')}", _DIM, spare=4)


def _words(fields: Mapping[str, Any]) -> str:
    """What the error says: what the client was told, or what was wrong with the target that was tried last."""
    attempts = fields.get("attempts") or [{}]
    words = "" if fields.get("end") == "done" else fields.get("words") or attempts[-1].get("words", "")
    return f"  {words}" if words else ""


def _where(fields: Mapping[str, Any]) -> str:
    """`route → target`. The target is the one that answered, else the last that was tried."""
    route, attempts = fields.get("route", ""), fields.get("attempts") or []
    backend, model = fields.get("backend", ""), fields.get("upstream_model") or fields.get("model", "")
    if not backend and attempts:
        backend, model = attempts[-1].get("backend", ""), attempts[-1].get("model", "")
    target = "/".join(filter(None, (backend, model)))
    tries = f" (try {len(attempts)})" if len(attempts) > 1 else ""
    return " → ".join(filter(None, (route, target))) + tries


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s"
