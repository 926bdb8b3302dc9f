"""AG-UI over HTTP: runs of an agent that is one model, for `HttpAgent` and what is built on it (CopilotKit)."""

from __future__ import annotations

from uuid import uuid4

from proxy.contracts.ag_ui.request import decode_request
from proxy.contracts.ag_ui.writer import Run, RunWriter
from proxy.contracts.base import Encoder, Endpoint, Head, Reply
from proxy.contracts.replies import EVENT_STREAM, NoModels, encode_error, error_headers
from proxy.errors import InternalError, ProxyError
from proxy.events import Batch
from proxy.request import Answer, ChatRequest
from proxy.wire.sse import PING


class AgUiEncoder:
    """One answer as a run.

    Clients of 0.0.x cannot say in their body which version they speak; the query `?protocolVersion=0.0.59` can.
    """

    headers = EVENT_STREAM
    early = False
    abort_on_fault = False

    def __init__(self, request: ChatRequest, head: Head) -> None:
        named = request.wire or {}
        run = Run(
            thread_id=named.get("threadId") or str(uuid4()),
            run_id=named.get("runId") or str(uuid4()),
            parent_run_id=named.get("parentRunId"),
            version=named.get("protocolVersion") or head.query.get("protocolVersion"),
        )
        # Not the request's id: a client may repeat that, and would then add this answer to an earlier one.
        self._writer = RunWriter(run, message_id=str(uuid4()))
        self._id = request.id

    def feed(self, batch: Batch) -> bytes:
        return self._writer.feed(batch)

    def ping(self) -> bytes:
        return PING

    def whole(self, answer: Answer) -> Reply:  # noqa: ARG002 - `decode` makes no unstreamed requests
        return self.failure(InternalError("a run is always streamed"))

    def failure(self, error: ProxyError) -> Reply:
        return failure(error, self._id)


class AgUiFrontend(NoModels):
    """Where the contract is served, and how. It has no list of models."""

    name = "ag-ui"
    endpoints = (Endpoint("POST", "/agui"),)

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        return AgUiEncoder(request, head)

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return failure(error, head.id)


def failure(error: ProxyError, request_id: str) -> Reply:
    """An error instead of a run. The client raises `HTTP <status>: <body>`, and keeps the body's JSON as `payload`."""
    return Reply(error.status, encode_error(error, request_id), error_headers(error))


FRONTEND = AgUiFrontend()
