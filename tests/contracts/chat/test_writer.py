"""The chat contract without HTTP: what a request means, and how an answer ends."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.chat.request import decode_request
from proxy.contracts.chat.writer import DIALECTS, ChatWriter
from proxy.contracts.replies import encode_error
from proxy.errors import BadRequest, ProxyError, RateLimited, Unsupported, UntoldAnswer, UpstreamTruncated
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, Image, Message, Text
from tests.support.answers import HOSTILE_PIECES
from tests.support.readers import ConformantReader, event_text, json_text, read, seed_text

DONE = b"event: done\ndata:[DONE]\n\n"
ERROR = UpstreamTruncated("openai: the answer\r\nbroke off")


def decode(body, **options):
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return decode_request(data, id="req-1", path="/chat", headers={"accept": "*/*"}, **options)


def write(writer, *events):
    return writer.feed(Batch(list(events)))


# Requests


def test_the_chat_request_is_read():
    request = decode({"messages": [{"role": "user", "content": "hi"}]})
    assert request.messages == (Message("user", (Text("hi"),)),)
    assert (request.id, request.contract, request.dialect, request.path) == ("req-1", "chat", "chat", "/chat")
    assert request.stream
    assert request.model is None
    assert request.params == {}
    assert request.headers == {"accept": "*/*"}


def test_the_fields_of_newer_clients_are_read_and_unknown_ones_passed_over():
    request = decode(
        {
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]}],
            "model": "code-1",
            "temperature": 0.2,
            "stop": ["\n"],
            "stream": False,
            "user": "ann",
            "metadata": {"team": "x"},
            "tools": [],
            "chatId": 7,
            "options": {"nested": [1]},
        }
    )
    assert request.messages[0].parts == (Image("https://x/y.png"),)
    assert request.model == "code-1"
    assert request.params == {"temperature": 0.2, "stop": ["\n"]}
    assert not request.stream
    assert (request.user, request.metadata) == ("ann", {"team": "x"})
    assert request.tools == ()


def test_tools_are_refused_because_no_call_could_be_reported():
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(Unsupported) as caught:
        decode({"messages": [{"role": "user", "content": "hi"}], "tools": tools})
    assert (caught.value.status, caught.value.param) == (400, "tools")


@pytest.mark.parametrize(("body", "stream"), [({}, False), ({"stream": None}, False), ({"stream": True}, True)])
def test_what_the_body_says_about_streaming_counts_more_than_the_default(body, stream):
    assert decode({"messages": [{"role": "user", "content": "hi"}], **body}, stream=False).stream is stream


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"[" * 100_000, 400, None),
        ({}, 422, "messages"),
        ({"messages": None}, 422, "messages"),
        ({"messages": "hi"}, 422, "messages"),
        ({"messages": []}, 422, "messages"),
        ({"messages": ["hi"]}, 422, "messages[0]"),
        ({"messages": [{"role": "user", "content": "hi"}], "stream": "no"}, 422, "stream"),
        ({"messages": [{"role": "user", "content": "hi"}], "model": 4}, 422, "model"),
        ({"messages": [{"role": "user", "content": "hi"}], "metadata": []}, 422, "metadata"),
    ],
)
def test_h06_a_body_that_is_no_chat_request_is_refused_with_its_place(body, status, param):
    with pytest.raises(BadRequest) as caught:
        decode(body)
    assert (caught.value.status, caught.value.param) == (status, param)


# Ends


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_ends_in_done_once_and_nothing_follows(dialect):
    writer = ChatWriter(dialect)
    wire = write(writer, Start("1", "m"), TextDelta("Hi"), Finish())
    assert wire.endswith(DONE)
    assert write(writer, TextDelta("late"), Finish(), Fault(ERROR)) == b""
    assert [event for event, _ in read(ConformantReader, wire)].count("done") == 1


def test_an_empty_answer_is_done():
    for dialect in DIALECTS:
        assert write(ChatWriter(dialect), Start("1", "m"), Finish("length")) == DONE


@pytest.mark.parametrize("dialect", ["text", "sse", "both"])
def test_r2_an_error_is_one_line_and_the_end(dialect):
    writer = ChatWriter(dialect, request_id="req-1")
    wire = write(writer, TextDelta("Hi"), Fault(ERROR))
    assert wire.endswith(b"event: error\ndata:openai: the answer broke off\n\n")
    assert b"done" not in wire
    assert write(writer, TextDelta("late"), Finish()) == b""
    assert read(ConformantReader, wire)[-1] == ("error", "openai: the answer broke off")


def test_r2_the_json_dialect_tells_programs_about_the_error():
    wire = write(ChatWriter("json", request_id="req-1"), TextDelta("Hi"), Fault(ERROR))
    (_, token), (event, data) = read(ConformantReader, wire)
    assert json.loads(token) == {"token": "Hi"}
    assert event == "error"
    assert json.loads(data) == {
        "error": {
            "message": "openai: the answer broke off",
            "type": "upstream_error",
            "code": "upstream_truncated",
            "retryable": True,
            "request_id": "req-1",
        }
    }


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_that_was_held_back_comes_before_the_error(dialect):
    wire = write(ChatWriter(dialect), TextDelta("Hello"), Fault(ERROR))
    reader = {"text": seed_text, "json": json_text}.get(dialect, event_text)
    assert reader(wire) == "Hello"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_can_be_shown_as_text_to_a_hook_that_shows_no_errors(dialect):
    wire = write(ChatWriter(dialect, shows_errors=True), TextDelta("Hello "), Fault(ERROR))
    reader = {"text": seed_text, "json": json_text}.get(dialect, event_text)
    assert reader(wire) == "Hello \n[error: openai: the answer broke off]"
    assert read(ConformantReader, wire)[-1][0] == "error"


@pytest.mark.parametrize(
    "message", ["x\n\nevent: done\ndata: y", "x\rdata: y\r\r", "\r\n", "", " padded ", "x\r\n\r\ndata:z", "\ud83d"]
)
@pytest.mark.parametrize("errors", ["frame", "frame+text"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_h01_an_error_message_cannot_make_a_frame(dialect, errors, message):
    events = read(
        ConformantReader, write(ChatWriter(dialect, shows_errors=errors == "frame+text"), Fault(ProxyError(message)))
    )
    assert [event for event, _ in events].count("error") == 1
    assert {event for event, _ in events[:-1]} <= {"message"}
    assert events[-1][1].strip()


# What is no text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_h03_only_text_is_sent(dialect):
    writer = ChatWriter(dialect)
    quiet = [
        Start("1", "m"),
        ReasoningDelta("hm"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, "{}"),
        TextDelta(""),
    ]
    assert write(writer, *quiet) == b""
    assert writer.feed(Batch([], dialect="openai-chat", payloads=[b"data: {}\n\n"])) == b""
    assert write(writer, Finish("tool_calls")) == DONE


NOTICE = Notice("ignored_setting", "top_k was left out:\nthis target does not take it", "top_k")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_notice_is_no_text_to_any_reader(dialect):
    told = write(ChatWriter(dialect), Start("1", "m"), NOTICE, TextDelta("Hi"), Finish())
    without = write(ChatWriter(dialect), Start("1", "m"), TextDelta("Hi"), Finish())
    frame = told.removesuffix(without)
    assert frame + without == told
    assert seed_text(frame) == ""
    match dialect:
        case "json":
            data = b'{"notice":{"code":"ignored_setting","message":"top_k was left out:\\nthis target does not take it","param":"top_k"}}'
            assert frame == b"event: notice\ndata:" + data + b"\n\n"
        case "sse":
            assert frame == b"event: notice\ndata:top_k was left out: this target does not take it\n\n"
        case _:
            assert frame == b": notice: top_k was left out: this target does not take it\n\n"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_of_nothing_but_images_is_no_empty_success(dialect):
    writer = ChatWriter(dialect)
    assert write(writer, Start("1", "m"), ReasoningDelta("hm"), Media("image/png", "data:,")) == b""
    with pytest.raises(UntoldAnswer):
        write(writer, Finish())
    assert write(writer, Fault(UntoldAnswer())).startswith(b"event: error\ndata:")
    with pytest.raises(UntoldAnswer):
        ChatWriter("text").whole(Answer(media=(("image/png", "data:,"),)))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("image_first", [True, False])
def test_an_image_beside_text_is_left_out_and_said_so_at_the_end(dialect, image_first):
    content = [Media("image/png", "data:,"), TextDelta("A fox.")]
    told = write(ChatWriter(dialect), Start("1", "m"), *content[:: 1 if image_first else -1], Finish())
    before, _, end = told.partition(b"notice")
    assert b"A fox." in before or dialect in ("sse", "both")
    assert b"image" in end
    assert end.endswith(DONE)


def test_a_refusal_is_text_to_those_who_know_no_refusals():
    assert write(ChatWriter("text"), RefusalDelta("I will not.")) == b"data:I will not.\n\n"
    assert ChatWriter("text").whole(Answer(refusal="I will not.")).body == b'{"text":"I will not."}'


# Batches


@given(
    st.lists(st.sampled_from(HOSTILE_PIECES) | st.text(min_size=1)),
    st.lists(st.integers(1, 5)),
    st.sampled_from([Finish(), Fault(ERROR)]),
    st.sampled_from(DIALECTS),
)
def test_however_tokens_are_grouped_the_bytes_are_the_same(tokens, sizes, end, dialect):
    events = [*map(TextDelta, tokens), end]
    one_by_one, grouped = ChatWriter(dialect), ChatWriter(dialect)
    expected = b"".join(write(one_by_one, event) for event in events)
    groups, start = [], 0
    for size in sizes:
        groups.append(events[start : start + size])
        start += size
    groups.append(events[start:])
    assert b"".join(write(grouped, *group) for group in groups) == expected


# Whole


def test_a_whole_answer_is_its_text():
    assert (
        ChatWriter("text").whole(Answer(text="a\r\nb\u2028 ", reasoning="hm")).body
        == '{"text":"a\\r\\nb\u2028 "}'.encode()
    )
    assert ChatWriter("text").whole(Answer(text="\ud83d")).body == '{"text":"\ufffd"}'.encode()


def test_an_error_body_is_for_programs_and_people():
    assert json.loads(encode_error(RateLimited("slow down"), "req-2")) == {
        "error": {
            "message": "slow down",
            "type": "rate_limit_error",
            "code": "rate_limited",
            "retryable": True,
            "request_id": "req-2",
        }
    }


@pytest.mark.parametrize("dialect", ["text", "both"])
@pytest.mark.parametrize("field", ["event: error", "id: 7", "retry: 1"])
def test_a_field_behind_a_byte_order_mark_is_none_either(dialect: Any, field: str) -> None:
    """fetch-event-source decodes each line by itself, and so loses a U+FEFF at the beginning of any."""
    writer = ChatWriter(dialect)
    text = f"\r\n\n\ufeff{field}\nmore"
    wire = writer.feed(Batch([TextDelta(text)])) + writer.feed(Batch([Finish("stop")]))
    ours = {b"event: done"}
    lines = {line.removeprefix(b"\xef\xbb\xbf") for line in wire.splitlines()} - ours
    assert not [line for line in lines if line.startswith(field[:4].encode())]
    hook = b"".join(frame.partition(b"data:")[2] for frame in wire.split(b"\n\n") if frame.lstrip(b" ")[:5] == b"data:")
    assert "\ufeff".encode() in hook, "and the hook still reads all of it"
