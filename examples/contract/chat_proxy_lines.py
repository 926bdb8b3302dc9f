"""Contract `lines`: a question in, one JSON object a line out. An example of a plug-in.

POST /lines {"question": "Where is it raining?"}

{"say": "In "}
{"say": "Oslo."}
{"end": "stop"}          or {"error": "…"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.contracts.base import Endpoint, Head, Reply
from proxy.contracts.replies import JSON, LIVE, NoModels, error_headers
from proxy.errors import BadRequest, ProxyError, UntoldAnswer
from proxy.events import Batch, Fault, Finish, Media, RefusalDelta, StreamEvent, TextDelta
from proxy.request import Answer, ChatRequest, Message, Text
from proxy.wire.json_body import decode_params, get_boolean, get_string, need_string, parse_object

LINES: Mapping[str, str] = {"Content-Type": "application/x-ndjson", **LIVE}


class LinesWriter:
    """Writes one answer."""

    headers = LINES
    early = False  # statuses are real: nothing is sent before the model answers
    abort_on_fault = False  # the error line is enough

    def __init__(self) -> None:
        self._text = self._media = False

    def feed(self, batch: Batch) -> bytes:
        """See `Encoder.feed`."""
        return b"".join([msgspec.json.encode(line) + b"\n" for event in batch.events if (line := self._line(event))])

    def _line(self, event: StreamEvent) -> dict[str, str] | None:
        match event:
            case TextDelta(text) | RefusalDelta(text):
                self._text = True
                return {"say": text}
            case Media():
                self._media = True
                return None
            case Finish(reason):
                if self._media and not self._text:
                    raise UntoldAnswer  # rather than an empty success
                return {"end": reason}
            case Fault(error):
                return {"error": error.message}
            case _:
                return None  # this contract has no place for it

    def ping(self) -> bytes:
        """An empty line."""
        return b"\n"

    def whole(self, answer: Answer) -> Reply:
        """See `Encoder.whole`."""
        if answer.only_media:
            raise UntoldAnswer
        return _reply(200, {"say": answer.text + answer.refusal, "end": answer.finish_reason})

    def failure(self, error: ProxyError) -> Reply:
        """See `Encoder.failure`."""
        return _failure(error)


class LinesFrontend(NoModels):
    """Where the contract is served, and how its requests are read."""

    name = "lines"
    route_settings: frozenset[str] = frozenset()
    endpoints = (Endpoint("POST", "/lines"),)

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        """See `Frontend.decode`."""
        fields = parse_object(body)
        question = need_string(fields, "question")
        if not question:
            raise BadRequest("question: expected a text, got an empty one", param="question")
        return ChatRequest(
            id=head.id,
            contract=self.name,
            dialect=self.name,
            messages=(Message("user", (Text(question),)),),
            model=get_string(fields, "model"),
            params=decode_params(fields),
            stream=get_boolean(fields, "stream") is not False,
            path=head.path,
            headers=head.headers,
        )

    def encoder(self, request: ChatRequest, head: Head) -> LinesWriter:
        """See `Frontend.encoder`."""
        return LinesWriter()

    def failure(self, error: ProxyError, head: Head) -> Reply:
        """See `Frontend.failure`."""
        return _failure(error)


def _failure(error: ProxyError) -> Reply:
    return _reply(error.status, {"error": error.message}, error_headers(error))


def _reply(status: int, value: dict[str, Any], headers: Mapping[str, str] = JSON) -> Reply:
    return Reply(status, msgspec.json.encode(value), headers)


FRONTEND = LinesFrontend()
