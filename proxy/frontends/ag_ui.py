"""AG-UI over HTTP: runs of an agent that is one model, for `HttpAgent` and what is built on it (CopilotKit)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from uuid import uuid4

from proxy.chat import Answer, ChatRequest
from proxy.dialects.ag_ui import decode_request
from proxy.dialects.ag_ui_writer import Run, RunWriter
from proxy.dialects.plain import encode_error
from proxy.dialects.sse import PING
from proxy.errors import InternalError, NotFound, ProxyError
from proxy.events import Batch
from proxy.frontends.base import Encoder, Endpoint, Head, Reply

STREAM_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class AgUiEncoder:
    """One answer as a run.

    Clients of 0.0.x cannot say in their body which version they speak; the query `?protocolVersion=0.0.59` can.
    """

    headers = STREAM_HEADERS
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


class AgUiFrontend:
    """Where the contract is served, and how. It has no list of models."""

    name = "ag-ui"
    endpoints = (Endpoint("POST", "/agui"),)

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        return AgUiEncoder(request, head)

    def failure(self, error: ProxyError, head: Head) -> Reply:
        return failure(error, head.id)

    def models(self, ids: list[str], created: int) -> Reply:  # noqa: ARG002 - no endpoint leads here
        return failure(NotFound("this contract has no list of models"), "")

    def model(self, id: str, ids: list[str], created: int) -> Reply:  # noqa: ARG002 - nor here
        return self.models(ids, created)


def failure(error: ProxyError, request_id: str) -> Reply:
    """An error instead of a run. The client raises `HTTP <status>: <body>`, and keeps the body's JSON as `payload`."""
    headers = {**_JSON, **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(0, math.ceil(error.retry_after)))
    return Reply(error.status, encode_error(error, request_id), headers)


FRONTEND = AgUiFrontend()
