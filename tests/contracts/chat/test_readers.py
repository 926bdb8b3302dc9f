"""The reference readers read as the clients they stand for: one row for each behaviour that was observed."""

from __future__ import annotations

import pytest

from tests.support.readers import ConformantReader, FetchEventSourceReader, SeedReader, read

SAME = None  # the conformant result

# wire; what the hook yields; data that a conformant reader yields; the same for fetch-event-source
ROWS = [
    ("data:Hello\n\n", ["Hello"], ["Hello"], SAME),
    ("data: world\n\n", [" world"], ["world"], SAME),
    ("data:  world\n\n", ["  world"], [" world"], SAME),
    ("data:foo \n\n", ["foo"], ["foo "], SAME),
    ("data: \n\n", [""], [""], SAME),
    ("data:\n\n", [""], [""], SAME),
    ("data:\tx\n\n", ["\tx"], ["\tx"], SAME),
    ("data:a\nb\n\n", ["a\nb"], ["a"], SAME),
    ("data:a\ndata:b\n\n", ["a\ndata:b"], ["a\nb"], SAME),
    ("data:\nb\n\n", ["\nb"], [""], SAME),
    ("data:\ndata:b\n\n", ["\ndata:b"], ["\nb"], ["b"]),
    ("data:\ndata:\n\n", ["\ndata:"], ["\n"], [""]),
    ("data:a\ndata:\n\n", ["a\ndata:"], ["a\n"], SAME),
    ("data:a\n\n\n", ["a"], ["a"], ["a", ""]),
    ("data:a\n\nb\n\n", ["a"], ["a"], ["a", ""]),
    ("data:a\n\r\nb\n\n", ["a\n\r\nb"], ["a"], ["a", ""]),
    ("data:a\r\n\r\nb\n\n", ["a\r\n\r\nb"], ["a"], ["a", ""]),
    ("data:a\n \nb\n\n", ["a\n \nb"], ["a"], SAME),
    ("data:a\rb\n\n", ["a\rb"], ["a"], SAME),
    ("data:a\r\n\r\ndata:b\r\n\r\n", [], ["a", "b"], SAME),
    ("data:data:x\n\n", ["data:x"], ["data:x"], SAME),
    ("data:a\ndata:x\n\n", ["a\ndata:x"], ["a\nx"], SAME),
    ("data:[DONE]\n\n", ["[DONE]"], ["[DONE]"], SAME),
    ("data:👩‍👩‍👧‍👦 e\u0301\n\n", ["👩‍👩‍👧‍👦 e\u0301"], ["👩‍👩‍👧‍👦 e\u0301"], SAME),
    ("data:a\u2028b\n\n", ["a\u2028b"], ["a\u2028b"], SAME),
    ("data:a\u2028\n\n", ["a"], ["a\u2028"], SAME),
    ("data:a\u00a0\n\n", ["a"], ["a\u00a0"], SAME),
    ("data:\ufeffa\n\n", ["\ufeffa"], ["\ufeffa"], ["a"]),
    ("data:a\0b\n\n", ["a\0b"], ["a\0b"], SAME),
    (" data: world\n\n", [" world"], [], [""]),
    (":\ndata:  world\n\n", [], [" world"], SAME),
    (": ping\n\n", [], [], [""]),
    ("event: error\ndata:boom\n\n", [], [("error", "boom")], SAME),
    ("event: done\ndata:[DONE]\n\ndata:late\n\n", ["late"], [("done", "[DONE]"), "late"], SAME),
    ("event: done\n\ndata:late\n\n", [], ["late"], [("done", ""), "late"]),
    ("data:a\n\ndata:b\n", ["a"], ["a"], SAME),
]


def named(items, default):
    return [item if isinstance(item, tuple) else (default, item) for item in items]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row[0]))
def test_the_three_readers_read_as_observed_however_the_bytes_are_cut(row, size):
    wire, hook, conformant, fetch_event_source = row
    data = wire.encode()
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    if fetch_event_source is SAME:
        fetch_event_source = conformant
    assert read(SeedReader, chunks) == hook
    assert read(ConformantReader, chunks) == named(conformant, "message")
    assert read(FetchEventSourceReader, chunks) == named(fetch_event_source, "")
