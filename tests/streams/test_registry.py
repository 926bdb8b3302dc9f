"""Which answers are kept, and what they are found by."""

from __future__ import annotations

import pytest

from proxy.streams import registry
from proxy.streams.log import StreamLog
from proxy.streams.registry import Streams
from proxy.telemetry.record import StreamRecord

NAME = ("response", "resp_1")


async def opened(streams: Streams) -> StreamLog:
    record = StreamRecord(request_id="r", started_at=0.0)
    log = await streams.open("key", [NAME], most_bytes=100, record=record)
    log.begin({"Content-Type": "text/event-stream"})
    return log


async def test_the_oldest_of_those_that_ended_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MOST_KEPT_BYTES", 250)
    streams = Streams()
    logs = [await opened(streams) for _ in range(4)]
    for log in logs:
        for _ in range(15):
            log.append(b"data: 0\n\n")  # more than it may hold: it keeps less, and less still once nobody reads it
        streams.keep(log, 60)
        log.reader_left()
    held = streams.state()
    assert held["bytes"] <= 250
    for log in logs:
        streams.forget(log)
    assert streams.state() == {"running": 0, "kept": 0, "bytes": 0, "readers": 0}
    streams.keep(await opened(streams), 60)
    assert streams.state()["kept"] == 1, "what was forgotten takes no room"
    streams.forget_all()


async def test_a_name_is_that_of_the_newest_answer() -> None:
    streams = Streams()
    older, newer = await opened(streams), await opened(streams)
    streams.forget(older)
    assert await streams.named(NAME) is newer
    streams.forget(newer)
    assert await streams.named(NAME) is None
