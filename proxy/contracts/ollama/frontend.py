"""Ollama's API: under `/ollama`, on its own port (`server.ollama_port`), and at the shared path `/api/chat`.

At `/api/chat`, which several contracts share, a request must show that it is one of Ollama's. Requests that would
change the models are refused in Ollama's form: the models come from the config.
"""

import time

import msgspec

from proxy.contracts.base import Encoder, Endpoint, Head, Offer, Reply
from proxy.contracts.ollama.embed import EMBED, EMBEDDINGS, EmbedWriter, decode_embed
from proxy.contracts.ollama.models import decode_show, show_body, tags_body
from proxy.contracts.ollama.request import DIALECT, LATEST, decode_chat, decode_generate, loads, model_name
from proxy.contracts.ollama.writer import CHAT, GENERATE, STREAM_HEADERS, OllamaWriter, failure
from proxy.contracts.replies import cuts_on_error, json_reply
from proxy.errors import NotFound, ProxyError, RequestError
from proxy.request import ChatRequest

PREFIX = "/ollama"

VERSION = "0.40.0"
"""The version of Ollama whose API is served. Clients check that it is new enough for them."""

_GENERATE = "/api/generate"


def speaks_ollama(head: Head, body: bytes) -> int:
    """How surely a request at the shared path is one of Ollama's: it has a field besides model and messages."""
    try:
        signs = _signs(body)
    except (ValueError, RecursionError):  # the contract that gets the body says what is wrong with it
        return 0
    if not bytes(signs.model).startswith(b'"'):
        return 0
    return 10 if signs.any_given or head.headers.get("user-agent", "").startswith("ollama") else 0


class _Signs(msgspec.Struct):
    """The fields that only Ollama's requests have, undecoded. msgspec skips all others, which keeps this cheap."""

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
    def any_given(self) -> bool:
        """Whether there is any of them besides the model."""
        return any(getattr(self, name) for name in self.__struct_fields__[1:])


_signs = msgspec.json.Decoder(_Signs).decode


def _show(body: bytes, head: Head, offer: Offer) -> Reply:
    asked = decode_show(body)
    bare = model_name(asked, head.models)
    model = next((name for name in (asked, bare, bare + LATEST) if name in offer.models), None)
    if model is None:
        raise NotFound(f"model '{asked[:128]}' not found", code="model_not_found", param="model")
    return json_reply(show_body(model, offer.created, offer.context(model)))


def _version(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    return json_reply(b'{"version":"%b"}' % VERSION.encode())


def _running_models(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - no model runs here
    return json_reply(b'{"models":[]}')


def _alive(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    return Reply(200, b"Ollama is running", {"Content-Type": "text/plain; charset=utf-8"})


def _not_here(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - only the path matters
    """Refuse the operations that change models. All other paths do not exist."""
    name = head.path.removeprefix(f"{PREFIX}/api/")
    if name not in {"pull", "push", "create", "copy", "delete"}:
        raise NotFound(f"there is nothing at {head.path[:200]}")
    why = "the server's config decides which models there are; `/api/tags` lists them"
    raise RequestError(f"`/api/{name}` is not served: {why}", status=501, code="not_implemented")


class OllamaFrontend:
    """Ollama's contract, with its lists of models."""

    name = DIALECT
    route_settings = frozenset({"errors"})
    endpoints = (
        Endpoint("POST", f"{PREFIX}/api/chat"),
        Endpoint("POST", f"{PREFIX}{_GENERATE}"),
        Endpoint("POST", f"{PREFIX}{EMBED}"),
        Endpoint("POST", f"{PREFIX}{EMBEDDINGS}"),
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
        decode = decode_generate if _generates(head) else decode_embed if _embeds(head) else decode_chat
        return decode(body, id=head.id, path=head.path, headers=head.headers, models=head.models)

    def encoder(self, request: ChatRequest, head: Head) -> Encoder | Reply:
        if request.task == "embedding":
            return EmbedWriter(request.model or "", one=head.path.endswith(EMBEDDINGS), clock=time.monotonic_ns)
        form = GENERATE if _generates(head) else CHAT
        writer = OllamaWriter(
            form,
            request,
            now_ns=time.time_ns(),
            clock=time.monotonic_ns,
            abort_on_fault=cuts_on_error(head, default=True),
        )
        reason = loads(request)
        if reason is None:
            return writer
        loaded = writer.loaded(reason)
        return Reply(200, loaded + b"\n", STREAM_HEADERS) if request.stream else json_reply(loaded)

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return failure(error)

    def models(self, ids: list[str], created: int) -> Reply:
        return json_reply(tags_body(ids, created))

    def model(self, id: str, ids: list[str], created: int) -> Reply:  # noqa: ARG002 - no endpoint leads here
        return failure(NotFound("one model is at /api/show"))


def _embeds(head: Head) -> bool:
    return head.path.endswith((EMBED, EMBEDDINGS))


def _generates(head: Head) -> bool:
    return head.path.endswith(_GENERATE)


FRONTEND = OllamaFrontend()
