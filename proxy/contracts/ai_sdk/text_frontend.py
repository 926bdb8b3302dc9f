"""The AI SDK's text streams: `TextStreamChatTransport`, and `useCompletion` with `streamProtocol: "text"`.

Their requests look like those of UI message streams, so a client chooses this contract by name: by the address
`/ai-text`, or by `?contract=ai-text` at the addresses of the AI SDK.
"""

from proxy.contracts.ai_sdk.frontend import nothing_to_resume
from proxy.contracts.ai_sdk.request import decode_request
from proxy.contracts.ai_sdk.text_writer import AITextWriter
from proxy.contracts.ai_sdk.writer import failure
from proxy.contracts.base import Encoder, Endpoint, Head, Reply
from proxy.contracts.replies import NoModels
from proxy.errors import ProxyError
from proxy.request import ChatRequest
from proxy.wire.json_body import no_calls


def _only_by_name(head: Head, body: bytes) -> int:  # noqa: ARG001
    return 0


class AiTextFrontend(NoModels):
    """Text streams. The contract has no list of models."""

    name = "ai-text"
    route_settings: frozenset[str] = frozenset()
    endpoints = (
        Endpoint("POST", "/ai-text"),
        Endpoint("POST", "/api/chat", detects=_only_by_name),
        Endpoint("POST", "/api/completion", detects=_only_by_name),
        Endpoint("POST", "/ai-sdk/chat", detects=_only_by_name),
        # The transport keeps its query when it asks for an answer to resume.
        Endpoint("GET", "/ai-text/{id}/stream", "answer", answer=nothing_to_resume),
        Endpoint("GET", "/api/chat/{id}/stream", "answer", detects=_only_by_name, answer=nothing_to_resume),
        Endpoint("GET", "/ai-sdk/chat/{id}/stream", "answer", detects=_only_by_name, answer=nothing_to_resume),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        request = decode_request(body, id=head.id, contract=self.name, path=head.path, headers=head.headers)
        if request.tools:
            raise no_calls(self.name, "use UI message streams (contract ai-sdk)")
        return request

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:  # noqa: ARG002 - there is nothing to choose
        return AITextWriter()

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return failure(error)


FRONTEND = AiTextFrontend()
