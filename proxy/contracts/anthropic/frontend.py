"""The contract of Claude Code and of everything on Anthropic's SDKs: Messages, token counts, the list of models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from proxy.contracts.anthropic.errors import error_body
from proxy.contracts.anthropic.request import decode_count, decode_request, input_tokens
from proxy.contracts.anthropic.writer import PING, StreamWriter, whole_body
from proxy.contracts.base import Endpoint, Head, Offer, Reply
from proxy.contracts.replies import EVENT_STREAM, JSON, sdk_error_headers
from proxy.errors import NotFound, ProxyError
from proxy.events import Batch
from proxy.request import Answer, ChatRequest


class AnthropicEncoder:
    """One answer to one request: streamed or whole."""

    early = False
    abort_on_fault = False

    def __init__(self, request: ChatRequest) -> None:
        self._request_id = request.id
        self._id = f"msg_{request.id}"
        self._model = request.model or ""
        self.headers: Mapping[str, str] = {**EVENT_STREAM, "Request-Id": request.id}
        self._writer = StreamWriter(
            id=self._id, request_id=request.id, model=self._model, input_tokens=partial(input_tokens, request)
        )

    def feed(self, batch: Batch) -> bytes:
        return self._writer.feed(batch)

    def ping(self) -> bytes:
        return PING

    def whole(self, answer: Answer) -> Reply:
        body = whole_body(answer, id=self._id, model=self._model, input_tokens=self._writer.input_tokens)
        return _json(200, body, self._request_id)

    def failure(self, error: ProxyError) -> Reply:
        return failure(error, self._request_id)


def _claims(head: Head, body: bytes) -> int:  # noqa: ARG001 - a list of models is asked for without one
    """Every client of Anthropic's names the API version it was written for; nobody else does."""
    return 1 if "anthropic-version" in head.headers else 0


def _count(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001
    return _json(200, msgspec.json.encode({"input_tokens": input_tokens(decode_count(body))}), head.id)


class AnthropicFrontend:
    """Where the contract is served. The lists of models share their paths with OpenAI's."""

    name = "anthropic"
    endpoints = (
        Endpoint("POST", "/v1/messages"),
        Endpoint("POST", "/v1/messages/count_tokens", "answer", answer=_count),
        Endpoint("GET", "/v1/models", "models", detects=_claims),
        Endpoint("GET", "/v1/models/{id}", "model", detects=_claims),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> AnthropicEncoder:  # noqa: ARG002 - the body says it all
        return AnthropicEncoder(request)

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return failure(error, head.id)

    def models(self, ids: list[str], created: int) -> Reply:
        page = {
            "data": [_model(id_, created) for id_ in ids],
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
        return _json(200, msgspec.json.encode(page))

    def model(self, id: str, ids: list[str], created: int) -> Reply:
        if id not in ids:
            raise NotFound(f"no model {id[:128]!r} here", code="model_not_found", param="model")
        return _json(200, msgspec.json.encode(_model(id, created)))


def failure(error: ProxyError, request_id: str) -> Reply:
    """An error instead of an answer. SDKs retry 408, 409, 429 and 5xx after the time the headers name."""
    headers = sdk_error_headers(error, {**JSON, "Request-Id": request_id})
    return Reply(error.status, error_body(error, request_id), headers)


def _json(status: int, body: bytes, request_id: str = "") -> Reply:
    named = {"Request-Id": request_id} if request_id else {}
    return Reply(status, body, {**JSON, **named})


def _model(id_: str, created: int) -> dict[str, Any]:
    at = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": "model", "id": id_, "display_name": id_, "created_at": at}


FRONTEND = AnthropicFrontend()
