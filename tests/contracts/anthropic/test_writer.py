"""Writing Anthropic answers: golden bytes, blocks that never overlap, and the way there and back."""

import itertools
from pathlib import Path

import msgspec
import pydantic
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.anthropic import blocks as anthropic_blocks
from proxy.contracts.anthropic.errors import error_body
from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.stream import StreamDecoder, decode_whole
from proxy.contracts.anthropic.writer import PING, AnthropicWriter, whole_body
from proxy.errors import BrokenToolCall, InternalError, Limit, UpstreamFailed, UpstreamTruncated
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, ToolCall, Usage
from proxy.wire.sse import SSEDecoder

GOLDEN = Path(__file__).parents[1] / "golden"
SDK_EVENT = pydantic.TypeAdapter(RawMessageStreamEvent)
CUT = UpstreamTruncated("the answer was cut off")

TRANSCRIPTS = {
    "anthropic-text": [
        Start("up-1", "m"),
        TextDelta("Hello"),
        TextDelta(" wörld 👩‍💻"),
        TextDelta("\n\n- data: x"),
        Finish("length", Usage(3, 3, cached_tokens=2, reasoning_tokens=1)),
    ],
    "anthropic-tools": [
        Start("", "m"),
        ReasoningDelta("Two "),
        ReasoningDelta("cities."),
        ReasoningSignature("c2VhbA=="),
        TextDelta("Looking."),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallStart(1, "call_b", "weather"),
        ToolCallDelta(1, '{"city":'),
        ToolCallDelta(0, '"Oslo"}'),
        ToolCallDelta(1, '"Rome"}'),
        ToolCallStart(2, "call_c", "now"),
        Finish("tool_calls"),
    ],
    "anthropic-refused-midway": [
        Start("", "m"),
        TextDelta("Half"),
        Source("https://a.example"),
        Media("image/png", "https://a.example/i"),
        Notice("x", "y"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, '{"a'),
        Fault(CUT),
    ],
}


def writer(*, model="asked-for"):
    return AnthropicWriter(id="msg_7", request_id="r7", model=model, input_tokens=lambda: 9)


def frames(stream):
    """The events of a stream; each has its name, and its blocks are in order."""
    found = [(name.decode(), msgspec.json.decode(data)) for name, data in SSEDecoder().feed(stream)]
    assert all(name == value["type"] for name, value in found)
    opened, index = False, -1
    for name, value in found:
        match name:
            case "content_block_start":
                assert not opened, "two blocks at once"
                assert value["index"] == index + 1
                opened, index = True, value["index"]
            case "content_block_delta" | "content_block_stop":
                assert opened, f"{name} outside a block"
                assert value["index"] == index
                opened = name == "content_block_delta"
            case "message_delta":
                assert not opened
    return found


def blocks(stream):
    """What the blocks of a stream add up to, as an official SDK adds them up."""
    content = []
    for name, value in frames(stream):
        if name == "content_block_start":
            content.append(dict(value["content_block"], json=""))
        elif name == "content_block_delta":
            delta, block = value["delta"], content[-1]
            match delta["type"]:
                case "text_delta":
                    block["text"] += delta["text"]
                case "thinking_delta":
                    block["thinking"] += delta["thinking"]
                case "signature_delta":
                    block["signature"] = delta["signature"]
                case "input_json_delta":
                    block["json"] += delta["partial_json"]
    return content


def kinds(stream):
    return [(block["type"], block.get("text") or block.get("thinking") or block["json"]) for block in blocks(stream)]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_events_are_written_as_the_transcript_says(name):
    expected = (GOLDEN / f"{name}.sse").read_bytes()
    events = TRANSCRIPTS[name]
    assert writer().feed(Batch(events)) == expected
    one_by_one = writer()
    assert b"".join(one_by_one.feed(Batch([event])) for event in events) == expected
    frames(expected)


def test_a_heartbeat_is_an_event_of_its_own():
    assert PING == b'event: ping\ndata: {"type":"ping"}\n\n'


def test_R2_a_stream_that_broke_off_ends_in_an_error_and_closes_nothing():
    stream = writer().feed(Batch([Start("", "m"), ToolCallStart(0, "c", "f"), ToolCallDelta(0, '{"a'), Fault(CUT)]))
    found = frames(stream)
    assert [name for name, _ in found][-2:] == ["content_block_delta", "error"]
    assert found[-1][1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "the answer was cut off"},
        "request_id": "r7",
    }


