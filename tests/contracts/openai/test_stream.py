"""Reading OpenAI streams: what they say, when they are complete, and what they are when they are not."""

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.openai.stream import StreamDecoder
from proxy.contracts.openai.whole import decode_whole
from proxy.errors import (
    FrameTooLarge,
    ModelRefused,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamIdle,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamTruncated,
)
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    check_order,
)
from proxy.request import Usage

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = (GOLDEN / "openai-text.sse").read_bytes()
FOREIGN = (GOLDEN / "openai-foreign.sse").read_bytes()
LIMIT = 4 * 1024 * 1024


def sse(*values, done=False):
    """Events; what is no bytes is written as JSON."""
    frames = [b"data: %b\n\n" % (v if isinstance(v, bytes) else msgspec.json.encode(v)) for v in values]
    return b"".join(frames) + (b"data: [DONE]\n\n" if done else b"")


def chunk(delta=None, finish=None, index=0, **more):
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def read(*pieces, end=True, **options):
    """All events and payloads of a stream that came in `pieces`."""
    decoder = StreamDecoder(LIMIT, **options)
    batches = [decoder.feed(piece) for piece in pieces]
    if end:
        batches.append(decoder.finish())
    events = [event for batch in batches for event in batch.events]
    check_order(events)
    stream = b"".join(payload for batch in batches for payload in batch.payloads)
    return events, [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]


def deltas(*values, **options):
    """The events between the start and the end."""
    events, _ = read(sse(*values, done=True), **options)
    return events[1:-1]


def fault(*values, **options):
    """The error a stream ends with."""
    events, _ = read(sse(*values), **options)
    assert isinstance(events[-1], Fault), events
    return events[-1].error


# what a stream says


def test_text_comes_out_as_the_model_wrote_it():
    events, payloads = read(TEXT)
    assert events == [
        Start("chatcmpl-7", "m"),
        TextDelta("Hello"),
        TextDelta(" wörld 👩‍💻"),
        TextDelta("\n\n- data: x"),
        Finish("stop"),
    ]
    assert len(payloads) == 5


def test_every_split_in_two_gives_the_same_events_and_payloads():
    for stream in (TEXT, FOREIGN):
        expected = read(stream, choices=2)
        for cut in range(len(stream) + 1):
            assert read(stream[:cut], stream[cut:], choices=2) == expected


def test_one_byte_at_a_time_gives_the_same_events():
    assert read(*(FOREIGN[i : i + 1] for i in range(len(FOREIGN))), choices=2) == read(FOREIGN, choices=2)


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_any_split_gives_the_same_events(cuts):
    places = [0, *sorted(cuts), len(TEXT)]
    assert read(*(TEXT[a:b] for a, b in itertools.pairwise(places))) == read(TEXT)


def test_crlf_comments_and_empty_events_change_nothing():
    noisy = (b": hello\n\ndata:\n\n" + TEXT).replace(b"\n", b"\r\n")
    assert read(noisy)[0] == read(TEXT)[0]


def test_one_delta_with_several_things_gives_them_in_order():
    delta = {
        "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}],
        "content": "b",
        "reasoning_content": "a",
        "refusal": "no",
    }
    assert deltas(chunk(delta)) == [
        ReasoningDelta("a"),
        TextDelta("b"),
        RefusalDelta("no"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, "{}"),
    ]


@pytest.mark.parametrize(
    "delta",
    [
        {},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None},
        {"reasoning_content": ""},
        {"content": []},
        {"reasoning": {"effort": "low"}},
    ],
)
def test_deltas_that_say_nothing_give_no_event(delta):
    assert deltas(chunk(delta)) == []


def test_both_names_of_reasoning_are_read():
    assert deltas(chunk({"reasoning": "a"}), chunk({"reasoning_content": "b", "reasoning": "b"})) == [
        ReasoningDelta("a"),
        ReasoningDelta("b"),
    ]


def test_content_in_parts_is_taken_apart():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "so"}]
    assert deltas(chunk({"content": parts})) == [ReasoningDelta("hm"), TextDelta("so")]


def test_sources_images_and_the_seal_on_reasoning_are_read():
    cited = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A", "start_index": 0}}
    image = {"type": "image_url", "image_url": {"url": "data:image/webp;base64,AA=="}}
    sealed = {"type": "thinking", "thinking": "hm", "signature": "c2VhbA=="}
    delta = {
        "reasoning_content": "hm",
        "thinking_blocks": [sealed, {"type": "thinking", "thinking": "hm"}],
        "content": "see",
        "annotations": [cited, {"type": "file_citation"}],
        "images": [image, {"image_url": {"url": "https://b.example/x"}}],
    }
    events, _ = read(sse(chunk(delta, "stop"), done=True))
    assert events[1:-1] == [
        ReasoningDelta("hm"),
        ReasoningSignature("c2VhbA=="),
        TextDelta("see"),
        Source("https://a.example", "A"),
        Media("image/webp", "data:image/webp;base64,AA=="),
        Media("image/png", "https://b.example/x"),
    ]


