"""The Anthropic frontend: where it is served, whose a list of models is, and its replies outside a stream."""

import msgspec
import pytest

from proxy.contracts.anthropic.frontend import FRONTEND
from proxy.contracts.base import Head, Offer
from proxy.contracts.openai.frontend import FRONTEND as OPENAI
from proxy.errors import (
    BadRequest,
    Draining,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    Unauthorized,
    UpstreamAuth,
    UpstreamFailed,
    UpstreamTimeout,
)
from proxy.events import Batch, Finish, Start, TextDelta
from proxy.request import Answer
from proxy.server.endpoints import EndpointTable, resolve

HEAD = Head(id="r1", method="POST", path="/v1/messages", query={"beta": "true"}, headers={"x-team": "a"})
BODY = b'{"model":"asked","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"stream":true}'


def encoder():
    return FRONTEND.encoder(FRONTEND.decode(BODY, HEAD), HEAD)


def test_a_request_keeps_where_it_came_to():
    request = FRONTEND.decode(BODY, HEAD)
    assert (request.id, request.contract, request.path) == ("r1", "anthropic", "/v1/messages")
    assert request.headers == {"x-team": "a"}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/a/b"])
def test_a_list_of_models_is_anthropics_for_who_names_a_version_of_its_api(path):
    table = EndpointTable([OPENAI, FRONTEND])
    served = table.find(path).served("GET")
    for headers, contract in (
        ({"anthropic-version": "2023-06-01"}, "anthropic"),
        ({"anthropic-version": "2099-01-01", "authorization": "Bearer k"}, "anthropic"),
        ({"x-api-key": "k"}, "openai"),
        ({}, "openai"),
    ):
        head = Head(id="r1", method="GET", path=path, query={}, headers=headers)
        assert resolve(served, head, b"").frontend.name == contract


def test_an_answer_bears_the_requests_id_and_says_which_model_answered():
    stream = encoder().feed(Batch([Start("theirs", ""), TextDelta("a"), Finish()]))
    message = msgspec.json.decode(stream.split(b"\n")[1].removeprefix(b"data: "))["message"]
    assert (message["id"], message["model"], message["usage"]["input_tokens"]) == ("msg_r1", "asked", 1)


def test_streams_tell_proxies_to_keep_their_hands_off():
    made = encoder()
    assert made.headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "Request-Id": "r1",
    }
    assert made.ping() == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert not made.early
    assert not made.abort_on_fault


def test_a_whole_answer_is_a_message():
    reply = encoder().whole(Answer(text="hi", model="m"))
    assert reply.status == 200
    assert reply.headers == {"Content-Type": "application/json", "Cache-Control": "no-store", "Request-Id": "r1"}
    assert msgspec.json.decode(reply.body)["content"] == [{"type": "text", "text": "hi"}]


@pytest.mark.parametrize(
    ("error", "status", "type_", "headers"),
    [
        (BadRequest("x"), 400, "invalid_request_error", {}),
        (Unauthorized("x"), 401, "authentication_error", {"WWW-Authenticate": "Bearer"}),
        (NotFound("x"), 404, "not_found_error", {}),
        (MethodNotAllowed("x", headers={"Allow": "POST"}), 405, "invalid_request_error", {"Allow": "POST"}),
        (RequestTimeout("x"), 408, "timeout_error", {}),
        (TooLarge("x"), 413, "request_too_large", {}),
        (UpstreamFailed("x", status=429, retry_after=1.2), 429, "rate_limit_error", {"Retry-After": "2", "Retry-After-Ms": "1200"}),
        (InternalError("x"), 500, "api_error", {}),
        (UpstreamAuth("x"), 502, "api_error", {}),
        (Draining("x", retry_after=0), 503, "overloaded_error", {"Retry-After": "0", "Retry-After-Ms": "0"}),
        (UpstreamTimeout("x"), 504, "timeout_error", {}),
        (UpstreamFailed("x", status=529), 529, "overloaded_error", {}),
    ],
)  # fmt: skip
def test_failures_have_status_form_and_headers(error, status, type_, headers):
    for reply in (FRONTEND.failure(error, HEAD), encoder().failure(error)):
        assert reply.status == status
        assert msgspec.json.decode(reply.body) == {
            "type": "error",
            "error": {"type": type_, "message": "x"},
            "request_id": "r1",
        }
        assert reply.headers == {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "Request-Id": "r1",
            "X-Should-Retry": "true" if error.retryable else "false",
            **headers,
        }


def test_models_are_listed_and_found_by_ids_with_slashes():
    listed = msgspec.json.decode(FRONTEND.models(["m", "openai/gpt-4o-mini"], 1_793_000_000).body)
    assert listed == {
        "data": [
            {"type": "model", "id": id_, "display_name": id_, "created_at": "2026-10-26T07:33:20Z"}
            for id_ in ("m", "openai/gpt-4o-mini")
        ],
        "has_more": False,
        "first_id": "m",
        "last_id": "openai/gpt-4o-mini",
    }
    found = FRONTEND.model("openai/gpt-4o-mini", ["openai/gpt-4o-mini"], 1_793_000_000)
    assert msgspec.json.decode(found.body) == listed["data"][1]
    assert msgspec.json.decode(FRONTEND.models([], 1).body)["first_id"] is None
    with pytest.raises(NotFound) as missing:
        FRONTEND.model("x" * 5000, ["m"], 5)
    assert len(missing.value.message) < 200


def test_tokens_are_counted_without_asking_anybody():
    (endpoint,) = [endpoint for endpoint in FRONTEND.endpoints if endpoint.path.endswith("count_tokens")]
    reply = endpoint.answer(b'{"messages":[{"role":"user","content":"Hello, world"}]}', HEAD, Offer([], 1))
    assert (reply.status, reply.body) == (200, b'{"input_tokens":3}')
    with pytest.raises(BadRequest):
        endpoint.answer(b"{}", HEAD, Offer([], 1))
