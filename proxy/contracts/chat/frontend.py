"""The chat contract: `POST /chat`, and `/api/chat`, where the chat hook calls it.

The chat hook is the React hook for which the contract was written: it reads `data:` frames by its own rules, and its
`fetch` sends `Accept: */*`. One address serves it and readers of Server-Sent Events, whose `Accept` names
`text/event-stream`; each kind gets a dialect that it reads exactly.
"""

from typing import Any, TypeVar

from proxy.contracts.base import Encoder, Endpoint, Head, Reply, accepts
from proxy.contracts.chat.request import decode_request
from proxy.contracts.chat.writer import DIALECTS, ERROR_MODES, ChatWriter, Dialect, failure
from proxy.contracts.replies import NoModels
from proxy.errors import BadRequest, InternalError, ProxyError
from proxy.request import ChatRequest

_Choice = TypeVar("_Choice")


class ChatFrontend(NoModels):
    """The chat contract. It has no list of models."""

    name = "chat"
    endpoints = (Endpoint("POST", "/chat"), Endpoint("POST", "/api/chat"))
    route_settings = frozenset({"dialect", "errors"})

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(
            body, id=head.id, path=head.path, headers=head.headers, stream=not _wants_json_document(head)
        )

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        """The writer in the dialect that the client, the route or the `Accept` header chooses.

        `text` and `both` are early: the chat hook never looks at a status, so they send their headers at once and
        report failures in error frames. The event readers of `both` need the same: a failing status makes
        fetch-event-source send the request again and again.
        """
        dialect = choose_dialect(head)
        errors = _choice_of_route(head.options.get("errors") or "frame", ERROR_MODES)
        return ChatWriter(
            dialect,
            request_id=request.id,
            early=request.stream and dialect in ("text", "both"),
            shows_errors=errors == "frame+text",
            # A cut connection makes the chat hook throw, as the route wants. It makes an event reader send the
            # request again every second, so event readers never see one.
            abort_on_fault=errors == "frame+abort" and not accepts(head, "text/event-stream"),
        )

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return failure(error, head.id)


FRONTEND = ChatFrontend()


def choose_dialect(head: Head) -> Dialect:
    """The dialect of an answer: the query, the header, the route or `Accept`, in this order; else `text`."""
    for source, name in (
        ("query parameter dialect", head.query.get("dialect")),
        ("header X-Chat-Dialect", head.headers.get("x-chat-dialect")),
    ):
        if name is not None:
            if name not in DIALECTS:
                raise BadRequest(f"{source}: {name[:32]!r} is none of {', '.join(DIALECTS)}", param="dialect")
            return name
    if route := head.options.get("dialect"):
        return _choice_of_route(route, DIALECTS)
    return "sse" if accepts(head, "text/event-stream") else "text"


def _choice_of_route(choice: Any, choices: tuple[_Choice, ...]) -> _Choice:
    """A choice that a route makes. The config is checked when it loads, so another value is our mistake."""
    for known in choices:
        if known == choice:
            return known
    raise InternalError(f"a route asks for {choice!r}, which is none of {choices}")


def _wants_json_document(head: Head) -> bool:
    """Whether a request without `stream` asks for one JSON document: its `Accept` names JSON and no stream.

    axios sends `application/json, text/plain, */*` with every request; `*/*` allows a stream.
    """
    chosen = "dialect" in head.query or "x-chat-dialect" in head.headers
    streams = accepts(head, "text/event-stream") or accepts(head, "*/*")
    return not chosen and not streams and accepts(head, "application/json")
