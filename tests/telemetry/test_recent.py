"""The ring of the last records."""

from __future__ import annotations

from proxy.telemetry.recent import RecentRequests
from proxy.telemetry.record import StreamRecord


def record(number: int) -> StreamRecord:
    return StreamRecord(request_id=f"r{number}", started_at=float(number), content_events=number)


def ids(records: list[StreamRecord]) -> list[str]:
    return [one.request_id for one in records]


def test_it_keeps_the_last_and_counts_all() -> None:
    recent = RecentRequests(3)
    for number in range(1, 6):
        recent.ended(record(number))
    assert (recent.number, recent.tokens) == (5, 15)
    assert ids(recent.since(0)) == ["r3", "r4", "r5"]
    assert ids(recent.since(4)) == ["r5"]
    assert recent.since(5) == []
    assert next(reversed(recent)).request_id == "r5"


def test_a_number_of_an_earlier_process_means_all() -> None:
    recent = RecentRequests(3)
    recent.ended(record(1))
    assert ids(recent.since(70)) == ["r1"]
