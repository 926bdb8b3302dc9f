"""Reading Anthropic streams: what they say, when they are complete, and what they are when they are not."""

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.anthropic.stream import StreamDecoder, decode_whole
from proxy.errors import (
    FrameTooLarge,
    UpstreamAuth,
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
    ReasoningDelta,
    ReasoningSignature,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    check_order,
)
from proxy.request import Usage

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = (GOLDEN / "anthropic-text.sse").read_bytes()
FOREIGN = (GOLDEN / "anthropic-foreign.sse").read_bytes()
LIMIT = 4 * 1024 * 1024

START = {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}}}
STOP = {"type": "message_stop"}


def sse(*values):
    """Events with their names; what is no dict goes out as it is."""
    return b"".join(
        value if isinstance(value, bytes) else b"event: %b\ndata: %b\n\n" % (value["type"].encode(), encoded(value))
        for value in values
    )


def encoded(value):
    return msgspec.json.encode(value)


def opened(block, index=0):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index=0, **fields):
    return {"type": "content_block_delta", "index": index, "delta": fields}


def closed(index=0):
    return {"type": "content_block_stop", "index": index}


def ended(reason="end_turn", **usage):
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 4, **usage}}


def text(text):
    return delta(type="text_delta", text=text)


def read(*pieces, end=True, **options):
    """All events and payloads of a stream that came in `pieces`."""
    decoder = StreamDecoder(LIMIT, keep=True, **options)
    batches = [decoder.feed(piece) for piece in pieces]
    if end:
        batches.append(decoder.finish())
    events = [event for batch in batches for event in batch.events]
    check_order(events)
    return events, b"".join(payload for batch in batches for payload in batch.payloads)


def between(*values):
    """The events between the start and the end."""
    events, _ = read(sse(START, *values, ended(), STOP))
    return events[1:-1]


def fault(*values):
    """The error a stream ends with."""
    events, _ = read(sse(*values))
    assert isinstance(events[-1], Fault), events
    return events[-1].error


# what a stream says


