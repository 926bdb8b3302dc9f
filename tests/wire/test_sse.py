"""Event streams: the corpus of the HTML standard's corner cases, and any split of the bytes."""

from __future__ import annotations

import copy
import re
import time
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.errors import FrameTooLarge
from proxy.wire.sse import PING, SSEDecoder, encode
from tests.support.readers import ConformantReader, read

CORPUS = {
    "one event": (b"data: a\n\n", [("", "a")]),
    "no space after the colon": (b"data:a\n\n", [("", "a")]),
    "only one space is dropped": (b"data:  a\n\n", [("", " a")]),
    "a tab is no space": (b"data:\ta\n\n", [("", "\ta")]),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [("", "a\nb"), ("", "c")]),
    "CR only": (b"data: a\rdata: b\r\rdata: c\r\r", [("", "a\nb"), ("", "c")]),
    "all line ends mixed": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r", [("", "a\nb\nc"), ("", "d")]),
    "LF CR is two line ends": (b"data: a\n\rdata: b\n\n", [("", "a"), ("", "b")]),
    "BOM": (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
    "BOM before a name": (b"\xef\xbb\xbfevent: e\ndata: a\n\n", [("e", "a")]),
    "only the first BOM": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [("", "b")]),
    "a BOM later on": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("", "a")]),
    "comments": (b": hi\n\n:\n\ndata: a\n: inside\ndata: b\n\n" + PING, [("", "a\nb")]),
    "named": (b"event: done\ndata: x\n\ndata: y\n\n", [("done", "x"), ("", "y")]),
    "the last name counts": (b"event: a\nevent: b\ndata: x\n\n", [("b", "x")]),
    "a name without data": (b"event: a\n\ndata: x\n\n", [("", "x")]),
    "a name after the data": (b"data: x\nevent: a\n\n", [("a", "x")]),
    "id and retry": (b"id: 7\nretry: 0\ndata: a\n\nid\nretry\n\n", [("", "a")]),
    "several data lines": (b"data: a\ndata:\ndata: b\n\n", [("", "a\n\nb")]),
    "an empty data line is an event": (b"data:\n\ndata: \n\n", [("", ""), ("", "")]),
    "fields without a colon": (b"data\ndata\nevent\n\n", [("", "\n")]),
    "unknown fields": (b"foo: 1\ndata : x\n data: y\nDATA: z\ndataset: 1\ndata: a\n\n", [("", "a")]),
    "colons in the value": (b"data:: a: b\n\n", [("", ": a: b")]),
    "blank lines in front": (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [("", "a"), ("", "b")]),
    "no blank line at the end": (b"data: a\n\ndata: b\n", [("", "a")]),
    "no line end at the end": (b"data: a\n\ndata: b", [("", "a")]),
    "a CR at the end ends the event": (b"data: a\n\r", [("", "a")]),
    "not a line end": (
        "data: \u2028\u2029\u0085\v\f\x1c\x1d\x1e|\n\n".encode(),
        [("", "\u2028\u2029\u0085\v\f\x1c\x1d\x1e|")],
    ),
    "NUL": (b"data: a\0b\nevent: \0\n\n", [("\0", "a\0b")]),
    "emoji and CJK": ("data: 👩‍👩‍👧‍👦 東京\n\n".encode(), [("", "👩‍👩‍👧‍👦 東京")]),
    "HTML": (b"<!doctype html>\n<html>\n\n<body>data: x</body>\n\n", []),
    "nothing": (b"", []),
}
BARE = {
    # The standard ignores it. Gateways write an error so in the middle of a stream, and its words are worth keeping.
    "JSON": (b'{"error": {"message": "no"}}\n\n', [("", '{"error": {"message": "no"}}')]),
    "JSON in lines": (b'event: error\n{\n  "error": "no"\n}\n\n', [("error", '{\n  "error": "no"\n}')]),
    "JSON beside data": (b'data: a\n{"error": "no"}\n\n', [("", "a"), ("", '{"error": "no"}')]),
    "a list": (b'id: 1\n[{"error": "no"}]\n\n', [("", '[{"error": "no"}]')]),
}

STREAM = (
    "\ufeff: hello\r\n\r\n"
    + "".join(
        f'data: {{"id":"chatcmpl-7","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}{end}{end}'
        for text, end in [
            ("Grüße", "\n"), ("👩‍👩‍👧‍👦", "\r\n"), ("東京都", "\r"), (" \\n\\n", "\n"), ("\u2028x\u0085", "\r\n"),
            ("🏳️‍🌈🇩🇪", "\n"), ("e\u0301", "\r"), ("", "\n"),
        ] * 2
    )
    + "data: one\ndata: two\nevent: pair\n\n"
    + "event: ping\ndata: one\r\ndata:\rdata:  three\nid: 9\n\n: ping\n\n\n\ndata\n\n"
    + "".join(f"data: {word}\n\n" for word in ("the", "quick", "brown", "fox", "jumps", "over") * 8)
    + "event: error\r\ndata: 💥\r\n\r\ndata: [DONE]\n\n"
).encode()  # fmt: skip


def decode(*chunks, **options):
    decoder = SSEDecoder(**options)
    return [(name.decode(), data.decode()) for chunk in chunks for name, data in decoder.feed(chunk)]


