"""The contract most chat frontends speak: OpenAI Chat Completions, and the list of models they ask for first."""

import time

import msgspec

from proxy.contracts.base import Endpoint, Head, Reply
from proxy.contracts.openai.custom_tools import custom_names
from proxy.contracts.openai.functions import speaks_functions
from proxy.contracts.openai.request import decode_request
from proxy.contracts.openai.writer import OpenAIWriter
from proxy.contracts.replies import OpenAIErrors, cuts_on_error, json_reply, openai_failure
from proxy.errors import NotFound
from proxy.request import ChatRequest


class OpenAIFrontend(OpenAIErrors):
    """Where the contract is served, and how. Clients differ on whether their base URL ends in `/v1`."""

    name = "openai"
    route_settings = frozenset({"errors", "reasoning_field"})
    endpoints = (
        Endpoint("POST", "/v1/chat/completions"),
        Endpoint("POST", "/chat/completions"),
        Endpoint("GET", "/v1/models", "models"),
        Endpoint("GET", "/models", "models"),
        Endpoint("GET", "/v1/models/{id}", "model"),  # an id may hold slashes: openai/gpt-4o-mini
        Endpoint("GET", "/models/{id}", "model"),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> OpenAIWriter:
        return OpenAIWriter(
            id=f"chatcmpl-{request.id}",
            model=request.model or "",
            created=int(time.time()),
            usage=request.wants_usage,
            functions=speaks_functions(request.raw_body or {}),
            customs=custom_names(request.raw_body or {}),
            reasoning=head.options.get("reasoning_field"),
            abort_on_fault=cuts_on_error(head),
        )

    def models(self, ids: list[str], created: int) -> Reply:
        return json_reply(msgspec.json.encode({"object": "list", "data": [_model(id_, created) for id_ in ids]}))

    def model(self, id: str, ids: list[str], created: int) -> Reply:
        if id not in ids:
            return openai_failure(NotFound(f"no model {id[:128]!r} here", code="model_not_found", param="model"))
        return json_reply(msgspec.json.encode(_model(id, created)))


def _model(id_: str, created: int) -> dict[str, str | int]:
    return {"id": id_, "object": "model", "created": created, "owned_by": "chat-proxy"}


FRONTEND = OpenAIFrontend()