def test_a_stream_of_the_real_thing_is_read_whole():
    events, payloads = read(FOREIGN)
    assert events == [
        Start("msg_01", "claude-opus-4-6"),
        ReasoningDelta("Let me look."),
        ReasoningSignature("EqQBCgIYAhIM+/=="),
        TextDelta("It is wörld 👩‍💻"),
        Source("https://a.example", "A"),
        ToolCallStart(0, "toolu_1", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallDelta(0, '"Oslo"}'),
        ToolCallStart(1, "toolu_2", "now"),
        ToolCallDelta(1, "{}"),
        Finish("tool_calls", Usage(118, 42, cached_tokens=100, reasoning_tokens=9, cache_write_tokens=5)),
    ]
    assert payloads == FOREIGN


def test_every_split_in_two_gives_the_same_events_and_payloads():
    for stream in (TEXT, FOREIGN):
        expected = read(stream)
        for cut in range(len(stream) + 1):
            assert read(stream[:cut], stream[cut:]) == expected


def test_one_byte_at_a_time_gives_the_same_events():
    assert read(*(FOREIGN[i : i + 1] for i in range(len(FOREIGN)))) == read(FOREIGN)


@given(st.lists(st.integers(0, len(TEXT)), max_size=12))
def test_any_split_gives_the_same_events(cuts):
    places = [0, *sorted(cuts), len(TEXT)]
    assert read(*(TEXT[a:b] for a, b in itertools.pairwise(places))) == read(TEXT)


def test_crlf_comments_empty_events_and_openais_sentinel_change_nothing():
    noisy = (b": hello\n\ndata:\n\n" + TEXT + b"data: [DONE]\n\n").replace(b"\n", b"\r\n")
    assert read(noisy) == read(TEXT)


def test_data_in_several_lines_stays_in_several_lines():
    spread = TEXT.replace(b'"content_block_delta","index"', b'"content_block_delta",\ndata: "index"')
    assert read(spread) == (read(TEXT)[0], spread)


PIECE = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'


@pytest.mark.parametrize(
    "rest",
    [
        b'" hi"}}',
        b'" hi"}      }',
        b'" hi" } }  ',
        b'""}}',
        b'"\\n\\u00e9\\"}}"}}',
        b'"\\ud83d"}}',
        b'"a","more":"b"}}',
        b'"a"},"more":{"b":"c"}}',
        b'"a"}}}',
        b'"a"}',
        b'"a',
        b"7}}",
        b'"a\tb"}}',
        b'"\xff"}}',
        b'"wider \xe2\x80\xa8 world"}}',
    ],
)
@pytest.mark.parametrize("end", [b"\n\n", b"\n \n\n", b" \n\n", b"\nid: 7\n\n"])
def test_the_short_way_to_a_text_reads_what_the_long_one_does(rest, end):
    """The short way is learned from the start of a block, and is not taken through an event in two reads."""
    begun = sse(START, opened({"type": "text", "text": ""}))
    event = b"event: content_block_delta\ndata: " + PIECE + rest + end
    short, _ = read(begun, event, sse(ended(), STOP))
    long, _ = read(sse(START) + event + sse(ended(), STOP))
    assert short == long or ([type(e) for e in short] == [type(e) for e in long] and isinstance(short[-1], Fault))
    assert read(begun, event[:50], event[50:], sse(ended(), STOP))[0][:-1] == short[:-1]


def test_without_a_client_of_the_same_dialect_nothing_is_kept():
    batch = StreamDecoder(LIMIT).feed(TEXT)
    assert (batch.dialect, batch.payloads) == ("", [])
    assert batch.events == read(TEXT)[0]


@pytest.mark.parametrize(
    "quiet",
    [
        {"type": "ping"},
        opened({"type": "text", "text": ""}),
        opened({"type": "thinking", "thinking": "", "signature": ""}),
        text(""),
        delta(type="thinking_delta", thinking=""),
        delta(type="input_json_delta", partial_json="{}"),
        closed(),
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 1}},
        {"type": "something_new", "index": None, "delta": "x"},
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_says_nothing_gives_no_event(quiet):
    assert between(quiet) == []


def test_blocks_that_begin_with_content_give_it():
    cited = {"type": "web_search_result_location", "url": "https://a.example", "title": None}
    assert between(
        opened({"type": "thinking", "thinking": "hm", "signature": "s"}, 0),
        opened({"type": "text", "text": "so", "citations": [cited]}, 1),
        opened({"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}, 2),
        closed(2),
    ) == [
        ReasoningDelta("hm"),
        ReasoningSignature("s"),
        TextDelta("so"),
        Source("https://a.example"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, '{"a":1}'),
    ]


def test_tools_that_run_at_the_upstream_are_no_calls_of_the_clients():
    for kind in ("server_tool_use", "mcp_tool_use"):
        assert (
            between(
                opened({"type": kind, "id": "s", "name": "web_search", "input": {}}),
                delta(type="input_json_delta", partial_json='{"query":"x"}'),
                closed(),
            )
            == []
        )


def test_events_without_names_and_with_other_names_are_read_by_their_type():
    bare = b"".join(b"data: %b\n\n" % encoded(value) for value in (START, text("a"), ended(), STOP))
    events, payloads = read(bare)
    assert events[1] == TextDelta("a")
    assert payloads.startswith(b"event: message_start\n")
    assert payloads.count(b"event: ") == 4


def test_counts_are_cumulative_and_the_last_ones_count():
    events, _ = read(sse(START, ended(input_tokens=10, cache_creation_input_tokens=2, output_tokens=5), ended(), STOP))
    assert events[-1].usage == Usage(12, 4, cache_write_tokens=2)
    events, _ = read(sse(START, ended(input_tokens=None, output_tokens="many"), STOP))
    assert events[-1].usage == Usage(3, 0)
    events, _ = read(sse({"type": "message_start", "message": {}}, STOP))
    assert events[-1].usage is None


@pytest.mark.parametrize(
    ("reason", "means"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_every_stop_reason_is_an_end(reason, means):
    events, _ = read(sse(START, text("a"), ended(reason)))
    assert events[-1] == Finish(means, Usage(3, 4))


# when it is complete (R3)


def test_a_stop_reason_is_an_end_and_so_is_message_stop():
    assert read(sse(START, ended()))[0][-1] == Finish("stop", Usage(3, 4))
    assert read(sse(START, text("a"), STOP))[0][-1] == Finish(
        "stop", Usage(3, 1, estimated=True), has_finish_reason=False
    )


def test_finished_is_known_before_the_sentinel_comes():
    decoder = StreamDecoder(LIMIT)
    decoder.feed(sse(START, text("a")))
    assert not decoder.finished
    decoder.feed(sse(ended()))
    assert (decoder.finished, decoder.done) == (True, False)
    assert isinstance(decoder.fail(UpstreamIdle("x")).events[-1], Finish)
    assert decoder.done


def test_after_the_end_everything_is_ignored():
    decoder = StreamDecoder(LIMIT, keep=True)
    batch = decoder.feed(sse(START, ended(), STOP, text("late")))
    assert isinstance(batch.events[-1], Finish)
    assert b"late" not in b"".join(batch.payloads)
    for more in (decoder.feed(sse(text("late"))), decoder.finish()):
        assert (more.events, more.payloads) == ([], [])


@pytest.mark.parametrize(
    "said",
    [
        b"",
        sse({"type": "ping"}),
        sse(START),
        sse(START, opened({"type": "text"}), text("a"), closed()),
        sse(START) + b'event: message_stop\ndata: {"type":"message_stop"}\n',
        sse(
            START,
            opened({"type": "tool_use", "id": "c", "name": "f"}),
            delta(type="input_json_delta", partial_json="{}"),
        ),
    ],
)
def test_B02_an_end_without_either_is_a_cut(said):
    events, _ = read(said)
    assert isinstance(events[-1].error, UpstreamTruncated)


def test_B14_a_cut_answer_tells_what_was_counted():
    assert read(sse(START, text("a")))[0][-1].usage == Usage(3, 1, estimated=True)


# what goes wrong


@pytest.mark.parametrize(
    ("type_", "raised", "status"),
    [
        ("overloaded_error", UpstreamFailed, 529),
        ("rate_limit_error", UpstreamFailed, 429),
        ("api_error", UpstreamFailed, 500),
        ("timeout_error", UpstreamFailed, 504),
        ("invalid_request_error", UpstreamRefused, 400),
        ("not_found_error", UpstreamRefused, 404),
        ("request_too_large", UpstreamRefused, 413),
        ("authentication_error", UpstreamAuth, 502),
        ("billing_error", UpstreamAuth, 502),
        ("permission_error", UpstreamAuth, 502),
        ("something_new", UpstreamFailed, 502),
    ],
)
def test_B07_an_error_inside_is_the_error_it_says(type_, raised, status):
    error = fault(START, text("a"), {"type": "error", "error": {"type": type_, "message": "the lamp"}}, STOP)
    assert (type(error), error.status) == (raised, status)
    if raised is not UpstreamAuth:
        assert error.message == "the lamp"


@pytest.mark.parametrize(
    "event", [b'event: error\ndata: {"error":"boom"}\n\n', b'data: {"type":"error","message":"boom"}\n\n']
)
def test_errors_in_other_forms_are_errors_all_the_same(event):
    assert fault(START, event).message == "boom"
    assert isinstance(fault(START, event, STOP), UpstreamFailed)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"event: content_block_delta\ndata: {nonsense\n\n",
        b"data: [1, 2]\n\n",
        b'data: "text"\n\n',
        b'event: error\ndata: {"a":1}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":["a"]}\n\n',
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":{"a":1}}}\n\n',
        b'data: {"type":"content_block_start","index":0,"content_block":"a"}\n\n',
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_B08_what_is_no_event_is_malformed(rubbish):
    assert isinstance(fault(START, text("a"), rubbish, ended(), STOP), UpstreamMalformed)


def test_B09_an_event_past_the_limit_is_refused():
    decoder = StreamDecoder(1000)
    decoder.feed(sse(START))
    assert isinstance(decoder.feed(b"event: x\ndata: " + b"x" * 1200).events[-1].error, FrameTooLarge)


def test_what_is_told_of_an_error_is_cleaned():
    events, _ = read(sse(START, {"type": "error", "error": {"message": "sk-x"}}), clean=lambda _: "cleaned")
    assert events[-1].error.message == "cleaned"


def test_content_before_message_start_begins_the_answer():
    assert read(sse(text("a"), ended(), STOP))[0][:2] == [Start("", ""), TextDelta("a")]
    assert read(sse(STOP))[0] == [Start("", ""), Finish("stop", None, has_finish_reason=False)]


# whole answers


def whole(**fields):
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], **fields}
    return encoded({"stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 4}, **message})


def test_a_whole_message_gives_all_its_events():
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "hi", "citations": None},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": [1, 2]}},
        {"type": "tool_use", "id": "d", "name": "g", "input": {}},
    ]
    body = whole(content=content, stop_reason="tool_use")
    batch = decode_whole(body, keep=True)
    check_order(batch.events)
    assert batch.events == [
        Start("msg_1", "m"),
        ReasoningDelta("hm"),
        ReasoningSignature("s"),
        TextDelta("hi"),
        ToolCallStart(0, "c", "f"),
        ToolCallDelta(0, '{"a":[1,2]}'),
        ToolCallStart(1, "d", "g"),
        ToolCallDelta(1, "{}"),
        Finish("tool_calls", Usage(3, 4)),
    ]
    assert batch.whole == body
    assert decode_whole(body, keep=False) == Batch(batch.events)


def test_a_whole_message_without_a_stop_reason_is_counted():
    assert decode_whole(whole(stop_reason=None), keep=False).events[-1] == Finish(
        "stop", Usage(3, 4), has_finish_reason=False
    )


@pytest.mark.parametrize(
    ("body", "raised"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', UpstreamFailed),
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"x"}}', UpstreamRefused),
        (b"<html>", UpstreamMalformed),
        (b"{}", UpstreamMalformed),
        (b"[]", UpstreamMalformed),
        (b'{"content":"text"}', UpstreamMalformed),
        (b"[" * 5000, UpstreamMalformed),
    ],
)
def test_what_is_no_message_is_the_error_it_is(body, raised):
    with pytest.raises(raised):
        decode_whole(body, keep=True)
