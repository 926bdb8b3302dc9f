"""OpenAI Responses over HTTP: `POST /v1/responses`, the only contract that Codex speaks.

The proxy keeps nothing between requests. The contract's addresses for kept responses (fetch, delete, cancel) answer
that there is none.
"""

from __future__ import annotations

import time

from proxy.contracts.base import Endpoint, Head, Offer, Reply
from proxy.contracts.replies import NoModels, cuts_on_error, openai_failure
from proxy.contracts.responses.objects import ResponseObject
from proxy.contracts.responses.request import decode_request
from proxy.contracts.responses.tools import read_tools
from proxy.contracts.responses.writer import ResponsesWriter
from proxy.errors import NotFound, ProxyError
from proxy.request import ChatRequest


def _not_kept(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    raise NotFound(
        f"There is nothing at {head.path[:200]}: this server keeps no responses (store is false), so there is none to "
        "fetch, delete or cancel.",
        param="response_id",
        code="response_not_found",
    )


class ResponsesFrontend(NoModels):
    """Where the contract is served. Its clients ask the `openai` contract for the list of models."""

    name = "responses"
    route_settings = frozenset({"errors"})
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

    def encoder(self, request: ChatRequest, head: Head) -> ResponsesWriter:
        wire = request.raw_body or {}
        tools = read_tools(wire)
        response = ResponseObject(wire, tools, id=f"resp_{request.id}", created=int(time.time()))
        return ResponsesWriter(
            response,
            tools,
            id=request.id,
            model=request.model or "",
            clock=time.time,
            abort_on_fault=cuts_on_error(head),
        )

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002 - errors have one form
        return openai_failure(error)


FRONTEND = ResponsesFrontend()
