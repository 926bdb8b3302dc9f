"""Ollama's API, under `/ollama`, on a port of its own (`server.ollama_port`), and where a request is clearly one of its
on the `/api/chat` that several contracts share.

What would change the models, or ask for something else than an answer, is refused in Ollama's form: models come from
the config.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from proxy.contracts.base import Endpoint, Head, Offer, Reply
from proxy.contracts.ollama.models import decode_show, show_body, tags_body
from proxy.contracts.ollama.request import DIALECT, decode_chat, decode_generate, loads, model_name
from proxy.contracts.ollama.writer import CHAT, GENERATE, AnswerWriter, error_body
from proxy.contracts.replies import JSON, LIVE, error_headers
from proxy.errors import NotFound, ProxyError, RequestError
from proxy.events import Batch
from proxy.request import Answer, ChatRequest

PREFIX = "/ollama"

VERSION = "0.40.0"
"""The version of Ollama whose API this is. Clients look whether it is new enough for what they need."""

_STREAM_HEADERS: Mapping[str, str] = {"Content-Type": "application/x-ndjson", **LIVE}
_GENERATE = "/api/generate"


class OllamaEncoder:
    """One answer to one request: streamed or whole."""

    headers = _STREAM_HEADERS
    early = False
    abort_on_fault = False

    def __init__(self, writer: AnswerWriter) -> None:
        self._writer = writer

    def feed(self, batch: Batch) -> bytes:
        return self._writer.feed(batch)

    def ping(self) -> bytes:
        return self._writer.ping()

    def whole(self, answer: Answer) -> Reply:
        return _json(self._writer.whole(answer))

    def failure(self, error: ProxyError) -> Reply:
        return _failure(error)


def speaks_ollama(head: Head, body: bytes) -> int:
    """How surely a request at the shared path is one of Ollama's: by what it holds besides a model and messages."""
    try:
        signs = _signs(body)
    except (ValueError, RecursionError):  # whoever gets it will say what is wrong; msgspec's errors are ValueErrors
        return 0
    if not bytes(signs.model).startswith(b'"'):
        return 0
    return 10 if signs.tell or head.headers.get("user-agent", "").startswith("ollama") else 0


class _Signs(msgspec.Struct):
    """The fields that tell, unread. All others are passed over without making anything of them."""

    model: msgspec.Raw = msgspec.Raw()
    stream: msgspec.Raw = msgspec.Raw()
    options: msgspec.Raw = msgspec.Raw()
    keep_alive: msgspec.Raw = msgspec.Raw()
    format: msgspec.Raw = msgspec.Raw()
    think: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    raw: msgspec.Raw = msgspec.Raw()
    images: msgspec.Raw = msgspec.Raw()
    template: msgspec.Raw = msgspec.Raw()

    @property
    def tell(self) -> bool:
        """Whether any of them but the model is there."""
        return any(getattr(self, name) for name in self.__struct_fields__[1:])


_signs = msgspec.json.Decoder(_Signs).decode


def _show(body: bytes, head: Head, offer: Offer) -> Reply:
    asked = decode_show(body)
    model = model_name(asked, head.models)
    if model not in offer.models:
        raise NotFound(f"model '{asked[:128]}' not found", code="model_not_found", param="model")
    return _json(show_body(model, offer.created))


def _version(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    return _json(b'{"version":"%b"}' % VERSION.encode())


def _running_models(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - they run elsewhere
    return _json(b'{"models":[]}')


def _alive(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    return Reply(200, b"Ollama is running", {"Content-Type": "text/plain; charset=utf-8"})


def _not_here(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the path says it all
    """What else Ollama can do, and what it cannot."""
    name = head.path.removeprefix(f"{PREFIX}/api/")
    if name in {"pull", "push", "create", "copy", "delete"}:
        why = "which models there are, and where, is decided by the server's config; `/api/tags` lists them"
    elif name in {"embed", "embeddings"}:
        why = "there are no embeddings here, only chats"
    else:
        raise NotFound(f"there is nothing at {head.path[:200]}")
    raise RequestError(f"`/api/{name}` is not served: {why}", status=501, code="not_implemented")


class OllamaFrontend:
    """Where the contract is served, and how."""

    name = DIALECT
    endpoints = (
        Endpoint("POST", f"{PREFIX}/api/chat"),
        Endpoint("POST", f"{PREFIX}{_GENERATE}"),
        Endpoint("POST", "/api/chat", detects=speaks_ollama),
        Endpoint("GET", f"{PREFIX}/api/tags", "models"),
        Endpoint("GET", f"{PREFIX}/api/ps", "answer", answer=_running_models),
        Endpoint("GET", f"{PREFIX}/api/version", "answer", answer=_version),
        Endpoint("POST", f"{PREFIX}/api/show", "answer", answer=_show),
        *(Endpoint(method, f"{PREFIX}/api/{{id}}", "answer", answer=_not_here) for method in ("GET", "POST", "DELETE")),
        Endpoint("GET", PREFIX, "answer", answer=_alive),
        Endpoint("GET", f"{PREFIX}/", "answer", answer=_alive),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        decode = decode_generate if _generates(head) else decode_chat
        return decode(body, id=head.id, path=head.path, headers=head.headers, models=head.models)

    def encoder(self, request: ChatRequest, head: Head) -> OllamaEncoder | Reply:
        form = GENERATE if _generates(head) else CHAT
        writer = AnswerWriter(form, request, now_ns=time.time_ns(), clock=time.monotonic_ns)
        reason = loads(request)
        if reason is None:
            return OllamaEncoder(writer)
        loaded = writer.loaded(reason)
        return Reply(200, loaded + b"\n", _STREAM_HEADERS) if request.stream else _json(loaded)

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return _failure(error)

    def models(self, ids: list[str], created: int) -> Reply:
        return _json(tags_body(ids, created))

    def model(self, id: str, ids: list[str], created: int) -> Reply:  # noqa: ARG002 - no endpoint leads here
        return _failure(NotFound("one model is at /api/show"))


def _generates(head: Head) -> bool:
    return head.path.endswith(_GENERATE)


def _failure(error: ProxyError) -> Reply:
    return Reply(error.status, error_body(error), error_headers(error))


def _json(body: bytes) -> Reply:
    return Reply(200, body, JSON)


FRONTEND = OllamaFrontend()
