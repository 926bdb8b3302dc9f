"""Every contract, both ways: golden bytes from events and events from golden bytes, however they are cut.

A contract that is registered without a row in `tests/support/contracts.py`, or a row without its transcripts, fails.
"""

import os
import random
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.contracts.base import registered
from proxy.contracts.chat.writer import DIALECTS
from proxy.errors import UntoldAnswer
from proxy.events import Batch
from tests.support.answers import split_bytes
from tests.support.contracts import CONTRACTS
from tests.support.ui_events import EXAMPLES, answers

GOLDEN = Path(__file__).parent / "golden" / "answers"
BOTH = pytest.mark.parametrize(("contract", "example"), [(name, example) for name in CONTRACTS for example in EXAMPLES])


def golden(contract, example):
    return GOLDEN / f"{contract}-{example}.{CONTRACTS[contract].suffix}"


def in_pieces(stream, size):
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def test_every_contract_has_a_row_and_every_row_its_transcripts():
    assert {row.frontend for row in CONTRACTS.values()} == {*registered(), "declared"}
    assert {name for name, row in CONTRACTS.items() if row.frontend == "chat"} == {f"chat-{name}" for name in DIALECTS}
    wanted = {golden(contract, example) for contract in CONTRACTS for example in EXAMPLES}
    assert wanted == set(GOLDEN.iterdir())


@BOTH
def test_events_are_written_as_the_transcript_says(contract, example):
    row, events, file = CONTRACTS[contract], EXAMPLES[example], golden(contract, example)
    if os.environ.get("WRITE_GOLDEN"):  # then look at the difference before it is committed
        file.write_bytes(row.write(events))
    assert row.write(events) == file.read_bytes()
    feed = row.writer()
    assert b"".join(feed(Batch([event])) for event in events) == file.read_bytes()


@BOTH
def test_the_transcript_is_read_as_the_events_however_it_is_cut(contract, example):
    row, stream, dice = CONTRACTS[contract], golden(contract, example).read_bytes(), random.Random(7)
    for pieces in (
        [stream],
        *[in_pieces(stream, size) for size in (1, 2, 7, 64)],
        *[split_bytes(stream, dice) for _ in range(20)],
    ):
        row.check(pieces, EXAMPLES[example])


@pytest.mark.parametrize("contract", CONTRACTS)
@given(answers(), st.integers(0, 99))
def test_what_is_written_is_read_as_the_same_answer(contract, events, seed):
    row = CONTRACTS[contract]
    try:
        stream = row.write(events)
    except UntoldAnswer:
        assume(False)
    row.check(split_bytes(stream, random.Random(seed)), events)


@pytest.mark.parametrize("contract", CONTRACTS)
@given(answers(), st.integers(1, 5))
def test_where_batches_are_cut_changes_no_byte(contract, events, size):
    row = CONTRACTS[contract]
    feed = row.writer()
    try:
        whole = row.write(events)
    except UntoldAnswer:
        assume(False)
    assert b"".join(feed(Batch(events[at : at + size])) for at in range(0, len(events), size)) == whole
