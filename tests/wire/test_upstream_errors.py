"""What an upstream's failure is taken for, and how ours are said."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import BadRequest, ModelRefused, UpstreamAuth, UpstreamFailed, UpstreamRefused
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Detail, error_body, may_hold_error, parse_error, read_error, upstream_error
from tests.support.said import says


@pytest.mark.parametrize(
    ("status", "kind", "shown", "fallback"),
    [
        (400, UpstreamRefused, 400, False),
        (404, UpstreamRefused, 404, False),
        (413, UpstreamRefused, 413, False),
        (422, UpstreamRefused, 422, False),
        (401, UpstreamAuth, 502, True),
        (402, UpstreamAuth, 502, True),
        (403, UpstreamAuth, 502, True),
        (405, UpstreamFailed, 502, True),
        (408, UpstreamFailed, 502, True),
        (429, UpstreamFailed, 429, True),
        (500, UpstreamFailed, 500, True),
        (502, UpstreamFailed, 502, True),
        (503, UpstreamFailed, 503, True),
        (529, UpstreamFailed, 529, True),
    ],
)
def test_A05_A06_a_status_says_whether_another_target_may_help(status, kind, shown, fallback):
    error = upstream_error(Detail("told so", code="c"), clean=one_line_of, status=status, retry_after=7.0)
    assert (type(error), error.status, error.fallback) == (kind, shown, fallback)
    if kind is UpstreamFailed:
        assert (error.message, error.code, error.retry_after) == ("told so", "c", 7.0)


def test_only_the_log_is_told_why_our_key_is_refused():
    said = Detail("Your API key sk-abc expired on 2026-01-01")
    error = upstream_error(said, clean=lambda text: text.replace("sk-abc", "[key]"), status=401, who="backend v")
    assert error.message == "backend v does not accept the proxy's credentials (it answered 401)"
    assert error.detail == f"{error.message}: Your API key [key] expired on 2026-01-01"


def test_the_status_of_the_answer_outranks_what_its_body_says():
    assert upstream_error(Detail("m", code="503", status=503), clean=one_line_of, status=400).status == 400


def test_a_failure_without_words_says_who_and_how():
    for status in (503, 400):
        message = upstream_error(Detail(), clean=one_line_of, status=status, who="backend x").message
        assert says(message, f"backend x {status}")


def test_I01_the_text_of_a_refused_key_is_not_repeated():
    error = upstream_error(Detail("Incorrect API key: sk-abc"), clean=str, status=401)
    assert "sk-abc" not in error.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"5", b'{"message":{"role":"x"}}', b"[" * 100_000])
def test_what_holds_no_error_gives_none(body):
    assert parse_error(body) is None


def test_names_that_are_none_are_dropped():
    detail = parse_error(b'{"error":{"message":5,"code":"a\\nb","type":"None","param":[1]}}')
    assert detail == Detail()


def test_a_message_is_one_bounded_line_without_control_characters():
    assert one_line_of("a\r\n\tb\x1b[0m\u202ec  d") == "a b [0m c d"
    assert one_line_of("x" * 600, 500) == "x" * 499 + "…"
    assert len(one_line_of(" " * 10**6 + "x")) == 0


def test_our_errors_have_openais_form():
    assert msgspec.json.decode(error_body(BadRequest("no", param="messages"))) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "messages", "code": "invalid_request"}
    }


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}),
        (404, {"error": {"message": "model: claude-9", "type": "not_found_error"}}),
        (404, {"error": 'model "x" not found, try pulling it first'}),
        (404, [{"error": {"code": 404, "message": "models/x is not found for API version v1", "status": "NOT_FOUND"}}]),
        (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404}),
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens.", "code": "context_length_exceeded"}}),
        (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum", "type": "invalid_request_error"}}),
        (400, {"error": {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}),
        (400, {"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed"}}),
        (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens", "code": 400}),
        (422, {"detail": "Input is too long for requested model."}),
    ],
)  # fmt: skip
def test_N4_a_model_that_is_refused_is_reported_from_the_rest_of_the_request(status, body):
    detail = parse_error(msgspec.json.encode(body))
    assert detail is not None
    error = upstream_error(detail, clean=one_line_of, status=status)
    assert (type(error), error.status) == (ModelRefused, status)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "`temperature` must be at most 2 for this model", "param": "temperature"}}),
        (404, {"error": {"message": "No such file: file-1", "code": "not_found"}}),
        (422, {"detail": "messages: field required"}),
        (413, {"error": {"message": "request exceeds the maximum size", "type": "request_too_large"}}),
    ],
)
def test_N4_another_mistake_in_a_request_is_not_the_models(status, body):
    detail = parse_error(msgspec.json.encode(body))
    assert detail is not None
    assert type(upstream_error(detail, clean=one_line_of, status=status)) is UpstreamRefused


@pytest.mark.parametrize(
    "body",
    [
        {"code": 0, "msg": "ok"},
        {"code": 200, "msg": "success", "data": None},
        {"code": "0", "message": "ok"},
        {"success": True, "message": "queued", "errors": []},
    ],
)
def test_U6_what_says_that_it_is_a_success_is_no_error(body):
    assert parse_error(msgspec.json.encode(body)) is None


@pytest.mark.parametrize("body", [{"code": 1302, "msg": "busy"}, {"code": "", "message": "busy"}, {"message": "busy"}])
def test_U8_what_does_not_say_so_is_one(body):
    detail = parse_error(msgspec.json.encode(body))
    assert detail is not None
    assert detail.message == "busy"


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"error":{"message":"slow down"}}',
        b'data: {"error":{"message":"slow down","type":"x"}}\n\n',
        b'id:1\r\nevent:error\r\n:HTTP_STATUS/429\r\ndata:{"code":"Throttling","message":"slow down","request_id":"r"}\r\n\r\n',
    ],
)
def test_U8_an_error_keeps_its_words_in_an_event_and_behind_a_byte_order_mark(body):
    assert parse_error(body).message == "slow down"


@pytest.mark.parametrize(
    ("delay", "seconds"), [("7s", 7.0), ("0.5s", 0.5), ("7", None), ("soon", None), ("nans", None), (7, None)]
)
def test_U8_gemini_says_in_the_body_when_to_ask_again(delay, seconds):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body = [{"error": {"code": 429, "message": "quota", "details": [5, {"@type": "x"}, info]}}]
    error = upstream_error(parse_error(msgspec.json.encode(body)), clean=str)
    assert (error.status, error.retry_after) == (429, seconds)


_FIELDS = st.sampled_from([
    "error", "base_resp", "choices", "type", "success", "code", "object", "status", "message", "Message", "error_msg", "msg",
    "fault", "header", "errors", "detail", "x_groq", "usage", "id", "model", "status_code", "status_msg",
])  # fmt: skip
_LEAVES = st.sampled_from([None, True, 0, 1000, "", "error", "no", "ok", [], {}])


@settings(max_examples=400)
@given(
    st.recursive(
        _LEAVES,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=1), st.dictionaries(_FIELDS, inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_bytes_without_the_words_of_errors_hold_none(value):
    body = msgspec.json.encode(value)
    assert may_hold_error(body) or read_error(value) is None
    if read_error(value) is not None:
        assert parse_error(body) == read_error(value)


def test_the_usage_of_an_answer_is_not_searched_for_an_error():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 0}}
    assert not may_hold_error(msgspec.json.encode({"id": "c-1", "choices": [], "usage": usage}))
    assert may_hold_error(rb'{"\u0065rror": "no"}')
