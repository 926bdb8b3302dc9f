"""AG-UI over HTTP: headers, names, versions, failures."""

from __future__ import annotations

import json

import pytest

from proxy.contracts.ag_ui.frontend import FRONTEND
from proxy.contracts.base import Endpoint, Head
from proxy.errors import RateLimited, Unauthorized, UpstreamTruncated
from proxy.events import Batch, Fault, Finish, ReasoningDelta, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.request import Answer
from tests.support.ui_readers import RunReader

INPUT = {"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "hi"}]}


def head(**query):
    return Head(id="req-1", method="POST", path="/agui", query=query, headers={"accept": "text/event-stream"})


def encoder(at=None, **fields):
    at = at or head()
    return FRONTEND.encoder(FRONTEND.decode(json.dumps({**INPUT, **fields}).encode(), at), at)


def test_it_is_served_at_one_address():
    assert FRONTEND.name == "ag-ui"
    assert FRONTEND.endpoints == (Endpoint("POST", "/agui"),)


def test_streams_tell_proxies_to_keep_their_hands_off():
    assert encoder().headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }
    assert not encoder().early
    assert not encoder().abort_on_fault
    assert encoder().ping() == b": ping\n\n"


def test_a_run_bears_the_names_of_its_request():
    reader = RunReader().read(encoder().feed(Batch([Start("", ""), Finish()])))
    assert reader.run == ("t", "r")


def test_a_run_without_names_gets_some():
    stream = encoder(threadId=None, runId=None).feed(Batch([Start("", ""), Finish()]))
    assert all(RunReader().read(stream).run)


def test_messages_of_two_runs_never_have_the_same_id():
    """Also not when the client repeats its request id: the second answer would be added to the first."""
    said = Batch([Start("", ""), TextDelta("a"), Finish()])
    ids = {json.loads(encoder().feed(said).split(b"\n\n")[1][6:])["messageId"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("fields", "query", "event"),
    [
        ({}, {}, None),
        ({"protocolVersion": "1.0"}, {}, "REASONING_START"),
        ({}, {"protocolVersion": "0.0.59"}, "REASONING_START"),
        ({}, {"protocolVersion": "0.0.40"}, "THINKING_START"),
        ({"protocolVersion": "1.0"}, {"protocolVersion": "0.0.40"}, "REASONING_START"),
    ],
)
def test_a_client_may_say_its_version_in_the_query(fields, query, event):
    stream = encoder(head(**query), **fields).feed(Batch([Start("", ""), ReasoningDelta("hm"), Finish()]))
    types = [json.loads(frame[6:])["type"] for frame in stream.decode().split("\n\n") if frame]
    assert types[1] == (event or "RUN_FINISHED")


def test_C5_a_failure_before_the_run_is_a_status_and_a_sentence():
    """Pages show the client's `HTTP 429: <body>` as it is."""
    for reply in (
        FRONTEND.failure(RateLimited("slow\n", retry_after=1.2), head()),
        encoder().failure(RateLimited("slow\n", retry_after=1.2)),
    ):
        assert reply.status == 429
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert (reply.headers["Cache-Control"], reply.headers["Retry-After"]) == ("no-store", "2")
        assert reply.body == b"slow"
    assert FRONTEND.failure(Unauthorized("no key"), head()).headers["WWW-Authenticate"] == "Bearer"


def test_a_run_is_never_unstreamed():
    assert FRONTEND.decode(json.dumps({**INPUT, "stream": False}).encode(), head()).stream
    assert encoder().whole(Answer()).status == 500


def test_C3_a_failed_run_gives_back_the_conversation_of_its_request():
    calls = Batch(
        [Start("", ""), ToolCallStart(0, "c", "pay"), ToolCallDelta(0, "{}"), Fault(UpstreamTruncated("cut"))]
    )
    assert RunReader().read(encoder().feed(calls)).messages == INPUT["messages"]