def test_only_the_first_choice_gives_events():
    assert deltas(chunk({"content": "a"}), chunk({"content": "x"}, index=1), choices=2) == [TextDelta("a")]


def test_the_azure_chunk_before_the_first_names_no_model():
    events, payloads = read(FOREIGN, choices=2)
    assert events[0] == Start("chatcmpl-9", "m-2024")
    assert b"prompt_filter_results" in payloads[0]


# tool calls


def calls(*pieces):
    return deltas(*(chunk({"tool_calls": [piece]}) for piece in pieces))


def test_interleaved_calls_are_distinguished_by_index():
    decoder = StreamDecoder(LIMIT)
    batch = decoder.feed((GOLDEN / "openai-tools.sse").read_bytes())
    assert [event for event in batch.events if isinstance(event, (ToolCallStart, ToolCallDelta))] == [
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallStart(1, "call_b", "weather"),
        ToolCallDelta(1, '{"city":"Rome"}'),
        ToolCallDelta(0, '"Oslo"}'),
    ]
    assert batch.terminal == Finish("tool_calls")


def test_a_server_that_repeats_id_and_name_opens_one_call():
    piece = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "1"}}
    assert calls(piece, piece) == [ToolCallStart(0, "c", "f"), ToolCallDelta(0, "1"), ToolCallDelta(0, "1")]


def test_whole_calls_that_all_claim_index_0_are_distinguished_by_id():
    first = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    second = {"index": 0, "id": "b", "function": {"name": "f", "arguments": "[]"}}
    assert calls(first, second) == [
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallStart(1, "b", "f"),
        ToolCallDelta(1, "[]"),
    ]


def test_without_index_a_new_id_or_name_opens_a_call_and_the_rest_goes_on():
    assert calls(
        {"id": "a", "function": {"name": "f"}},
        {"function": {"arguments": "1"}},
        {"id": "b", "function": {"name": "g", "arguments": "2"}},
        {"id": "a", "function": {"arguments": "3"}},
        {"function": {"name": "h", "arguments": {"x": 1}}},
    ) == [
        ToolCallStart(0, "a", "f"),
        ToolCallDelta(0, "1"),
        ToolCallStart(1, "b", "g"),
        ToolCallDelta(1, "2"),
        ToolCallDelta(0, "3"),
        ToolCallStart(2, "call_1_2", "h"),
        ToolCallDelta(2, '{"x":1}'),
    ]


def test_an_id_that_comes_before_its_name_waits_for_it():
    pieces = {"index": 0, "id": "a"}, {"index": 0, "function": {"name": "f"}}
    assert calls(*pieces) == [ToolCallStart(0, "a", "f")]


def test_custom_tools_and_the_old_function_call_are_calls_too():
    assert deltas(
        chunk({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]})
    ) == [ToolCallStart(0, "a", "f"), ToolCallDelta(0, "x")]
    assert deltas(
        chunk({"function_call": {"name": "f", "arguments": ""}}), chunk({"function_call": {"arguments": "1"}})
    ) == [
        ToolCallStart(0, "call_1_0", "f"),
        ToolCallDelta(0, "1"),
    ]


# how it ends


def test_B03_a_finish_reason_without_sentinel_is_complete():
    assert read(sse(chunk({"content": "a"}), chunk(finish="stop")))[0][-1] == Finish("stop")


def test_B03_the_sentinel_without_a_finish_reason_is_complete_but_noted():
    assert read(sse(chunk({"content": "a"}), done=True))[0][-1] == Finish("stop", has_finish_reason=False)


def test_B03_a_finish_reason_for_one_of_two_choices_is_a_cut():
    pieces = chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1)
    assert isinstance(fault(*pieces, choices=2), UpstreamTruncated)
    assert isinstance(fault(pieces[0], choices=2), UpstreamTruncated)  # the second never began
    assert read(sse(*pieces, chunk(finish="length", index=1)), choices=2)[0][-1] == Finish("stop")


def test_B01_an_answer_that_just_ends_is_cut():
    assert isinstance(fault(chunk({"content": "a"})), UpstreamTruncated)
    assert isinstance(fault(), UpstreamTruncated)


def test_B01_a_call_of_which_only_the_name_came_is_told_before_the_cut():
    begun = chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]})
    assert read(sse(begun))[0][1:-1] == [ToolCallStart(0, "a", "f")]


