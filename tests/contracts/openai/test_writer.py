"""Writing OpenAI answers: golden bytes, what the official SDK reads of them, and the way there and back."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.contracts.openai.stream import StreamDecoder
from proxy.contracts.openai.whole import decode_whole
from proxy.contracts.openai.writer import OpenAIWriter
from proxy.errors import UpstreamFailed, UpstreamTruncated
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
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
CUT = UpstreamTruncated("the answer was cut off")

TRANSCRIPTS = {
    "openai-text": [
        Start("up-1", "m"),
        TextDelta("Hello"),
        TextDelta(" wörld 👩‍💻"),
        TextDelta("\n\n- data: x"),
        Finish("stop", Usage(3, 3)),
    ],
    "openai-usage": [
        Start("", "m"),
        TextDelta(" hi"),
        Finish("length", Usage(3, 1, cached_tokens=2, reasoning_tokens=1)),
    ],
    "openai-tools": [
        Start("", "m"),
        ReasoningDelta("Two cities."),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallStart(1, "call_b", "weather"),
        ToolCallDelta(1, '{"city":"Rome"}'),
        ToolCallDelta(0, '"Oslo"}'),
        Finish("tool_calls"),
    ],
    "openai-refused-midway": [Start("", "m"), TextDelta("Half"), Notice("x", "y"), Fault(CUT)],
}


def writer(*, usage=False, model="asked-for", functions=False):
    return OpenAIWriter(id="chatcmpl-7", model=model, created=1793000000, usage=usage, functions=functions)


def chunks(stream):
    return [data for _, data in SSEDecoder().feed(stream) if data != b"[DONE]"]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_events_are_written_as_the_transcript_says(name):
    expected = (GOLDEN / f"{name}.sse").read_bytes()
    events = TRANSCRIPTS[name]
    usage = name == "openai-usage"
    assert writer(usage=usage).feed(Batch(events)) == expected
    one_by_one = writer(usage=usage)
    assert b"".join(one_by_one.feed(Batch([event])) for event in events) == expected


def test_the_official_sdk_reads_every_chunk():
    everything = [
        Start("", "m"),
        ReasoningDelta("r"),
        TextDelta("t"),
        RefusalDelta("no"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, "{}"),
        Finish("tool_calls", Usage(1, 2, 3, 4)),
    ]
    seen = [
        ChatCompletionChunk.model_validate(msgspec.json.decode(data))
        for data in chunks(writer(usage=True).feed(Batch(everything)))
    ]
    assert len(seen) == 8
    assert {(c.id, c.object, c.created, c.model) for c in seen} == {
        ("chatcmpl-7", "chat.completion.chunk", 1793000000, "m")
    }
    assert seen[2].choices[0].delta.content == "t"
    assert seen[4].choices[0].delta.tool_calls[0].function.name == "f"
    assert seen[6].choices[0].finish_reason == "tool_calls"
    assert seen[7].usage.completion_tokens_details.reasoning_tokens == 4


def test_usage_that_is_not_known_is_left_out_rather_than_zero():
    stream = writer(usage=True).feed(Batch([Start("", "m"), TextDelta("a"), Finish("stop")]))
    assert all(msgspec.json.decode(data)["usage"] is None for data in chunks(stream))
    assert stream.endswith(b"data: [DONE]\n\n")


def test_R2_a_stream_that_broke_off_never_ends_in_done():
    stream = writer().feed(Batch([Start("", "m"), TextDelta("a"), Fault(CUT)]))
    assert b"[DONE]" not in stream
    assert b'finish_reason":"' not in stream
    assert msgspec.json.decode(chunks(stream)[-1]) == {
        "error": {
            "message": "the answer was cut off", "type": "upstream_error", "param": None, "code": "upstream_truncated",
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["\n\nevent: done\ndata: x", "\r", "data: [DONE]", "[DONE]", " ", "", "\u2028\u2029\x85\x1c", "\x00", '"\\', "\ufeff"],
)  # fmt: skip
def test_H01_H02_no_text_can_make_a_frame_and_all_of_it_arrives(text):
    stream = writer().feed(Batch([Start("", "m"), TextDelta(text), Finish()]))
    frames = SSEDecoder().feed(stream)
    assert len(frames) == 4
    assert msgspec.json.decode(frames[1][1])["choices"][0]["delta"] == {"content": text}
    assert b"\r" not in stream


def test_H03_names_and_ids_of_the_upstream_cannot_leave_their_string():
    evil = 'x"}]}\n\nevent: done\ndata: "'
    stream = writer().feed(Batch([Start(evil, evil), ToolCallStart(0, evil, evil), Finish()]))
    call = msgspec.json.decode(chunks(stream)[1])
    assert call["model"] == evil
    assert call["choices"][0]["delta"]["tool_calls"][0]["id"] == evil
    assert len(SSEDecoder().feed(stream)) == 4


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    stream = writer().feed(Batch([TextDelta("a\ud83d")]))
    assert msgspec.json.decode(chunks(stream)[0])["choices"][0]["delta"]["content"] == "a\ufffd"


TEXTS = st.text(min_size=1)
CONTENT = st.lists(
    st.builds(TextDelta, TEXTS)
    | st.builds(ReasoningDelta, TEXTS)
    | st.builds(RefusalDelta, TEXTS)
    | st.builds(Source, TEXTS, TEXTS),
    max_size=8,
)
CALLS = st.lists(st.tuples(TEXTS, TEXTS, st.lists(TEXTS, max_size=3)), max_size=3)
COUNT = st.integers(0, 10**9)
USAGE = st.none() | st.builds(  # an answer has output, and its reasoning is part of that
    lambda given, output, cached, reasoning: Usage(given, output + 1, cached, min(reasoning, output)), *[COUNT] * 4
)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])


@given(CONTENT, CALLS, REASONS, USAGE, st.integers(1, 40))
def test_what_is_written_is_read_as_the_same_events(content, calls, reason, usage, size):
    # A page or an image is told once, however often it is written.
    once = {(type(event), event.url): event for event in reversed(content) if isinstance(event, (Source, Media))}
    content = [e for e in content if not isinstance(e, (Source, Media)) or once.get((type(e), e.url)) is e]
    events = [Start("chatcmpl-7", "m"), *content]
    for index, (id_, name, pieces) in enumerate(calls):
        events.append(ToolCallStart(index, f"{id_}{index}", name))
        events += [ToolCallDelta(index, piece) for piece in pieces]
    if calls and reason == "stop":  # a reader takes it for what it means
        reason = "tool_calls"
    events.append(Finish(reason, usage))
    stream = writer(usage=True).feed(Batch(events))
    decoder = StreamDecoder(1 << 20)
    read = [event for at in range(0, len(stream), size) for event in decoder.feed(stream[at : at + size]).events]
    assert read == events


# functions, the form before tools

TWO_CALLS = [
    Start("", "m"),
    ToolCallStart(0, "call_a", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallStart(1, "call_b", "weather"),
    ToolCallDelta(1, "{}"),
    ToolCallDelta(0, '"Oslo"}'),
    Finish("tool_calls"),
]


def test_who_offered_functions_is_told_of_one_call_in_their_form():
    seen = [
        ChatCompletionChunk.model_validate(msgspec.json.decode(data))
        for data in chunks(writer(functions=True).feed(Batch(TWO_CALLS)))
    ]
    calls = [chunk.choices[0].delta.function_call for chunk in seen]
    assert [call.name for call in calls if call and call.name] == ["weather"]
    assert "".join(call.arguments for call in calls if call) == '{"city":"Oslo"}'
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in seen)
    assert seen[-1].choices[0].finish_reason == "function_call"


def test_a_whole_answer_to_who_offered_functions_has_one_call_in_their_form():
    collector = Collector()
    collector.add(Batch(TWO_CALLS))
    body = OpenAIWriter(id="x", model="m", created=1, functions=True).whole(collector.answer()).body
    choice = ChatCompletion.model_validate_json(body).choices[0]
    assert (choice.finish_reason, choice.message.tool_calls) == ("function_call", None)
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("weather", '{"city":"Oslo"}')


# the same dialect on both sides


@pytest.mark.parametrize("name", ["openai-text", "openai-usage", "openai-tools", "openai-foreign"])
def test_payloads_of_the_same_dialect_pass_to_the_byte(name):
    stream = (GOLDEN / f"{name}.sse").read_bytes()
    for size in (1, 7, 100, len(stream)):
        decoder, out = StreamDecoder(1 << 20, choices=2 if name == "openai-foreign" else 1), writer()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        relayed = b"".join(out.feed(decoder.feed(piece)) for piece in pieces)
        assert relayed == stream


def test_a_passed_on_stream_that_broke_off_ends_in_our_error():
    stream = (GOLDEN / "openai-text.sse").read_bytes()
    beginning = stream[: stream.index(b"\n\n") + 2]
    error = b'data: {"error":{"message":"boom at 10.0.0.1","code":503}}\n\n'
    decoder = StreamDecoder(1 << 20, clean=lambda _: "cleaned")
    assert writer().feed(decoder.feed(beginning + error)) == beginning + (
        b'data: {"error":{"message":"cleaned","type":"upstream_error","param":null,"code":"upstream_error"}}\n\n'
    )


def test_a_rate_limit_is_called_so():
    stream = writer().feed(Batch([Fault(UpstreamFailed("slow down", status=429, code="rate_limit_exceeded"))]))
    assert msgspec.json.decode(chunks(stream)[0])["error"]["type"] == "rate_limit_error"


def test_another_upstream_may_go_on_without_a_second_role():
    out = writer()
    passed = out.feed(
        StreamDecoder(1 << 20).feed((GOLDEN / "openai-text.sse").read_bytes().partition(b"data: [DONE]")[0])
    )
    rest = out.feed(Batch([Start("", "other"), TextDelta(" more"), Finish()]))
    assert b"role" in passed
    assert b"role" not in rest
    assert msgspec.json.decode(chunks(rest)[0])["model"] == "other"


# whole answers


def test_a_whole_answer_is_read_by_the_official_sdk():
    answer = Answer(
        id="up-1",
        model="m",
        text="hi",
        reasoning="hm",
        tool_calls=(ToolCall("c", "f", "{}"),),
        finish_reason="tool_calls",
        usage=Usage(3, 4, 1, 2),
    )
    completion = ChatCompletion.model_validate(
        msgspec.json.decode(OpenAIWriter(id="chatcmpl-7", model="asked", created=5).whole(answer).body)
    )
    assert (completion.id, completion.model, completion.created) == ("chatcmpl-7", "m", 5)
    choice = completion.choices[0]
    assert (choice.message.content, choice.message.reasoning_content) == ("hi", "hm")
    assert choice.message.tool_calls[0].function.arguments == "{}"
    assert choice.finish_reason == "tool_calls"
    assert completion.usage.total_tokens == 7


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (Answer(text=""), ""),
        (Answer(refusal="no"), None),
        (Answer(tool_calls=(ToolCall("c", "f", ""),)), None),
    ],
)
def test_content_is_null_only_where_something_else_was_said(answer, content):
    body = msgspec.json.decode(OpenAIWriter(id="x", model="asked", created=1).whole(answer).body)
    assert body["choices"][0]["message"]["content"] == content
    assert body["model"] == "asked"
    assert "usage" not in body


def test_a_whole_answer_of_the_same_dialect_passes_to_the_byte():
    body = b'{"id":"x" , "choices":[{"message":{"content":"hi","x_new":[1.0]},"finish_reason":"stop"}],"n":1e2}\n'
    collector = Collector()
    collector.add(decode_whole(body, keep=True))
    assert OpenAIWriter(id="ours", model="", created=1).whole(collector.answer()).body == body
