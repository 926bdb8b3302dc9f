"""OpenAI Responses over HTTP: `POST /v1/responses`, the only contract that Codex speaks.

The proxy keeps no responses. The contract's addresses for kept ones (fetch, delete, cancel) reach answers that can be
resumed, and say of all others that there is none.
"""

import time

import msgspec

from proxy.contracts.base import MOST_DIGITS, Endpoint, Frames, Head, Offer, Reply
from proxy.contracts.replies import NoModels, OpenAIErrors, cuts_on_error
from proxy.contracts.responses.objects import ResponseObject
from proxy.contracts.responses.request import decode_request
from proxy.contracts.responses.tools import read_tools
from proxy.contracts.responses.writer import ResponsesWriter
from proxy.errors import BadRequest, NotFound
from proxy.request import ChatRequest


def _not_kept(body: bytes, head: Head, offer: Offer) -> Reply:  # noqa: ARG001 - the answer is always the same
    raise NotFound(
        f"There is nothing at {head.path[:200]}: this server keeps no responses (store is false), so there is none to "
        "fetch, delete or cancel.",
        param="response_id",
        code="response_not_found",
    )


def _whole(frames: Frames, **changes: str) -> Reply:
    """The response of the newest event that holds one, with `changes`."""
    position, response = 0, {}
    while (read := frames.read(position))[0]:
        data, position = read
        for event in data.split(b"\n\n"):
            if b'"response":{' in event:
                response = msgspec.json.decode(event.partition(b"data: ")[2])["response"]
    return Reply(200, msgspec.json.encode(response | changes), {"Content-Type": "application/json"})


class ResponsesFrontend(OpenAIErrors, NoModels):
    """Where the contract is served. Its clients ask the `openai` contract for the list of models."""

    name = "responses"
    route_settings = frozenset({"errors"})
    endpoints = tuple(
        endpoint
        for base in ("/v1", "")  # clients differ on whether their base URL ends in it
        for endpoint in (
            Endpoint("POST", f"{base}/responses"),
            Endpoint("GET", f"{base}/responses/{{id}}", "resume", answer=_not_kept),
            Endpoint("DELETE", f"{base}/responses/{{id}}", "answer", answer=_not_kept),
            Endpoint("POST", f"{base}/responses/{{id}}/cancel", "stop", answer=_not_kept),
            Endpoint("POST", f"{base}/responses/{{id}}", "answer", answer=_not_kept),
        )
    )

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> ResponsesWriter:
        wire = request.raw_body or {}
        tools = read_tools(wire)
        response = ResponseObject(wire, tools, id=self.stream_name(request), created=int(time.time()))
        return ResponsesWriter(
            response,
            tools,
            id=request.id,
            model=request.model or "",
            clock=time.time,
            abort_on_fault=cuts_on_error(head),
        )

    def stream_name(self, request: ChatRequest) -> str:
        """The response's id."""
        return f"resp_{request.id}"

    def resume(self, frames: Frames, head: Head) -> int | Reply:
        """`stream=true` goes on after the event that `starting_after` names: an event's sequence number is its frame's.

        Without `stream`, the response as its newest event has it.
        """
        if head.query.get("stream") != "true":
            return _whole(frames)
        after = head.query.get("starting_after", "-1")
        if len(after) > MOST_DIGITS or not after.removeprefix("-").isdecimal():
            raise BadRequest("query parameter starting_after: expected a sequence number", param="starting_after")
        return max(0, int(after) + 1)

    def stopped(self, frames: Frames, head: Head) -> Reply:  # noqa: ARG002
        return _whole(frames, status="cancelled")


FRONTEND = ResponsesFrontend()