@pytest.mark.parametrize(
    "text",
    ["\n\nevent: message_stop\ndata: {}", "\r", "data: [DONE]", " ", "\u2028\u2029\x85\x1c", "\x00", '"\\', "\ufeff"],
)
def test_H01_H02_no_text_can_make_a_frame_and_all_of_it_arrives(text):
    for event in (TextDelta(text), ReasoningDelta(text), RefusalDelta(text)):
        stream = writer().feed(Batch([Start("", "m"), event, Finish()]))
        assert len(frames(stream)) == 6
        assert kinds(stream)[0][1] == text
        assert b"\r" not in stream


def test_H03_names_and_ids_of_the_upstream_cannot_leave_their_string():
    evil = 'x"}}\n\nevent: error\ndata: "'
    stream = writer().feed(Batch([Start(evil, evil), ToolCallStart(0, evil, evil), ReasoningSignature(evil), Finish()]))
    found = frames(stream)
    assert found[0][1]["message"]["model"] == evil
    assert (found[1][1]["content_block"]["id"], found[1][1]["content_block"]["name"]) == (evil, evil)


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    stream = writer().feed(
        Batch([Start("", "m"), TextDelta("a\ud83d"), ToolCallStart(0, "\ud83d", "\ud83d"), Finish()])
    )
    assert kinds(stream)[0] == ("text", "a\ufffd")


# stop reasons and usage


@pytest.mark.parametrize(
    ("events", "finish", "told"),
    [
        ([TextDelta("a")], "stop", "end_turn"),
        ([TextDelta("a")], "length", "max_tokens"),
        ([TextDelta("a")], "content_filter", "refusal"),
        ([RefusalDelta("no")], "stop", "refusal"),
        ([ToolCallStart(0, "c", "f")], "tool_calls", "tool_use"),
        ([ToolCallStart(0, "c", "f")], "length", "max_tokens"),
        ([], "stop", "end_turn"),
    ],
)
def test_the_stop_reason_says_what_clients_act_on(events, finish, told):
    found = dict(frames(writer().feed(Batch([Start("", "m"), *events, Finish(finish)]))))
    assert found["message_delta"]["delta"] == {"stop_reason": told, "stop_sequence": None}


