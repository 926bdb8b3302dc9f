from proxy.telemetry.record import AttemptRecord, StreamRecord


def record() -> StreamRecord:
    return StreamRecord(request_id="r", started_at=100.0)


def test_gaps_are_measured_between_content_not_from_the_start():
    seen = record()
    for now in (101.0, 101.5, 104.5, 105.0):
        seen.content(now, 1)
    assert seen.first_content_s == 1.0
    assert seen.longest_gap_s == 3.0
    assert seen.mean_gap_s == 4.0 / 3
    assert seen.last_content_at == 105.0


def test_one_batch_has_no_gap_and_none_has_no_first_token():
    seen = record()
    assert seen.first_content_s is None
    assert seen.mean_gap_s is None
    seen.content(101.0, 1)
    assert seen.first_content_s == 1.0
    assert seen.mean_gap_s is None


def test_the_first_end_reason_stands():
    seen = record()
    assert seen.finish("upstream_truncated", 110.0, error_code="upstream_truncated")
    assert not seen.finish("client_gone", 111.0)
    assert (seen.end, seen.error_code, seen.duration_s) == ("upstream_truncated", "upstream_truncated", 10.0)


def test_records_do_not_share_their_attempts():
    one, other = record(), record()
    one.attempts.append(AttemptRecord("a"))
    assert other.attempts == []