def test_B11_a_last_event_without_its_blank_line_does_not_count():
    events, _ = read(sse(chunk({"content": "a"})) + b"data: [DONE]\n")
    assert isinstance(events[-1], Fault)


def test_trouble_after_every_finish_reason_is_no_trouble():
    for pieces in ([chunk({"content": "a"}, "stop")], [chunk({"content": "a"}), chunk(finish="stop")]):
        decoder = StreamDecoder(LIMIT)
        decoder.feed(sse(*pieces))
        assert decoder.complete
        assert not decoder.done
        assert decoder.fail(UpstreamIdle("late")).events == [Finish("stop")]


def test_usage_that_follows_the_finish_reason_is_part_of_the_end():
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    events, _ = read(sse(chunk({"content": "a"}), chunk(finish="stop"), {"choices": [], "usage": usage}, done=True))
    assert events[-1] == Finish("stop", Usage(3, 2, cached_tokens=1))


def test_usage_seen_before_a_cut_is_not_lost():
    events, _ = read(sse(chunk({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1})))
    assert events[-1].usage == Usage(3, 1)


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": None}, {"prompt_tokens": "x"}, {"prompt_tokens": -1}])
def test_broken_usage_counts_as_nothing(usage):
    events, _ = read(sse(chunk({}, "stop"), {"choices": [], "usage": {**usage, "x": {}}}, done=True))
    assert events[-1] == Finish("stop", Usage())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("function_call", "tool_calls"),
     ("content_filter", "content_filter"), ("end_turn", "stop"), ("max_tokens", "length")],
)  # fmt: skip
def test_finish_reasons_are_mapped(theirs, ours):
    assert read(sse(chunk({"content": "a"}, theirs)))[0][-1] == Finish(ours)


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_a_finish_reason_that_means_giving_up_is_a_fault(reason):
    assert isinstance(fault(chunk({"content": "a"}), chunk(finish=reason)), UpstreamFailed)


def test_an_empty_finish_reason_is_none():
    assert isinstance(fault(chunk({"content": "a"}, "")), UpstreamTruncated)


def test_B09_nothing_after_the_end_counts():
    decoder = StreamDecoder(LIMIT)
    assert isinstance(decoder.feed(TEXT + TEXT).terminal, Finish)
    assert decoder.done
    assert decoder.feed(TEXT) == Batch([])
    assert decoder.finish().events == []


def test_B09_an_event_past_the_limit_ends_the_stream_and_one_below_it_passes():
    big = sse(chunk({"content": "x" * 1_000_000}, "stop"))
    assert len(read(big)[0][1].text) == 1_000_000
    decoder = StreamDecoder(500_000)
    assert isinstance(decoder.feed(big).terminal.error, FrameTooLarge)
    assert decoder.done


# what is no chunk


@pytest.mark.parametrize(
    "data",
    [
        b"hello", b"{", b'"x"', b"[1]", b"7", b'{"choices":{"0":{}}}', b'{"choices":[{"delta":{"content":{"a":1}}}]}',
        b'{"choices":[{"delta":{"content":"\xff"}}]}', b"<html>", b"[" * 100_000, b'{"choices":[{"delta":"x"}]}',
        b'{"choices":["x"]}', b'{"choices":[{"delta":{"tool_calls":"x"}}]}', b'{"choices":[{"delta":{"tool_calls":[1]}}]}',
    ],
)  # fmt: skip
def test_B08_what_is_neither_chunk_nor_error_ends_the_stream(data):
    events, _ = read(sse(chunk({"content": "a"}), data, chunk({"content": "late"}, "stop")), keep=False)
    assert events[1] == TextDelta("a")
    assert isinstance(events[-1].error, UpstreamMalformed)


