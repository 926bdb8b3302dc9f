"""The Vercel AI SDK over HTTP: UI message streams for `useChat` and `useCompletion`.

Both hooks have a default address, `/api/chat` and `/api/completion`. The first is also the founding hook's: whose a
request is, its body tells. `/ai-sdk/chat` is nobody else's.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.contracts.ai_sdk import request as ai_sdk
from proxy.contracts.ai_sdk.writer import PING, StreamWriter, sentence, whole_message
from proxy.contracts.base import Encoder, Endpoint, Head, Offer, Reply
from proxy.contracts.replies import EVENT_STREAM, JSON, NoModels, error_headers
from proxy.errors import ProxyError
from proxy.events import Batch
from proxy.request import Answer, ChatRequest

STREAM_HEADERS: Mapping[str, str] = {**EVENT_STREAM, "X-Vercel-AI-UI-Message-Stream": "v1"}
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}


class AiSdkEncoder:
    """One answer as a UI message stream, or as one UI message."""

    headers = STREAM_HEADERS
    early = False
    abort_on_fault = False

    def __init__(self, request: ChatRequest) -> None:
        self._id = request.id
        self._writer = StreamWriter(id=request.id, usage=request.wants_usage)

    def feed(self, batch: Batch) -> bytes:
        return self._writer.feed(batch)

    def ping(self) -> bytes:
        return PING

    def whole(self, answer: Answer) -> Reply:
        return Reply(200, whole_message(answer, id=self._id), JSON)

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)


class AiSdkFrontend(NoModels):
    """Where the contract is served, and how. It has no list of models."""

    name = "ai-sdk"

    def __init__(self) -> None:
        self.endpoints = (
            Endpoint("POST", "/api/chat", detects=_claim),
            Endpoint("POST", "/api/completion"),
            Endpoint("POST", "/ai-sdk/chat"),
            Endpoint("GET", "/api/chat/{id}/stream", "answer", answer=nothing_to_resume),
            Endpoint("GET", "/ai-sdk/chat/{id}/stream", "answer", answer=nothing_to_resume),
        )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return ai_sdk.decode_request(body, id=head.id, contract=self.name, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:  # noqa: ARG002 - the body says it all
        return AiSdkEncoder(request)

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return failure(error)


def failure(error: ProxyError) -> Reply:
    """An error instead of an answer: a sentence, for the hooks show the body as `error.message`."""
    return Reply(error.status, sentence(error), error_headers(error, _TEXT))


def _claim(head: Head, body: bytes) -> int:  # noqa: ARG001
    return ai_sdk.detects(body)


def nothing_to_resume(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001
    """What a page asks for when it is loaded with `resume`: 204 says that no answer is under way."""
    return Reply(204, b"", {"Cache-Control": "no-store"})


FRONTEND = AiSdkFrontend()
