"""The page of clients says what the tests show, and nothing else."""

from __future__ import annotations

import re

from tests.clients.page import PAGE, page
from tests.clients.sights import SIGHTS
from tests.clients.table import CLIENTS
from tests.clients.test_conformance import BEATS, cells


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_tick_is_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.count("|") == len(SIGHTS) + 5]
    assert sum(row.count("✓") for row in rows) == len(cells())
    assert len([row for row in rows if not row.startswith(("| client ", "|---"))]) == len(CLIENTS)


def test_every_blank_has_its_reason() -> None:
    told = len(re.findall(r"^\d+\. ", PAGE.read_text(), re.MULTILINE))
    assert told == len({reason for client in CLIENTS for sight, reason in client.without.items() if sight in SIGHTS})


def test_no_excuse_is_for_something_that_is_not_looked_for() -> None:
    assert {sight for client in CLIENTS for sight in client.without} <= set(SIGHTS)


def test_heartbeats_are_looked_for_in_every_contract() -> None:
    assert {client.contract for client in CLIENTS if "heartbeats" not in client.without} == set(BEATS)