def test_usage_is_estimated_first_and_counted_last():
    found = dict(frames(writer().feed(Batch([Start("", "m"), TextDelta("a"), Finish("stop", Usage(110, 7, 100, 3))]))))
    assert found["message_start"]["message"]["usage"] == {"input_tokens": 9, "output_tokens": 0}
    assert found["message_delta"]["usage"] == {
        "input_tokens": 10,
        "cache_read_input_tokens": 100,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    unknown = dict(frames(writer().feed(Batch([Start("", "m"), TextDelta("a"), TextDelta("b"), Finish()]))))
    assert unknown["message_delta"]["usage"] == {"output_tokens": 2}


def test_the_model_is_the_upstreams_or_else_the_one_that_was_asked_for():
    assert frames(writer().feed(Batch([Start("", "theirs")])))[0][1]["message"]["model"] == "theirs"
    assert frames(writer().feed(Batch([Start("", "")])))[0][1]["message"]["model"] == "asked-for"


# blocks


def test_signed_reasoning_is_a_block_of_its_own():
    events = [
        Start("", "m"),
        ReasoningDelta("a"),
        ReasoningSignature("s1"),
        ReasoningDelta("b"),
        TextDelta("t"),
        ReasoningSignature("s2"),  # thinking that is not shown: nothing but the seal
        Finish(),
    ]
    assert [
        (block["type"], block.get("thinking", block.get("text")), block.get("signature"))
        for block in blocks(writer().feed(Batch(events)))
    ] == [("thinking", "a", "s1"), ("thinking", "b", ""), ("text", "t", None), ("thinking", "", "s2")]


def test_the_first_call_is_written_as_it_comes():
    out = writer()
    out.feed(Batch([Start("", "m"), TextDelta("Look.")]))
    assert b"tool_use" in out.feed(Batch([ToolCallStart(0, "c", "f")]))
    assert b"partial_json" in out.feed(Batch([ToolCallDelta(0, '{"a":')]))
    assert b"partial_json" in out.feed(Batch([ToolCallDelta(0, "1}")]))


@pytest.mark.parametrize("more", [[], [ToolCallStart(1, "c1", "g"), ToolCallDelta(1, '{"b":1}')], [TextDelta("so")]])
def test_C3_no_call_of_an_answer_that_fails_has_an_end(more):
    call = [ToolCallStart(0, "c0", "f"), ToolCallDelta(0, '{"a":1}')]
    stream = writer().feed(Batch([Start("", "m"), *call, *more, Fault(CUT)]))
    assert [name for name, _ in frames(stream)] == [
        *("message_start", "content_block_start", "content_block_delta", "error"),
    ]
    complete = writer().feed(Batch([Start("", "m"), *call, *more, Finish("tool_calls")]))
    assert kinds(complete)[0] == ("tool_use", '{"a":1}')
    assert len(kinds(complete)) == 1 + bool(more)


def test_a_client_hears_something_while_pieces_wait():
    out = writer()
    out.feed(Batch([Start("", "m"), ToolCallStart(0, "c0", "f"), ToolCallStart(1, "c1", "g")]))
    written = [out.feed(Batch([ToolCallDelta(1, "x")])) for _ in range(200)]
    assert {*written} == {b"", PING}
    assert written.count(PING) == 3


def test_what_waits_at_the_end_is_written_in_the_order_it_began():
    events = [
        Start("", "m"),
        ToolCallStart(0, "c0", "f"),
        ToolCallStart(1, "c1", "g"),
        ToolCallStart(2, "c2", "h"),
        TextDelta("t"),
        ReasoningDelta("r"),
        ReasoningSignature("s"),
        ReasoningDelta("q"),
        ToolCallDelta(2, "{}"),
        ToolCallDelta(1, '{"b":1}'),
        Finish("tool_calls"),
    ]
    assert kinds(writer().feed(Batch(events))) == [
        ("tool_use", ""),
        ("tool_use", '{"b":1}'),
        ("tool_use", "{}"),
        ("text", "t"),
        ("thinking", "r"),
        ("thinking", "q"),
    ]


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(anthropic_blocks, "WAITING_BYTES", 1000)
    out = writer()
    out.feed(Batch([Start("", "m"), ToolCallStart(0, "c0", "f"), ToolCallStart(1, "c1", "g")]))
    with pytest.raises(Limit) as limit:
        for _ in range(1000):
            out.feed(Batch([ToolCallDelta(1, "x")]))
    assert [name for name, _ in frames(out.feed(Batch([Fault(limit.value)])))] == ["error"]


# there and back

TEXTS = st.text(min_size=1)
OBJECTS = st.dictionaries(TEXTS, st.integers() | TEXTS | st.lists(TEXTS, max_size=2), max_size=3)


@st.composite
def cut_objects(draw):
    """A call's arguments in pieces."""
    text = msgspec.json.encode(draw(OBJECTS)).decode()
    cuts = draw(st.lists(st.integers(1, max(1, len(text) - 1)), max_size=4))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(text)])]
    return [piece for piece in pieces if piece]


THOUGHTS = st.lists(st.tuples(st.lists(TEXTS, min_size=1, max_size=3), st.none() | TEXTS), max_size=3)
CALLS = st.lists(st.tuples(TEXTS, TEXTS, cut_objects()), max_size=3, unique_by=lambda call: call[0])
USAGE = st.none() | st.builds(Usage, st.integers(1000, 10**9), st.integers(1, 10**9), st.integers(0, 1000), st.just(0))
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])


@given(THOUGHTS, st.lists(TEXTS, max_size=6), CALLS, REASONS, USAGE, st.integers(1, 60))
def test_what_is_written_is_read_as_the_same_events(thoughts, texts, calls, reason, usage, size):
    events = [Start("msg_7", "m")]
    for pieces, seal in thoughts:
        events += map(ReasoningDelta, pieces)
        events += [ReasoningSignature(seal)] if seal else []
    events += map(TextDelta, texts)
    expected = [*events]
    for index, (id_, name, pieces) in enumerate(calls):
        events.append(ToolCallStart(index, id_, name))
        events += [ToolCallDelta(index, piece) for piece in pieces]
        told = pieces if index == 0 else ["".join(pieces)]  # all calls but the first wait for the end
        expected += [ToolCallStart(index, id_, name), *[ToolCallDelta(index, piece) for piece in told]]
    end = Finish("tool_calls" if calls and reason == "stop" else reason, usage)
    events.append(end)
    expected.append(end)
    stream = writer().feed(Batch(events))
    frames(stream)
    decoder = StreamDecoder(1 << 20)
    read = [event for at in range(0, len(stream), size) for event in decoder.feed(stream[at : at + size]).events]
    if usage is None:  # the contract has no way to say nothing
        assert read[-1].usage is not None
        read[-1] = msgspec.structs.replace(read[-1], usage=None)
    assert read == expected


