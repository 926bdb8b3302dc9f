"""AG-UI: each request is a run of an agent that is one model. For `HttpAgent` and CopilotKit, which is built on it."""

from uuid import uuid4

import msgspec

from proxy.contracts.ag_ui.request import decode_request
from proxy.contracts.ag_ui.writer import AGUIWriter, Run, failure
from proxy.contracts.base import Encoder, Endpoint, Head, Reply
from proxy.contracts.replies import NoModels, cuts_on_error
from proxy.errors import ProxyError
from proxy.request import ChatRequest


class AgUiFrontend(NoModels):
    """AG-UI. The contract has no list of models."""

    name = "ag-ui"
    endpoints = (Endpoint("POST", "/agui"),)
    route_settings = frozenset({"errors"})

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> Encoder:
        """The writer for a run. Clients of 0.0.x name their version in the query: `?protocolVersion=0.0.59`."""
        named = request.raw_body or {}
        messages = named.get("messages")
        run = Run(
            thread_id=named.get("threadId") or str(uuid4()),
            run_id=named.get("runId") or str(uuid4()),
            parent_run_id=named.get("parentRunId"),
            version=named.get("protocolVersion") or head.query.get("protocolVersion"),
            messages=msgspec.json.encode(messages) if messages else b"",
        )
        # Not the request's id: a client may repeat that, and would then append this answer to an earlier one.
        return AGUIWriter(run, message_id=str(uuid4()), abort_on_fault=cuts_on_error(head))

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002
        return failure(error)


FRONTEND = AgUiFrontend()