@pytest.mark.parametrize(
    ("value", "kind", "status", "code"),
    [
        ({"error": {"message": "m", "type": "rate_limit_error", "code": None}}, UpstreamFailed, 429, "rate_limit_exceeded"),
        ({"error": {"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}}, UpstreamFailed, 429, "rate_limit_exceeded"),
        ({"error": {"message": "m", "type": "server_error"}}, UpstreamFailed, 500, "upstream_error"),
        ({"error": {"message": "m", "type": "overloaded_error"}}, UpstreamFailed, 529, "upstream_error"),
        ({"error": {"message": "m", "code": 503}}, UpstreamFailed, 503, "upstream_error"),
        ({"error": {"message": "m", "code": "500", "type": "None", "param": "None"}}, UpstreamFailed, 500, "upstream_error"),
        ({"error": {"message": "m"}}, UpstreamFailed, 502, "upstream_error"),
        ({"error": "m"}, UpstreamFailed, 502, "upstream_error"),
        ({"error": {"message": "m", "code": 418}}, UpstreamFailed, 502, "upstream_error"),
        ({"error": {"message": "m", "code": "context_length_exceeded"}}, ModelRefused, 400, "context_length_exceeded"),
        ({"object": "error", "message": "m", "type": "BadRequestError", "code": 400}, UpstreamRefused, 400, "invalid_request"),
        ({"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}, UpstreamRefused, 400, "invalid_request"),
        ([{"error": {"code": 404, "message": "m", "status": "NOT_FOUND"}}], UpstreamRefused, 404, "invalid_request"),
        ({"id": "x", "error": {"code": 502, "message": "m"}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}, UpstreamFailed, 502, "upstream_error"),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, UpstreamAuth, 502, "upstream_auth"),
        ({"error": {"message": "m", "type": "permission_error"}}, UpstreamAuth, 502, "upstream_auth"),
        ({"detail": "m"}, UpstreamFailed, 502, "upstream_error"),
    ],
)  # fmt: skip
def test_B07_errors_inside_the_stream_are_mapped(value, kind, status, code):
    events, payloads = read(sse(chunk({"content": "a"}), value))
    error = events[-1].error
    assert (type(error), error.status, error.code) == (kind, status, code)
    assert len(payloads) == 1  # the upstream's own wording goes no further
    assert error.message == "m" or kind is UpstreamAuth


def test_an_event_named_error_is_one_whatever_it_holds():
    assert isinstance(fault_of(b'event: error\ndata: {"error":{"message":"m","code":503}}\n\n'), UpstreamFailed)
    assert fault_of(b"event: error\ndata: boom\n\n").message == "boom"


def fault_of(stream):
    return read(stream)[0][-1].error


def test_I01_the_words_of_an_error_are_cleaned():
    error = fault({"error": {"message": "key sk-1", "param": "p sk-1"}}, clean=lambda text: text.replace("sk-1", "***"))
    assert (error.message, error.param) == ("key ***", "p ***")
    assert fault({"error": "a\r\nb\x1b[31m" + "x" * 5000}).message.startswith("a b [31mxxx")
    assert len(fault({"error": "x" * 5000}).message) == 500


@given(st.binary(max_size=400))
def test_whatever_bytes_come_the_stream_ends_once_and_in_order(data):
    events, _ = read(data)
    assert isinstance(events[-1], (Finish, Fault))
    if isinstance(events[-1], Fault):
        assert isinstance(events[-1].error, UpstreamError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "index", "finish_reason", "error", "usage", "tool_calls", "id",
                         "function", "name", "arguments", "message", "code", "detail"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(JSON, max_size=3))
def test_whatever_JSON_comes_the_stream_ends_once_and_in_order(values):
    events, _ = read(sse(*values, done=True))
    assert isinstance(events[-1], (Finish, Fault))


# payloads


def test_usage_that_only_we_asked_for_stays_out_of_the_payloads():
    last = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    stream = sse(chunk({"content": "a"}, "stop"), last, done=True)
    assert len(read(stream, hide_usage=True)[1]) == 1
    assert len(read(stream)[1]) == 2
    with_choices = sse(chunk({"content": "a"}, "stop", usage={"prompt_tokens": 3}), done=True)
    assert len(read(with_choices, hide_usage=True)[1]) == 1


# whole answers

WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {"index": 1, "message": {"content": "other"}, "finish_reason": "length"},
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "hi",
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}


def test_a_whole_completion_gives_all_events_of_its_first_choice():
    body = msgspec.json.encode(WHOLE)
    batch = decode_whole(body, keep=True, choices=2)
    assert batch.events == [
        Start("chatcmpl-1", "m"),
        ReasoningDelta("hm"),
        TextDelta("hi"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, "{}"),
        Finish("tool_calls", Usage(1, 2)),
    ]
    assert (batch.whole, batch.dialect) == (body, "openai-chat")


def test_A07_a_completion_where_a_stream_was_asked_counts_by_its_events_alone():
    batch = decode_whole(msgspec.json.encode(WHOLE), keep=False)
    assert (batch.whole, batch.payloads, batch.dialect) == (b"", [], "")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"m","code":429}}', UpstreamFailed),
        (b'{"error":{"message":"m","type":"invalid_request_error"}}', UpstreamRefused),
        (b"<html>", UpstreamMalformed),
        (b"", UpstreamMalformed),
        (b"{}", UpstreamMalformed),
        (b'{"choices":[]}', UpstreamMalformed),
        (b'{"message":{"role":"assistant","content":"hi"}}', UpstreamMalformed),
        (b'{"choices":[{"message":{"content":""},"finish_reason":"error"}]}', UpstreamFailed),
    ],
)
def test_A07_what_is_no_completion_raises(body, kind):
    with pytest.raises(kind):
        decode_whole(body, keep=True)
