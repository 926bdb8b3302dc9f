"""Declared contracts over HTTP: their endpoints, headers, statuses and ways to end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.contracts.base import Encoder, Endpoint, Head
from proxy.contracts.declared.frontend import DeclaredFrontend
from proxy.errors import BadRequest, Forbidden, InternalError, MethodNotAllowed, RateLimited, Unauthorized
from proxy.events import Batch, Start, TextDelta
from proxy.request import Answer
from tests.support.declared import declared_settings

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'


def frontend(declaration: str) -> DeclaredFrontend:
    return DeclaredFrontend("own", declared_settings(declaration))


def with_response(text: str, *more: str) -> DeclaredFrontend:
    return frontend("\n".join(["path: /own", f"response: {text}", *more]))


def head(**headers: str) -> Head:
    return Head("req-1", "POST", "/own", {}, headers)


def encoder(one: DeclaredFrontend, body: bytes = BODY, **headers: str) -> Encoder:
    at = head(**headers)
    return one.encoder(one.decode(body, at), at)


def test_it_is_served_where_it_says() -> None:
    one = frontend("path: [/own, /own/stream]\nresponse: {token: $text}")
    assert one.name == "own"
    assert one.endpoints == (Endpoint("POST", "/own"), Endpoint("POST", "/own/stream"))


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("{token: $text}", "text/event-stream; charset=utf-8"),
        ("{framing: ndjson, token: {t: $text}}", "application/x-ndjson"),
        ("{framing: raw, token: $text}", "text/plain; charset=utf-8"),
        ("{framing: raw, token: $text, content_type: text/markdown}", "text/markdown"),
    ],
)
def test_a_stream_has_the_framings_headers_and_the_contracts_own(text: str, content_type: str) -> None:
    one = encoder(with_response(text, 'headers: {X-Version: "2", cache-control: no-store}'))
    assert one.headers == {
        "Content-Type": content_type,
        "X-Accel-Buffering": "no",
        "X-Version": "2",
        "cache-control": "no-store",
    }
    plain = encoder(with_response(text))
    assert plain.headers["Cache-Control"] == "no-cache, no-transform"


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("{token: {t: $text}}", True),
        ("{token: {t: $text}, error: {e: $message}}", False),
        ("{token: {t: $text}, error: {e: $message}, cut_on_error: true}", True),
        ("{framing: raw, token: $text, error: $message}", True),
        ("{token: {t: $text}, done: {}}", True),
    ],
)
def test_without_a_word_for_it_a_broken_answer_is_a_broken_connection(text: str, cuts: bool) -> None:
    assert encoder(with_response(text)).abort_on_fault is cuts


def test_headers_may_go_out_before_the_answer_of_a_stream() -> None:
    early = with_response("{token: $text, early: true}")
    assert encoder(early).early
    assert not encoder(early, b'{"stream":false,' + BODY[1:]).early
    assert not encoder(with_response("{token: $text}")).early


@pytest.mark.parametrize(
    ("accept", "streams"),
    [("text/event-stream", True), ("*/*", False), ("application/json", False), ("text/event-stream;q=0", False)],
)
def test_accept_may_say_whether_to_stream(accept: str, streams: bool) -> None:
    one = with_response("{token: $text}", "request: {stream: $accept}")
    assert one.decode(BODY, head(accept=accept)).stream is streams
    lines = with_response("{framing: ndjson, token: {t: $text}}", "request: {stream: $accept}")
    assert lines.decode(BODY, head(accept="application/x-ndjson")).stream
    assert not lines.decode(BODY, head(accept=accept)).stream


def test_a_whole_answer_says_what_the_upstream_calls_its_model() -> None:
    one = with_response("{token: $text}", "whole: {t: $text, m: $model, c: $request.chat}")
    asked = encoder(one, b'{"model":"asked","chat":"c-1",' + BODY[1:])
    reply = asked.whole(Answer(text="hi", model="far-1"))
    assert (reply.status, json.loads(reply.body)) == (200, {"t": "hi", "m": "far-1", "c": "c-1"})
    assert reply.headers == {"Content-Type": "application/json", "Cache-Control": "no-store"}
    assert json.loads(asked.whole(Answer(text="hi")).body)["m"] == "asked"


def test_an_answer_says_its_request() -> None:
    one = with_response("{token: {t: $text, i: $id, c: $request.chat}}")
    written = encoder(one, b'{"chat":"c-1",' + BODY[1:]).feed(Batch([Start("far", "m"), TextDelta("a")]))
    assert written == b'data: {"t":"a","i":"req-1","c":"c-1"}\n\n'


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unauthorized("no key"), 401),
        (Forbidden("not yours"), 403),
        (MethodNotAllowed("POST", headers={"Allow": "POST"}), 405),
        (RateLimited("slow down", retry_after=1.2), 429),
        (InternalError("oh"), 500),
        (BadRequest("messages: missing", param="messages"), 400),
    ],
)
def test_a_failure_has_its_status_and_headers_in_the_contracts_form(error: Any, status: int) -> None:
    one = with_response("{token: {t: $text}, error: {e: $message, id: $id}}")
    for reply in (one.failure(error, head()), encoder(one).failure(error)):
        assert (reply.status, json.loads(reply.body)) == (status, {"e": error.message, "id": "req-1"})
        assert reply.headers["Content-Type"] == "application/json"
        assert error.headers.items() <= reply.headers.items()
    assert (
        with_response("{token: $text}").failure(RateLimited("x", retry_after=1.2), head()).headers["Retry-After"] == "2"
    )


def test_statuses_may_be_the_contracts_own_but_never_that_of_a_missing_key() -> None:
    one = with_response("{token: {t: $text}, error: {e: $message}}", 'errors: {status: {"*": 200}}')
    assert one.failure(RateLimited("x"), head()).status == 200
    refused = one.failure(Unauthorized("x"), head())
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
