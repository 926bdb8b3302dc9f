"""The OpenAI frontend: where it is served, and its replies outside a stream."""

import time

import msgspec
import pytest
from openai.types import Model
from openai.types.chat import ChatCompletion

from proxy.contracts.base import Head
from proxy.contracts.openai.frontend import FRONTEND
from proxy.errors import BadRequest, Draining, InternalError, MethodNotAllowed, Unauthorized, UpstreamFailed
from proxy.events import Batch, Finish, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.request import Answer, ToolCall

HEAD = Head(id="r1", method="POST", path="/v1/chat/completions", query={}, headers={"x-team": "a"})
BODY = b'{"model":"asked","messages":[{"role":"user","content":"hi"}],"stream":true}'


def test_it_is_served_with_and_without_the_version():
    served = {(e.method, e.path, e.action) for e in FRONTEND.endpoints}
    for base in ("/v1", ""):
        assert ("POST", f"{base}/chat/completions", "chat") in served
        assert ("GET", f"{base}/models", "models") in served
        assert ("GET", f"{base}/models/{{id}}", "model") in served


def test_a_request_keeps_where_it_came_to():
    request = FRONTEND.decode(BODY, HEAD)
    assert (request.id, request.contract, request.path) == ("r1", "openai", "/v1/chat/completions")
    assert request.headers == {"x-team": "a"}


def test_an_answer_bears_the_requests_id_and_says_which_model_answered():
    encoder = FRONTEND.encoder(FRONTEND.decode(BODY, HEAD), HEAD)
    stream = encoder.feed(Batch([Start("theirs", ""), TextDelta("a"), Finish()]))
    first = msgspec.json.decode(stream.partition(b"\n")[0].removeprefix(b"data: "))
    assert (first["id"], first["model"]) == ("chatcmpl-r1", "asked")
    assert abs(first["created"] - time.time()) < 60
    assert not encoder.early
    assert not encoder.abort_on_fault


def test_streams_tell_proxies_to_keep_their_hands_off():
    encoder = FRONTEND.encoder(FRONTEND.decode(BODY, HEAD), HEAD)
    assert encoder.headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }
    assert encoder.ping() == b": ping\n\n"


def test_a_whole_answer_is_a_completion():
    reply = FRONTEND.encoder(FRONTEND.decode(BODY, HEAD), HEAD).whole(Answer(text="hi", model="m"))
    assert reply.status == 200
    assert reply.headers == {"Content-Type": "application/json", "Cache-Control": "no-store"}
    assert ChatCompletion.model_validate_json(reply.body).choices[0].message.content == "hi"


@pytest.mark.parametrize(
    ("error", "status", "type_", "headers"),
    [
        (BadRequest("x", param="messages"), 400, "invalid_request_error", {}),
        (Unauthorized("x"), 401, "authentication_error", {"WWW-Authenticate": "Bearer"}),
        (MethodNotAllowed("x", headers={"Allow": "POST"}), 405, "invalid_request_error", {"Allow": "POST"}),
        (UpstreamFailed("x", status=429, retry_after=1.2), 429, "rate_limit_error", {"Retry-After": "2", "Retry-After-Ms": "1200"}),
        (Draining("x", retry_after=0), 503, "server_error", {"Retry-After": "0", "Retry-After-Ms": "0"}),
        (InternalError("x"), 500, "server_error", {}),
    ],
)  # fmt: skip
def test_failures_have_status_form_and_headers(error, status, type_, headers):
    for reply in (
        FRONTEND.failure(error, HEAD),
        FRONTEND.encoder(FRONTEND.decode(BODY, HEAD), HEAD).failure(error),
    ):
        assert reply.status == status
        body = msgspec.json.decode(reply.body)["error"]
        assert (body["message"], body["type"], body["param"], body["code"]) == ("x", type_, error.param, error.code)
        assert reply.headers == {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "X-Should-Retry": "true" if error.retryable else "false",
            **headers,
        }


def test_models_are_listed_and_found_by_ids_with_slashes():
    listed = msgspec.json.decode(FRONTEND.models(["m", "openai/gpt-4o-mini"], 5).body)
    assert listed["object"] == "list"
    assert [Model.model_validate(row).id for row in listed["data"]] == ["m", "openai/gpt-4o-mini"]
    found = FRONTEND.model("openai/gpt-4o-mini", ["openai/gpt-4o-mini"], 5)
    assert msgspec.json.decode(found.body) == listed["data"][1]


def test_a_model_that_is_not_offered_is_not_found():
    reply = FRONTEND.model("x" * 5000, ["m"], 5)
    error = msgspec.json.decode(reply.body)["error"]
    assert (reply.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert len(error["message"]) < 200


@pytest.mark.parametrize(("offer", "field"), [(b'"functions":[{"name":"f"}]', b"function_call"),
    (b'"tools":[{"type":"function","function":{"name":"f"}}]', b"tool_calls")])  # fmt: skip
def test_calls_come_in_the_form_they_were_offered_in(offer, field):
    request = FRONTEND.decode(BODY[:-1] + b"," + offer + b"}", HEAD)
    events = [Start("", "m"), ToolCallStart(0, "c", "f"), ToolCallDelta(0, "{}"), Finish("tool_calls")]
    stream = FRONTEND.encoder(request, HEAD).feed(Batch(events))
    whole = FRONTEND.encoder(request, HEAD).whole(
        Answer(tool_calls=(ToolCall("c", "f", "{}"),), finish_reason="tool_calls")
    )
    for told in (stream, whole.body):
        assert b'"%b":' % field in told
        assert b'"finish_reason":"%b"' % field in told