@given(CALLS, st.lists(TEXTS, max_size=3), st.randoms(use_true_random=False))
def test_however_calls_and_texts_are_mixed_each_arrives_whole(calls, texts, dice):
    queues = [
        [ToolCallStart(i, id_, name), *(ToolCallDelta(i, p) for p in ps)] for i, (id_, name, ps) in enumerate(calls)
    ]
    queues += [[TextDelta(text)] for text in texts]
    mixed = []
    while any(queues):
        queue = dice.choice([queue for queue in queues if queue])
        mixed.append(queue.pop(0))
    content = blocks(writer().feed(Batch([Start("", "m"), *mixed, Finish()])))
    written = {(b["id"], b["name"], b["json"]) for b in content if b["type"] == "tool_use"}
    assert written == {(id_, name, "".join(pieces)) for id_, name, pieces in calls}
    assert sorted("".join(b["text"] for b in content if b["type"] == "text")) == sorted("".join(texts))


# the same dialect on both sides


@pytest.mark.parametrize("name", ["anthropic-foreign", "anthropic-text", "anthropic-tools"])
def test_events_of_the_same_dialect_pass_to_the_byte(name):
    stream = (GOLDEN / f"{name}.sse").read_bytes()
    for size in (1, 7, 100, len(stream)):
        decoder, out = StreamDecoder(1 << 20, keep=True), writer()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert b"".join(out.feed(decoder.feed(piece)) for piece in pieces) == stream


def test_events_without_a_name_get_theirs():
    stream = (GOLDEN / "anthropic-text.sse").read_bytes()
    bare = b"".join(line + b"\n" for line in stream.split(b"\n") if not line.startswith(b"event:"))
    assert writer().feed(StreamDecoder(1 << 20, keep=True).feed(bare)) == stream


def test_a_passed_on_stream_that_broke_off_ends_in_our_error():
    stream = (GOLDEN / "anthropic-text.sse").read_bytes()
    beginning = stream[: stream.index(b"event: content_block_stop")]
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"at 10.0.0.1"}}\n\n'
    decoder = StreamDecoder(1 << 20, keep=True, clean=lambda _: "cleaned")
    told = writer().feed(decoder.feed(beginning + error))
    assert told.startswith(beginning)
    assert SSEDecoder().feed(told.removeprefix(beginning)) == [
        (b"error", b'{"type":"error","error":{"type":"overloaded_error","message":"cleaned"},"request_id":"r7"}')
    ]


def test_a_passed_on_stream_that_ends_after_its_stop_reason_is_completed():
    stream = (GOLDEN / "anthropic-text.sse").read_bytes()
    cut = stream[: stream.index(b"event: message_stop")]
    decoder, out = StreamDecoder(1 << 20, keep=True), writer()
    assert out.feed(decoder.feed(cut)) + out.feed(decoder.finish()) == stream


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("after", ["content_block_delta", "content_block_stop", "content_block_start"])
def test_another_upstream_may_go_on_in_blocks_of_its_own(keep, after):
    stream = (GOLDEN / "anthropic-text.sse").read_bytes()
    beginning = stream[: stream.index(b"\n\n", stream.rindex(f"event: {after}".encode())) + 2]
    beginning += PING
    out = writer()
    passed = out.feed(StreamDecoder(1 << 20, keep=True).feed(beginning))
    second, rest = StreamDecoder(1 << 20, keep=keep), b""
    for at in range(0, len(stream), 50):
        rest += out.feed(second.feed(stream[at : at + 50]))
    assert [name for name, _ in frames(passed + rest)].count("message_start") == 1
    assert kinds(passed + rest)[-1] == ("text", "Hello wörld 👩‍💻\n\n- data: x")


