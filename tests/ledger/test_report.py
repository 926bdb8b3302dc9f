"""Sums of the ledger, and how they are printed."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest

from proxy.ledger.report import GROUPS, Format, dollars, read_by, read_since, report, written
from proxy.ledger.store import LedgerStore
from tests.ledger.rows import row


@pytest.fixture
def filled(store: LedgerStore) -> LedgerStore:
    store.insert(
        [
            row("a", key="web", model="m"),
            row("b", 0, key="web", model="m", role="answer", outcome="upstream_connect", usage="none", cost_usd=0.0,
                input_tokens=0, output_tokens=0),
            row("b", 1, key="web", model="n", role="retry", cached_tokens=4, reasoning_tokens=2, cost_usd=2.0),
            row("c", key="batch", model="n", usage="none", input_tokens=None, output_tokens=None, cached_tokens=None,
                reasoning_tokens=None, cost_usd=None, day="2026-10-01", ended_at=time.time() - 60 * 86_400),
        ]
    )  # fmt: skip
    return store


def test_sums_are_by_what_was_asked_for(filled: LedgerStore):
    found = report(filled, ["key"])
    assert [(one.by["key"], one.sums.requests, one.sums.attempts) for one in found.groups][:2][-1][0] in {
        "web",
        "batch",
    }
    web = next(one.sums for one in found.groups if one.by["key"] == "web")
    assert (web.requests, web.attempts, web.input_tokens, web.output_tokens) == (2, 3, 20, 10)
    assert (web.cached_tokens, web.reasoning_tokens, web.cost_usd, web.unknown, web.unpriced) == (4, 2, 2.25, 0, 0)
    batch = next(one.sums for one in found.groups if one.by["key"] == "batch")
    assert (batch.cost_usd, batch.unknown, batch.unpriced) == (None, 1, 1)
    assert (found.total.requests, found.total.cost_usd, found.total.unpriced) == (3, 2.25, 1)


def test_own_rows_and_later_rows(filled: LedgerStore):
    assert report(filled, [], key="batch").total.requests == 1
    assert report(filled, [], since=time.time() - 3600).total.requests == 2
    assert report(filled, [], key="nobody").total.requests == 0


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_can_be_asked_for(filled: LedgerStore, name: str):
    assert sum(one.sums.attempts for one in report(filled, [name]).groups) == 4


def test_a_sum_with_unknown_parts_says_at_least(filled: LedgerStore):
    text = written(report(filled, ["month", "key"]), "table")
    assert [line.split() for line in text.splitlines()][1][:3] == ["2026-10", "batch", "1"]
    assert "unknown" in text.splitlines()[1]
    assert text.splitlines()[-1].startswith("total")
    assert "at least 20" in text.splitlines()[-1]
    assert text.splitlines()[-1].endswith("at least $2.25")
    assert "at least" not in text.splitlines()[2]
    assert json.loads(written(report(filled, []), "json"))["total"]["at_least"] == {"tokens": True, "cost": True}


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_nothing_is_a_report_too(store: LedgerStore, format: Format):
    assert written(report(store, ["key"]), format)


def test_a_spreadsheet_runs_nothing_that_a_client_says(store: LedgerStore):
    store.insert([row(user="=1+1"), row("b", user='a,"b')])
    lines = list(csv.reader(io.StringIO(written(report(store, ["user"]), "csv"))))
    assert lines[0][:3] == ["user", "requests", "attempts"]
    assert {line[0] for line in lines[1:]} == {"'=1+1", 'a,"b'}


def test_what_cannot_be_read_is_told():
    assert read_by("key, model,key") == ["key", "model"]
    with pytest.raises(ValueError, match="'name'"):
        read_by("key,name")
    assert read_since("7d") == pytest.approx(time.time() - 7 * 86_400, abs=60)
    assert read_since("2026-11-30") == 1795996800
    assert read_since("2026-11-30T01:00+01:00") == 1795996800
    with pytest.raises(ValueError, match="'yesterday'"):
        read_since("yesterday")


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.0, "$0"), (12.5, "$12.50"), (0.00235, "$0.00235"), (0.0000000375, "$0.0000000375"), (0.25, "$0.25")],
)
def test_dollars(usd: float, text: str):
    assert dollars(usd) == text
