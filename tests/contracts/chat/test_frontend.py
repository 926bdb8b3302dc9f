"""The chat contract over HTTP: who gets which dialect, which headers, which failure."""

from __future__ import annotations

import json

import pytest

from proxy.contracts.base import Endpoint, Head
from proxy.contracts.chat.frontend import FRONTEND
from proxy.errors import BadRequest, Draining, InternalError, RateLimited, Unauthorized, UpstreamConnect
from proxy.events import Batch, Fault, TextDelta
from proxy.request import Answer, ChatRequest

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
HOOK = "*/*"
EVENTS = "text/event-stream"
AXIOS = "application/json, text/plain, */*"


def head(accept=HOOK, *, query=None, header=None, route=None, errors=None):
    headers = {} if accept is None else {"accept": accept}
    if header is not None:
        headers["x-chat-dialect"] = header
    options = {"dialect": route, "errors": errors}
    return Head("req-1", "POST", "/chat", {} if query is None else {"dialect": query}, headers, options)


def encoder(at):
    return FRONTEND.encoder(FRONTEND.decode(BODY, at), at)


def test_it_is_served_where_the_chat_server_and_its_hook_expect_it():
    assert FRONTEND.name == "chat"
    assert FRONTEND.endpoints == (Endpoint("POST", "/chat"), Endpoint("POST", "/api/chat"))


@pytest.mark.parametrize(
    ("at", "dialect"),
    [
        (head(HOOK), "text"),
        (head(None), "text"),
        (head(""), "text"),
        (head(AXIOS), "text"),
        (head("text/html"), "text"),
        (head("application/json"), "text"),
        (head("text/*"), "text"),
        (head(EVENTS), "sse"),
        (head("Text/Event-Stream; charset=utf-8"), "sse"),
        (head(f"application/json, {EVENTS};q=0.9"), "sse"),
        (head(f"{EVENTS};q=0, */*"), "text"),
        (head(EVENTS, route="json"), "json"),
        (head(EVENTS, route="text", header="both"), "both"),
        (head(EVENTS, route="text", header="both", query="json"), "json"),
        (head(HOOK, query="text"), "text"),
        (head(HOOK, query="sse"), "sse"),
    ],
)
def test_the_first_to_name_a_dialect_is_heard_query_header_route_accept(at, dialect):
    chosen = encoder(at)
    assert chosen.headers["X-Chat-Dialect"] == dialect
    assert (
        chosen.feed(Batch([TextDelta(" a.")]))
        == {
            "text": b"data: a.\n\n",
            "sse": b"data:  a\n\n",
            "both": b" data: a.\n\n:\ndata:  a\n\n",
            "json": b'data:{"token":" a."}\n\n',
        }[dialect]
    )


@pytest.mark.parametrize("at", [head(query="xml"), head(query=""), head(header="TEXT"), head(header="json, sse")])
def test_a_dialect_that_does_not_exist_is_refused_naming_those_that_do(at):
    with pytest.raises(BadRequest) as caught:
        encoder(at)
    assert caught.value.status == 400


def test_a_route_with_a_choice_that_does_not_exist_is_our_mistake():
    with pytest.raises(InternalError, match="'xml'"):
        encoder(head(route="xml"))


@pytest.mark.parametrize(
    ("at", "stream"),
    [
        (head(HOOK), True),
        (head(None), True),
        (head(AXIOS), True),
        (head(EVENTS), True),
        (head(f"application/json, {EVENTS}"), True),
        (head("application/json"), False),
        (head("application/json; charset=utf-8, text/plain"), False),
        (head("application/json", query="json"), True),
        (head("application/json", header="sse"), True),
    ],
)
def test_a_client_that_takes_json_documents_only_gets_one_unless_it_says_otherwise(at, stream):
    assert FRONTEND.decode(BODY, at).stream is stream
    assert FRONTEND.decode(b'{"stream":true,' + BODY[1:], at).stream
    assert not FRONTEND.decode(b'{"stream":false,' + BODY[1:], at).stream


def test_what_the_head_knows_goes_into_the_request():
    request = FRONTEND.decode(BODY, head())
    assert (request.id, request.path, request.contract) == ("req-1", "/chat", "chat")
    assert request.headers == {"accept": "*/*"}


def test_a_stream_has_the_chat_headers():
    assert encoder(head()).headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "Connection": "keep-alive",
        "X-Accel-Buffering": "no",
        "X-Chat-Dialect": "text",
    }


@pytest.mark.parametrize(("dialect", "early"), [("text", True), ("both", True), ("sse", False), ("json", False)])
def test_headers_go_out_before_the_answer_where_the_chat_hook_reads(dialect, early):
    at = head(query=dialect)
    assert encoder(at).early is early
    whole = ChatRequest(id="1", contract="chat", dialect="chat", messages=(), stream=False)
    assert not FRONTEND.encoder(whole, at).early


@pytest.mark.parametrize(
    ("accept", "errors", "abort"),
    [
        (HOOK, None, False),
        (HOOK, "frame+text", False),
        (HOOK, "frame+abort", True),
        (f"{EVENTS}, */*", "frame+abort", False),
    ],
)
def test_a_connection_is_never_cut_on_a_reader_that_would_ask_again(accept, errors, abort):
    chosen = encoder(head(accept, errors=errors, route="text"))
    assert chosen.abort_on_fault is abort
    wire = chosen.feed(Batch([Fault(UpstreamConnect("no answer"))]))
    assert wire.endswith(b"event: error\ndata:no answer\n\n")
    assert (b"[error: no answer]" in wire) is (errors == "frame+text")


def test_a_heartbeat_is_a_frame_of_its_own():
    assert encoder(head()).ping() == b": ping\n\n"


def test_an_unstreamed_answer_is_one_json_document():
    reply = encoder(head()).whole(Answer(text="Hi\n"))
    assert (reply.status, reply.body) == (200, b'{"text":"Hi\\n"}')
    assert reply.headers["Content-Type"] == "application/json"


def test_a_failure_is_a_status_with_a_json_body_and_the_headers_of_its_kind():
    for reply in (
        FRONTEND.failure(RateLimited("slow", retry_after=1.2), head()),
        encoder(head()).failure(RateLimited("slow", retry_after=1.2)),
    ):
        assert reply.status == 429
        assert reply.headers["Retry-After"] == "2"
        assert reply.headers["Content-Type"] == "application/json"
        assert json.loads(reply.body)["error"] == {
            "message": "slow",
            "type": "rate_limit_error",
            "code": "rate_limited",
            "retryable": True,
            "request_id": "req-1",
        }
    assert FRONTEND.failure(Unauthorized("no key"), head()).headers["WWW-Authenticate"] == "Bearer"
    assert "Retry-After" not in FRONTEND.failure(Draining("stopping"), head()).headers
    assert FRONTEND.failure(Draining("stopping", retry_after=-1), head()).headers["Retry-After"] == "0"
