"""Embeddings: texts in, vectors out, in one piece (https://platform.openai.com/docs/api-reference/embeddings).

Request and answer pass between a client and an upstream as they came.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.contracts.base import Endpoint, Head, Reply
from proxy.contracts.openai.chunks import read_usage
from proxy.contracts.openai.completions import read_texts
from proxy.contracts.replies import InOnePiece, NoModels, OpenAIErrors, json_reply, openai_failure
from proxy.errors import ProxyError, UpstreamMalformed
from proxy.events import Batch, Finish, Start
from proxy.request import EMBEDDINGS, Answer, ChatRequest
from proxy.wire.forwarding import without_destinations
from proxy.wire.json_body import PARAMETERS, get_string, parse_object
from proxy.wire.stream_end import error_in, text_of
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean

DIALECT = EMBEDDINGS

_OF_CHATS = frozenset(PARAMETERS)


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a request body. Raises `BadRequest` saying what is wrong and where."""
    wire = parse_object(body)
    return ChatRequest(
        id=id,
        contract="embeddings",
        dialect=DIALECT,
        task="embedding",
        messages=read_texts(wire, "input"),
        model=get_string(wire, "model"),
        stream=False,
        user=get_string(wire, "user"),
        path=path,
        headers=headers or {},
        raw_body=wire,
    )


def request_fields(request: ChatRequest, *, model: str) -> dict[str, Any]:
    """The fields of the body for an upstream: the client's own, with what the route sets, except for chats alone."""
    params = {name: value for name, value in request.params.items() if name not in _OF_CHATS}
    return {**without_destinations(request.raw_body or {}), **params, "model": model}


class _Vectors(msgspec.Struct, gc=False):
    """What is read of an answer; the vectors stay as they are."""

    data: list[msgspec.Raw] | None = None
    model: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Vectors).decode


def decode_vectors(body: bytes, clean: Clean = one_line_of) -> Batch:
    """An upstream's answer. Raises the mapped error for an error object, and `UpstreamMalformed` for anything else."""
    try:
        found = _decode(body)
    except (ValueError, RecursionError):
        found = _Vectors()
    if found.error or not found.data:
        raise error_in(body, clean) or UpstreamMalformed("the upstream's answer holds no embeddings")
    usage = read_usage(found.usage if isinstance(found.usage, dict) else None)
    return Batch([Start("", text_of(found.model)), Finish("stop", usage)], DIALECT, whole=body)


class EmbeddingsFrontend(OpenAIErrors, NoModels):
    """The contract `embeddings`."""

    name = "embeddings"
    route_settings: frozenset[str] = frozenset()
    endpoints = (Endpoint("POST", "/v1/embeddings"), Endpoint("POST", "/embeddings"))

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> "EmbeddingsWriter":  # noqa: ARG002
        return EmbeddingsWriter()


class EmbeddingsWriter(InOnePiece):
    """Encoder of one answer, which comes in one piece."""

    def whole(self, answer: Answer) -> Reply:
        return json_reply(answer.payload)

    def failure(self, error: ProxyError) -> Reply:
        return openai_failure(error)


FRONTEND = EmbeddingsFrontend()
