"""The AI SDK over HTTP: where it is served, who gets it, which headers, which failure."""

from __future__ import annotations

import json

import pytest

from proxy.contracts.ai_sdk import text_frontend as ai_text
from proxy.contracts.ai_sdk.frontend import FRONTEND
from proxy.contracts.base import Head, Offer
from proxy.contracts.chat import frontend as chat
from proxy.errors import BadRequest, Draining, Forbidden, RateLimited, Unauthorized, Unsupported
from proxy.events import Batch, Fault, Finish, Source, Start, TextDelta
from proxy.request import Answer
from proxy.server.endpoints import EndpointTable, resolve
from tests.support.ui_events import CUT

UI = (
    b'{"id":"c","messages":[{"id":"1","role":"user","parts":[{"type":"text","text":"hi"}]}],"trigger":"submit-message"}'
)
PLAIN = b'{"messages":[{"role":"user","content":"hi"}]}'
PROMPT = b'{"prompt":"hi"}'

TABLE = EndpointTable([FRONTEND, ai_text.FRONTEND, chat.FRONTEND])


def head(path="/api/chat", **query):
    return Head(id="req-1", method="POST", path=path, query=query, headers={"accept": "*/*"})


def chosen(path, body, **query):
    place = TABLE.find(path)
    return resolve(place.served("POST"), head(path, **query), body).frontend.name


@pytest.mark.parametrize(
    ("path", "body", "query", "name"),
    [
        ("/api/chat", UI, {}, "ai-sdk"),
        ("/api/chat", PLAIN, {}, "chat"),
        ("/api/chat", b"{", {}, "chat"),
        ("/api/chat", PROMPT, {}, "ai-sdk"),
        ("/api/chat", UI, {"contract": "ai-text"}, "ai-text"),
        ("/api/chat", PLAIN, {"contract": "ai-sdk"}, "ai-sdk"),
        ("/api/chat", UI, {"contract": "chat"}, "chat"),
        ("/api/completion", PROMPT, {}, "ai-sdk"),
        ("/api/completion", PROMPT, {"contract": "ai-text"}, "ai-text"),
        ("/ai-sdk/chat", UI, {}, "ai-sdk"),
        ("/ai-sdk/chat", PLAIN, {}, "ai-sdk"),
        ("/ai-sdk/chat", UI, {"contract": "ai-text"}, "ai-text"),
        ("/ai-text", UI, {}, "ai-text"),
    ],
)
def test_the_body_or_a_name_tells_whose_a_request_is(path, body, query, name):
    assert chosen(path, body, **query) == name


def encoder(body=UI, at=None):
    at = at or head()
    return FRONTEND.encoder(FRONTEND.decode(body, at), at)


def test_streams_bear_the_headers_that_other_tools_look_for():
    assert encoder().headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "X-Vercel-AI-UI-Message-Stream": "v1",
    }
    assert not encoder().early
    assert not encoder().abort_on_fault
    assert encoder().ping() == b": keep-alive\n\n"


def test_usage_comes_to_those_who_ask():
    end = Batch([Start("", "m"), TextDelta("a"), Finish()])
    assert b"messageMetadata" not in encoder().feed(end)
    asked = encoder(UI[:-1] + b',"stream_options":{"include_usage":true}}').feed(end)
    assert b'"messageMetadata":{"model":"m"}' in asked


def test_sources_of_two_answers_in_one_message_have_ids_of_their_own():
    said = Batch([Start("", ""), Source("https://a.test"), Finish()])
    again = Head(id="req-2", method="POST", path="/api/chat", query={}, headers={})
    assert b'"sourceId":"req-1-1"' in encoder().feed(said)
    assert b'"sourceId":"req-2-1"' in encoder(at=again).feed(said)


def test_an_unstreamed_answer_is_one_ui_message():
    reply = encoder().whole(Answer(text="hi"))
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert json.loads(reply.body)["parts"][1] == {"type": "text", "text": "hi", "state": "done"}


@pytest.mark.parametrize("which", [FRONTEND, ai_text.FRONTEND])
@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (BadRequest("messages: required, a list"), {}),
        (Unauthorized("No key."), {"WWW-Authenticate": "Bearer"}),
        (Forbidden("Not for this key."), {}),
        (RateLimited("Slow down.", retry_after=1.2), {"Retry-After": "2"}),
        (Draining("Stopping.", retry_after=-1), {"Retry-After": "0"}),
    ],
)
def test_a_failure_is_a_sentence_for_the_hooks_show_it_as_it_is(which, error, headers):
    for reply in (
        which.failure(error, head()),
        which.encoder(which.decode(UI, head()), head()).failure(error),
    ):
        assert (reply.status, reply.body) == (error.status, error.message.encode())
        assert reply.headers == {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store", **headers}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/chat/chat-1/stream", {}),
        ("/api/chat/chat-1/stream", {"contract": "ai-text"}),
        ("/ai-sdk/chat/a%2Fb/stream", {}),
        ("/ai-sdk/chat/chat-1/stream", {"contract": "ai-text"}),
        ("/ai-text/chat-1/stream", {}),
    ],
)
def test_there_is_nothing_to_resume(path, query):
    """Transports ask below the address they send to, and keep its query."""
    place = TABLE.find(path)
    found = resolve(place.served("GET"), head(path, **query), b"")
    assert found.frontend.name == query.get("contract", "ai-text" if path.startswith("/ai-text") else "ai-sdk")
    reply = found.endpoint.answer(b"", head(path, **query), Offer([], 0))
    assert (reply.status, reply.body) == (204, b"")


# text streams


def test_a_text_stream_is_text_and_breaks_where_the_answer_does():
    at = head(contract="ai-text")
    text = ai_text.FRONTEND.encoder(ai_text.FRONTEND.decode(PROMPT, at), at)
    assert text.headers == {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }
    assert not text.early
    assert text.abort_on_fault, "the only way to tell an error"
    assert text.ping() == b"", "whatever is sent is text"
    assert text.feed(Batch([Start("", ""), TextDelta("a\n"), Finish()])) == b"a\n"
    assert text.feed(Batch([Fault(CUT)])) == b""
    reply = text.whole(Answer(text="a", refusal="b"))
    assert (reply.status, reply.body, reply.headers) == (200, b"ab", text.headers)


def test_a_text_stream_refuses_tools_whose_calls_it_could_not_tell():
    body = json.dumps({**json.loads(PROMPT), "tools": {"f": {"parameters": {}}}}).encode()
    with pytest.raises(Unsupported):
        ai_text.FRONTEND.decode(body, head(contract="ai-text"))


def test_each_contract_goes_by_its_own_name_in_the_rules():
    assert FRONTEND.decode(UI, head()).contract == "ai-sdk"
    assert ai_text.FRONTEND.decode(UI, head()).contract == "ai-text"
