"""The text streams of the Vercel AI SDK: `TextStreamChatTransport`, and `useCompletion` with `streamProtocol: "text"`.

Their requests look like those of UI message streams, so only a name can choose this contract: its own address, or
`?contract=ai-text` at those of the AI SDK.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.contracts.ai_sdk import request as ai_sdk
from proxy.contracts.ai_sdk.frontend import failure, nothing_to_resume
from proxy.contracts.ai_sdk.text_writer import TextWriter, whole_text
from proxy.contracts.base import Encoder, Endpoint, Head, Reply
from proxy.contracts.replies import LIVE, NoModels
from proxy.errors import ProxyError
from proxy.request import Answer, ChatRequest
from proxy.wire.json_body import no_calls

HEADERS: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8", **LIVE}


class AiTextEncoder:
    """One answer as bare text. An answer that broke off ends in a broken connection, for the contract has no word."""

    headers = HEADERS
    early = False
    abort_on_fault = True

    def __init__(self) -> None:
        self.feed = TextWriter().feed

    def ping(self) -> bytes:
        return b""  # whatever is sent is text

    def whole(self, answer: Answer) -> Reply:
        return Reply(200, whole_text(answer), HEADERS)

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)


def _only_by_name(head: Head, body: bytes) -> int:  # noqa: ARG001
    return 0


class AiTextFrontend(NoModels):
    """Where the contract is served, and how."""

    name = "ai-text"
    endpoints = (
        Endpoint("POST", "/ai-text"),
        Endpoint("POST", "/api/chat", detects=_only_by_name),
        Endpoint("POST", "/api/completion", detects=_only_by_name),
        Endpoint("POST", "/ai-sdk/chat", detects=_only_by_name),
        # The transport keeps its query when it asks for something to resume.
        Endpoint("GET", "/ai-text/{id}/stream", "answer", answer=nothing_to_resume),
        Endpoint("GET", "/api/chat/{id}/stream", "answer", detects=_only_by_name, answer=nothing_to_resume),
        Endpoint("GET", "/ai-sdk/chat/{id}/stream", "answer", detects=_only_by_name, answer=nothing_to_resume),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        request = ai_sdk.decode_request(body, id=head.id, contract=self.name, path=head.path, headers=head.headers)
        if request.tools:
            raise no_calls(self.name, "use UI message streams (contract ai-sdk)")
        return request

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:  # noqa: ARG002 - there is nothing to choose
        return AiTextEncoder()

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return failure(error)


FRONTEND = AiTextFrontend()