def pieces(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


EVENTS = decode(STREAM)


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
@pytest.mark.parametrize("name", [*CORPUS, *BARE])
def test_b11_U8_the_corpus_reads_as_the_standard_says_and_bare_json_as_data(name, size):
    data, events = {**CORPUS, **BARE}[name]
    assert decode(*pieces(data, size)) == events


def test_the_corpus_agrees_with_the_reference_reader():
    for data, events in CORPUS.values():
        assert read(ConformantReader, data) == [(event or "message", text) for event, text in events]


def test_b10_the_stream_of_the_split_tests_holds_what_they_are_about():
    assert 2_000 < len(STREAM) < 3_000
    assert [(event or "message", text) for event, text in EVENTS] == read(ConformantReader, STREAM)
    assert len(EVENTS) == 16 + 3 + 48 + 2
    assert all(text.encode() in STREAM for text in ("👩‍👩‍👧‍👦", "東京都", "\r\n\r\n", "\r\r"))


def test_b10_one_cut_anywhere_changes_nothing():
    for cut in range(len(STREAM) + 1):
        assert decode(STREAM[:cut], STREAM[cut:]) == EVENTS


def test_b10_byte_by_byte_changes_nothing():
    for size in (1, 2, 3, 5, 7, 64):
        assert decode(*pieces(STREAM, size)) == EVENTS


def states():
    """What the decoder knows and has said after each prefix of the stream, fed byte by byte."""
    decoder, events = SSEDecoder(), []
    known = [(copy.deepcopy(decoder), 0)]
    for byte in pieces(STREAM, 1):
        events += decoder.feed(byte)
        known.append((copy.deepcopy(decoder), len(events)))
    return known, events


def assert_all_chunks_lead_to_the_same(longest):
    """Any chunk, from any place, leaves the decoder where its bytes one by one would have.

    By induction this covers every split into chunks up to that length, two cuts and all others.
    """
    known, events = states()
    variables = [vars(decoder) for decoder, _ in known]
    for start, (decoder, said) in enumerate(known):
        for end in range(start, min(start + longest, len(STREAM)) + 1):
            fresh = copy.copy(decoder)
            fresh.pending = bytearray(decoder.pending)
            assert fresh.feed(STREAM[start:end]) == events[said : known[end][1]]
            assert vars(fresh) == variables[end]


def test_b10_any_split_into_chunks_of_up_to_50_bytes_changes_nothing():
    assert_all_chunks_lead_to_the_same(50)


@pytest.mark.heavy
def test_b10_any_split_whatsoever_changes_nothing():
    assert_all_chunks_lead_to_the_same(len(STREAM))


LINES = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"data",
        b"data:  \xf0\x9f\x98\x80",
        b"event: e",
        b": c",
        b"id: 1",
        b"",
        b"",
        b"\xef\xbb\xbf",
        b"\xff\xf0\x9f",
    ]
)
BYTES = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b""]))).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(BYTES | st.binary(), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_in_any_chunks_read_as_the_reference_reader_reads_them(data, cuts):
    assume(not re.search(rb"(^|[\r\n]|\xef\xbb\xbf)[{\[]", data))  # bare JSON, which the standard ignores
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(places)]
    decoder = SSEDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    expected = read(ConformantReader, data)
    assert [
        (name.decode(errors="replace") or "message", text.decode(errors="replace")) for name, text in events
    ] == expected


# Bounds


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_an_event_that_outgrows_the_limit_is_refused_before_it_is_complete(size):
    decoder = SSEDecoder(max_event_bytes=1000)
    with pytest.raises(FrameTooLarge, match="1000"):
        for chunk in pieces(b"data: " + b"x" * 1200, size):
            decoder.feed(chunk)


@pytest.mark.parametrize("data", [b"data: " + b"x" * 1000 + b"\n\n", b"data: ok\n\n" + b": " + b"x" * 1000 + b"\n\n"])
def test_a_complete_event_over_the_limit_is_refused_too(data):
    with pytest.raises(FrameTooLarge):
        SSEDecoder(max_event_bytes=1000).feed(data)


def test_the_limit_is_for_one_event_and_may_be_reached():
    event = b"data: " + b"x" * 994 + b"\n\n"
    assert len(decode(event * 50, max_event_bytes=1000)) == 50
    assert len(decode(event, max_event_bytes=1000)) == 1
    assert len(decode(*pieces(event * 5, 13), max_event_bytes=1000)) == 5


@pytest.mark.parametrize("line", [b": ping\n", b"data: x\r\n", b"x"])
def test_lines_that_never_end_in_a_blank_one_are_bounded(line):
    decoder = SSEDecoder(max_event_bytes=10_000)
    with pytest.raises(FrameTooLarge):
        for _ in range(20_000):
            decoder.feed(line)


@pytest.mark.parametrize("size", [1, 4096])
def test_a_mebibyte_event_costs_time_linear_in_its_bytes(size):
    chunks = pieces(b"data: " + b"x" * 2**20 + b"\n\n", size)
    decoder = SSEDecoder()
    began = time.process_time()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    assert time.process_time() - began < 3  # about 0.5 s byte by byte; with rescans it would be minutes
    assert len(events[0][1]) == 2**20


# Writing


def test_data_of_several_lines_is_written_as_several_data_lines():
    assert encode(b"hi") == b"data: hi\n\n"
    assert encode(b"a\nb\r\nc\rd") == b"data: a\ndata: b\ndata: c\ndata: d\n\n"
    assert encode(b"") == b"data: \n\n"


@given(st.lists(st.text()))
def test_h01_what_is_written_is_read_back_and_nothing_else(texts):
    wire = b"".join(encode(data.encode()) for data in texts)
    assert decode(wire) == [("", data.replace("\r\n", "\n").replace("\r", "\n")) for data in texts]