# whole answers


def whole(answer, model="asked"):
    return msgspec.json.decode(whole_body(answer, id="msg_7", model=model, input_tokens=lambda: 9))


@pytest.mark.parametrize("arguments", ['{"city":"Os', "[1]", '"x"', "null", "{'a': 1}", "{} {}", "{" * 10_000])
def test_C3_a_call_whose_arguments_are_no_object_is_not_called_with_others(arguments):
    broken = Answer(text="a", tool_calls=(ToolCall("c", "f", "{}"), ToolCall("d", "g", arguments)))
    broken.finish_reason = "tool_calls"
    with pytest.raises(BrokenToolCall, match="'g'"):
        whole(broken)
    broken.finish_reason = "length"
    assert [block["type"] for block in whole(broken)["content"]] == ["text", "tool_use"]


def test_a_whole_answer_is_a_message():
    answer = Answer(
        id="up-1",
        model="m",
        text="hi",
        reasoning="hm",
        reasoning_signature="s",
        tool_calls=(ToolCall("c", "f", '{"a":1}'), ToolCall("d", "g", "")),
        finish_reason="tool_calls",
        usage=Usage(3, 4, 1, 2),
    )  # fmt: skip
    assert whole(answer) == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "hi"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "d", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 2,
            "cache_read_input_tokens": 1,
            "output_tokens": 4,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


def test_an_answer_that_says_nothing_has_no_block_and_one_nobody_counted_is_estimated():
    message = whole(Answer())
    assert (message["model"], message["content"], message["stop_reason"]) == ("asked", [], "end_turn")
    assert message["usage"] == {"input_tokens": 9, "output_tokens": 0}
    refused = whole(Answer(refusal="I will not."))
    assert (refused["content"], refused["stop_reason"]) == ([{"type": "text", "text": "I will not."}], "refusal")


def test_a_whole_answer_of_the_same_dialect_passes_to_the_byte():
    body = b'{"id":"x" , "content":[{"type":"text","text":"hi","new":[1.0]}],"stop_reason":"end_turn","n":1e2}\n'
    collector = Collector()
    collector.add(decode_whole(body, keep=True))
    answer = collector.answer()
    assert (answer.dialect, answer.text) == (DIALECT, "hi")
    assert whole_body(answer, id="ours", model="", input_tokens=lambda: 1) == body


@pytest.mark.parametrize(
    ("error", "type_"),
    [
        (UpstreamFailed("x", status=429), "rate_limit_error"),
        (UpstreamFailed("x", status=529), "overloaded_error"),
        (UpstreamFailed("x", status=503), "overloaded_error"),
        (UpstreamFailed("x", status=504), "timeout_error"),
        (UpstreamFailed("x", status=502), "api_error"),
        (InternalError("x"), "api_error"),
    ],
)
def test_errors_inside_a_stream_are_called_by_anthropics_names(error, type_):
    [(name, value)] = frames(writer().feed(Batch([Fault(error)])))
    assert (name, value["error"]["type"]) == ("error", type_)


# the official SDK


def test_the_official_sdk_reads_every_event_and_adds_them_up():
    message, buffers = None, {}
    for _, value in frames((GOLDEN / "anthropic-tools.sse").read_bytes()):
        event = SDK_EVENT.validate_python(value, strict=True)
        message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use", "tool_use"]
    assert message.content[0].signature == "c2VhbA=="
    assert [block.input for block in message.content[2:]] == [{"city": "Oslo"}, {"city": "Rome"}, {}]
    assert (message.stop_reason, message.usage.output_tokens) == ("tool_use", 7)


def test_the_official_sdk_reads_a_whole_answer_and_every_error():
    answer = Answer(text="hi", reasoning="hm", tool_calls=(ToolCall("c", "f", "{}"),), finish_reason="tool_calls")
    read = Message.model_validate(whole(answer))
    assert [block.type for block in read.content] == ["thinking", "text", "tool_use"]
    for status in (400, 401, 402, 403, 404, 429, 500, 502, 503, 504, 529):  # its list lacks `request_too_large`
        body = error_body(UpstreamFailed("x", status=status), "r7")
        assert ErrorResponse.model_validate_json(body, strict=True).error.message == "x"
