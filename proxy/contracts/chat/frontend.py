"""The founding contract over HTTP: `POST /chat`, and `/api/chat` as its hook calls it.

One address serves both kinds of reader: an `Accept` that names `text/event-stream` gets events that the HTML
standard reads exactly; the founding hook, whose `fetch` sends `*/*`, gets what it reads exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from proxy.contracts.base import Encoder, Endpoint, Head, Reply, accepts
from proxy.contracts.chat import request as chat_request
from proxy.contracts.chat.writer import DIALECTS, ERROR_MODES, AnswerWriter, Dialect, ErrorMode, encode_answer
from proxy.contracts.replies import EVENT_STREAM, JSON, NoModels, encode_error, error_headers
from proxy.errors import BadRequest, InternalError, ProxyError
from proxy.request import Answer, ChatRequest
from proxy.wire import sse

STREAM_HEADERS: Mapping[str, str] = {**EVENT_STREAM, "Connection": "keep-alive"}
_HEADERS: Mapping[Dialect, Mapping[str, str]] = {
    dialect: {**STREAM_HEADERS, "X-Chat-Dialect": dialect} for dialect in DIALECTS
}

_Choice = TypeVar("_Choice")


class ChatEncoder(AnswerWriter):
    """An answer in the dialect the client chose, or the route, or the `Accept` header for it.

    `early`: the founding server flushed its headers before the model answered, and its hook never looks at a
    status: so `text` does the same, and failures are error frames. So does `both`, which serves that hook too;
    its event readers get an `error` event, where a failing status makes fetch-event-source ask again and again.
    """

    __slots__ = ("_id", "abort_on_fault", "early", "headers")

    def __init__(self, request: ChatRequest, head: Head) -> None:
        dialect, errors = choose_dialect(head), _error_mode(head)
        super().__init__(dialect, request_id=request.id, errors=errors)
        self._id = request.id
        self.headers = _HEADERS[dialect]
        self.early = request.stream and dialect in ("text", "both")
        # A cut connection makes the founding hook throw, which is wanted; it makes an event reader repeat the
        # request every second, which is not.
        self.abort_on_fault = errors == "frame+abort" and not accepts(head, "text/event-stream")

    def ping(self) -> bytes:
        """A comment in a frame of its own: in front of a token it would hide the token from the hook."""
        return sse.PING

    def whole(self, answer: Answer) -> Reply:
        return Reply(200, encode_answer(answer), JSON)

    def failure(self, error: ProxyError) -> Reply:
        return _failure(error, self._id)


class ChatFrontend(NoModels):
    """The founding contract. It has no list of models."""

    name = "chat"
    endpoints = (Endpoint("POST", "/chat"), Endpoint("POST", "/api/chat"))

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return chat_request.decode_request(
            body, id=head.id, path=head.path, headers=head.headers, stream=not _wants_json_document(head)
        )

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        return ChatEncoder(request, head)

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return _failure(error, head.id)


FRONTEND = ChatFrontend()


def choose_dialect(head: Head) -> Dialect:
    """The dialect of an answer: the first to name one of query, header, route and `Accept`; else `text`."""
    for source, name in (
        ("query parameter dialect", head.query.get("dialect")),
        ("header X-Chat-Dialect", head.headers.get("x-chat-dialect")),
    ):
        if name is not None:
            if name not in DIALECTS:
                raise BadRequest(f"{source}: {name[:32]!r} is none of {', '.join(DIALECTS)}", param="dialect")
            return name
    if route := head.options.get("dialect"):
        return _of_route(route, DIALECTS)
    return "sse" if accepts(head, "text/event-stream") else "text"


def _error_mode(head: Head) -> ErrorMode:
    return _of_route(head.options.get("errors") or "frame", ERROR_MODES)


def _of_route(choice: Any, choices: tuple[_Choice, ...]) -> _Choice:
    """A route's choice. The config was checked: another value is our mistake, not the client's."""
    for known in choices:
        if known == choice:
            return known
    raise InternalError(f"a route asks for {choice!r}, which is none of {choices}")


def _wants_json_document(head: Head) -> bool:
    """Whether a request without `stream` asks for one JSON document: an `Accept` that names only such.

    With `*/*` beside it (axios sends `application/json, text/plain, */*`) a stream is welcome, as founded.
    """
    chosen = "dialect" in head.query or "x-chat-dialect" in head.headers
    streams = accepts(head, "text/event-stream") or accepts(head, "*/*")
    return not chosen and not streams and accepts(head, "application/json")


def _failure(error: ProxyError, request_id: str) -> Reply:
    return Reply(error.status, encode_error(error, request_id), error_headers(error))
