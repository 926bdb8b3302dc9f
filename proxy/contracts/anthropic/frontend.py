"""Anthropic Messages, which Claude Code and programs on Anthropic's SDKs speak: answers, token counts, models."""

from functools import partial
from typing import Any

import msgspec

from proxy.contracts.anthropic.errors import failure
from proxy.contracts.anthropic.request import decode_count, decode_request, input_tokens
from proxy.contracts.anthropic.writer import AnthropicWriter
from proxy.contracts.base import Endpoint, Head, Offer, Reply
from proxy.contracts.replies import JSON, cuts_on_error, date, json_reply
from proxy.errors import NotFound, ProxyError
from proxy.request import ChatRequest


def _detects(head: Head, body: bytes) -> int:  # noqa: ARG001 - a request for the list of models has no body
    """Anthropic's clients name the API version they were written for; no other client does."""
    return 1 if "anthropic-version" in head.headers else 0


def _count(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - a count does not depend on the models
    counted = msgspec.json.encode({"input_tokens": input_tokens(decode_count(body))})
    return Reply(200, counted, {**JSON, **({"Request-Id": head.id} if head.id else {})})


class AnthropicFrontend:
    """Where the contract is served. The model lists share their paths with OpenAI's."""

    name = "anthropic"
    route_settings = frozenset({"errors"})
    endpoints = (
        Endpoint("POST", "/v1/messages"),
        Endpoint("POST", "/v1/messages/count_tokens", "answer", answer=_count),
        Endpoint("GET", "/v1/models", "models", detects=_detects),
        Endpoint("GET", "/v1/models/{id}", "model", detects=_detects),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> AnthropicWriter:
        return AnthropicWriter(
            id=f"msg_{request.id}",
            request_id=request.id,
            model=request.model or "",
            input_tokens=partial(input_tokens, request),
            abort_on_fault=cuts_on_error(head),
        )

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return failure(error, head.id)

    def models(self, ids: list[str], created: int) -> Reply:
        page = {
            "data": [_model(id_, created) for id_ in ids],
            "has_more": False,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
        return json_reply(msgspec.json.encode(page))

    def model(self, id: str, ids: list[str], created: int) -> Reply:
        if id not in ids:
            raise NotFound(f"no model {id[:128]!r} here", code="model_not_found", param="model")
        return json_reply(msgspec.json.encode(_model(id, created)))


def _model(id_: str, created: int) -> dict[str, Any]:
    return {"type": "model", "id": id_, "display_name": id_, "created_at": date(created)}


FRONTEND = AnthropicFrontend()
