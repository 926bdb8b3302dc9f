"""The log of an answer: any way of appending, reading and dropping gives every reader each frame once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Gone
from proxy.streams.log import BYTES, EVENTS, LINES, StreamLog, numbered
from proxy.telemetry.record import StreamRecord

HEADERS = {
    EVENTS: {"Content-Type": "text/event-stream; charset=utf-8"},
    LINES: {"Content-Type": "application/x-ndjson"},
    BYTES: {"Content-Type": "text/plain"},
}


def opened(separator: bytes = EVENTS, most_bytes: int = 1_000_000) -> StreamLog:
    log = StreamLog("id", "key", most_bytes=most_bytes, record=StreamRecord(request_id="r", started_at=0.0))
    log.begin(HEADERS[separator])
    return log


class Pushed:
    """A reader that takes what is pushed while it keeps up, and reads the rest from the log."""

    def __init__(self, log: StreamLog, position: int, keeps_up: bool) -> None:
        self.log, self.position, self.keeps_up = log, position, keeps_up
        self.data = b""
        log.readers.add(self)

    def push(self, data: bytes) -> None:
        if self.keeps_up:
            self.data += data
            self.position = self.log.length

    def wake(self) -> None:
        pass

    def catch_up(self) -> None:
        while (read := self.log.read(self.position))[0]:
            data, self.position = read
            self.data += data
            self.log.reader_moved()


def frame(number: int, separator: bytes) -> bytes:
    return {EVENTS: b"data: %d\ndata: x\n\n", LINES: b'{"n": %d}\n', BYTES: b"%d"}[separator] % number


PIECES = st.lists(st.lists(st.sampled_from(["frame", "comment"]), min_size=1, max_size=5), max_size=30)


@given(PIECES, st.sampled_from([EVENTS, LINES, BYTES]), st.data())
def test_every_position_gives_exactly_what_follows_it(
    pieces: list[list[str]], separator: bytes, data: st.DataObject
) -> None:
    log, numbers, whole = opened(separator), 0, []
    for piece in pieces:
        joined = b""
        for kind in piece:
            if kind == "frame":
                whole.append(frame(numbers % 10 if separator == BYTES else numbers, separator))
                joined += whole[-1]
                numbers += 1
            elif separator == EVENTS:
                joined += b": nothing\n\n"
        if joined:
            log.append(joined)
    assert log.length == len(whole)
    position = data.draw(st.integers(0, log.length))
    reader = Pushed(log, position, keeps_up=False)
    reader.catch_up()
    read = b"".join(one + EVENTS for one in reader.data.split(EVENTS)[:-1] if not one.startswith(b": "))
    assert (read if separator == EVENTS else reader.data) == b"".join(whole[position:])
    assert reader.position == log.length


@given(st.lists(st.sampled_from(["append", "turn", "catch up", "leave", "join"]), max_size=60), st.integers(50, 400))
def test_any_course_of_events_gives_each_reader_all_frames_once(steps: list[str], most_bytes: int) -> None:
    log, number = opened(most_bytes=most_bytes), 0
    readers = [(Pushed(log, 0, keeps_up=True), 0), (Pushed(log, 0, keeps_up=False), 0)]
    for step in steps:
        match step:
            case "append":
                log.append(frame(number, EVENTS))
                number += 1
            case "turn" if readers:
                readers[0][0].catch_up()
                readers[0][0].keeps_up = not readers[0][0].keeps_up
            case "catch up":
                for reader, _ in readers:
                    reader.catch_up()
            case "leave" if readers:
                log.readers.discard(readers.pop()[0])
                log.reader_left()
            case "join":
                try:
                    log.check(0)
                except Gone:
                    assert log.headless
                else:
                    readers.append((Pushed(log, 0, keeps_up=False), 0))
    for reader, first in readers:
        reader.catch_up()
        assert reader.data == b"".join(frame(one, EVENTS) for one in range(first, number))
    if not log.readers:
        assert log.size <= most_bytes or not log.headless


def test_numbers_are_put_on_frames_and_not_on_comments() -> None:
    assert numbered(b"data: a\n\n: ping\n\nevent: x\ndata: b\n\n", 7) == (
        b"id: 7\ndata: a\n\n: ping\n\nid: 8\nevent: x\ndata: b\n\n"
    )


def test_a_position_that_is_not_there_is_said_to_be_gone() -> None:
    log = opened()
    log.append(b"data: a\n\n")
    log.check(1)
    for position in (-1, 2):
        with pytest.raises(Gone):
            log.check(position)
