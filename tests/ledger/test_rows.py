"""What a request that is over becomes in the ledger."""

from __future__ import annotations

import time

import pytest

from proxy.ledger.rows import LONGEST, MOST, rows_of
from proxy.request import Usage
from tests.ledger.rows import attempt, record


def test_each_target_that_was_asked_is_a_row_and_what_was_passed_over_is_none():
    refused = attempt(committed_at=None, usage=None, error_code="upstream_auth", status=502)
    passed_over = attempt(started_at=0.0, committed_at=None, usage=None, error_code="circuit_open")
    rows = list(rows_of(record(passed_over, refused, attempt(role="retry")), now=3.0))
    assert [(row.attempt, row.role, row.outcome) for row in rows] == [
        (1, "answer", "upstream_auth"),
        (2, "retry", "ok"),
    ]
    assert len({row.id for row in rows}) == 1
    assert {row.request_id for row in rows} == {"mine"}


def test_two_requests_that_say_the_same_id_have_rows_of_their_own():
    (first,), (second,) = rows_of(record(attempt()), now=3.0), rows_of(record(attempt()), now=3.0)
    assert first.request_id == second.request_id
    assert first.id != second.id


@pytest.mark.parametrize(
    ("code", "tokens"),
    [("upstream_connect", 0), ("upstream_auth", 0), ("invalid_request", 0), ("target_busy", 0), ("rate_limited", 0)]
    + [(code, None) for code in ("client_gone", "upstream_timeout", "hedge_lost", "upstream_truncated", "limit")],
)
def test_what_was_refused_is_free_and_what_was_given_up_is_unknown(code: str, tokens: int | None):
    (row,) = rows_of(record(attempt(committed_at=None, usage=None, error_code=code)), now=3.0)
    assert (row.usage, row.input_tokens, row.output_tokens) == ("none", tokens, tokens)
    assert row.cost_usd == tokens


def test_an_answer_without_usage_is_unknown_and_never_zero():
    (row,) = rows_of(record(attempt(usage=None)), now=3.0)
    assert (row.usage, row.input_tokens, row.cost_usd) == ("none", None, None)


def test_times_are_of_the_calendar():
    (row,) = rows_of(record(attempt()), now=4.0)
    assert row.ended_at == pytest.approx(time.time() - 1, abs=5)
    assert row.ended_at - row.started_at == pytest.approx(2.0)
    assert row.first_token_s == pytest.approx(0.5)
    assert row.day == time.strftime("%Y-%m-%d", time.gmtime(row.ended_at))


def test_what_clients_and_upstreams_say_is_bounded():
    said = record(attempt(usage=Usage(10**30, -5)), user="\x00\ud800\n" + "x" * 1000)
    (row,) = rows_of(said, now=3.0)
    assert (row.input_tokens, row.output_tokens) == (MOST, 0)
    assert row.user == "???" + "x" * (LONGEST - 3)
