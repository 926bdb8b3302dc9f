"""OpenAI Responses over HTTP: `POST /v1/responses`, which is all that Codex speaks.

Nothing is kept between requests, so the contract's other addresses, where kept responses are fetched, deleted or
cancelled, answer that there is none.
"""

from __future__ import annotations

import time

from proxy.contracts.base import Endpoint, Head, Offer, Reply
from proxy.contracts.replies import EVENT_STREAM, JSON, NoModels, openai_failure
from proxy.contracts.responses.objects import ResponseObject
from proxy.contracts.responses.request import decode_request
from proxy.contracts.responses.tools import read_tools
from proxy.contracts.responses.writer import StreamWriter, whole_body
from proxy.errors import NotFound, ProxyError
from proxy.events import Batch
from proxy.request import Answer, ChatRequest
from proxy.wire.sse import PING


class ResponsesEncoder:
    """One answer to one request: streamed or whole."""

    headers = EVENT_STREAM
    early = False
    abort_on_fault = False

    def __init__(self, request: ChatRequest) -> None:
        wire = request.wire or {}
        tools = read_tools(wire)
        response = ResponseObject(wire, tools, id=f"resp_{request.id}", created=int(time.time()))
        self._writer = StreamWriter(response, tools, id=request.id, model=request.model or "", clock=time.time)

    def feed(self, batch: Batch) -> bytes:
        return self._writer.feed(batch)

    def ping(self) -> bytes:
        return PING

    def whole(self, answer: Answer) -> Reply:
        return Reply(200, whole_body(self._writer, answer), JSON)

    def failure(self, error: ProxyError) -> Reply:
        return openai_failure(error)


def _not_kept(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    raise NotFound(
        f"There is nothing at {head.path[:200]}: this server keeps no responses (store is false), so there is none to "
        "fetch, delete or cancel.",
        param="response_id",
        code="response_not_found",
    )


class ResponsesFrontend(NoModels):
    """Where the contract is served, and how. The list of models is the `openai` contract's."""

    name = "responses"
    endpoints = tuple(
        endpoint
        for base in ("/v1", "")  # clients differ on whether their base URL ends in it
        for endpoint in (
            Endpoint("POST", f"{base}/responses"),
            Endpoint("GET", f"{base}/responses/{{id}}", "answer", answer=_not_kept),
            Endpoint("DELETE", f"{base}/responses/{{id}}", "answer", answer=_not_kept),
            Endpoint("POST", f"{base}/responses/{{id}}", "answer", answer=_not_kept),  # …/cancel
        )
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> ResponsesEncoder:  # noqa: ARG002 - the body says it all
        return ResponsesEncoder(request)

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return openai_failure(error)


FRONTEND = ResponsesFrontend()
