"""The Vercel AI SDK's UI message streams, for `useChat` and `useCompletion`.

The default addresses of the two hooks are `/api/chat` and `/api/completion`. The chat hook posts to the first too, so
the body decides whose a request there is. `/ai-sdk/chat` belongs to this contract alone.
"""

from proxy.contracts.ai_sdk.request import decode_request, detects
from proxy.contracts.ai_sdk.writer import AISDKWriter, failure
from proxy.contracts.base import Encoder, Endpoint, Frames, Head, Offer, Reply
from proxy.contracts.replies import NoModels, cuts_on_error
from proxy.errors import ProxyError
from proxy.request import ChatRequest

_STREAMS = ("/api/chat/{id}/stream", "/ai-sdk/chat/{id}/stream")

NOTHING_RUNS = Reply(204, b"", {"Cache-Control": "no-store"})


def nothing_to_resume(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001
    """The answer to a page that loads with `resume`: 204 says that no answer is running."""
    return NOTHING_RUNS


class AiSdkFrontend(NoModels):
    """UI message streams. The contract has no list of models."""

    name = "ai-sdk"
    route_settings = frozenset({"errors"})
    endpoints = (
        Endpoint("POST", "/api/chat", detects=lambda _, body: detects(body)),
        Endpoint("POST", "/api/completion"),
        Endpoint("POST", "/ai-sdk/chat"),
        *(Endpoint("GET", path, "resume", answer=nothing_to_resume) for path in _STREAMS),
        *(Endpoint("DELETE", path, "stop", answer=nothing_to_resume) for path in _STREAMS),
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, contract=self.name, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        return AISDKWriter(id=request.id, usage=request.wants_usage, abort_on_fault=cuts_on_error(head))

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return failure(error)

    def stream_name(self, request: ChatRequest) -> str | None:
        """The chat's id: its newest answer is what a page that loads again wants."""
        return request.conversation

    def resume(self, frames: Frames, head: Head) -> int | Reply:  # noqa: ARG002 - `useChat` sends no number
        """The whole answer, with the message id that it began with. The page has an answer that is over already."""
        return NOTHING_RUNS if frames.closed else 0

    def stopped(self, frames: Frames, head: Head) -> Reply:  # noqa: ARG002
        return NOTHING_RUNS


FRONTEND = AiSdkFrontend()
