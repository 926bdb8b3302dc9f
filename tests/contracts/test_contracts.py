"""Every contract: the conformance suite, golden bytes from events, and any answer written and read again.

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
from proxy.testing.contract import ContractConformance
from tests.support.answers import split_bytes
from tests.support.contracts import CONTRACTS
from tests.support.ui_events import EXAMPLES, answers

GOLDEN = Path(__file__).parent / "golden" / "answers"
BOTH = pytest.mark.parametrize(("contract", "example"), [(name, example) for name in CONTRACTS for example in EXAMPLES])


def golden(contract, example):
    return GOLDEN / f"{contract}-{example}.{CONTRACTS[contract].suffix}"


class TestEveryContract(ContractConformance):
    @pytest.fixture(params=CONTRACTS)
    def case(self, request):
        return CONTRACTS[request.param].case


def test_every_contract_has_a_row_and_every_row_its_transcripts():
    no_chats = {"completions", "embeddings"}  # tests/e2e/test_completions_and_embeddings.py
    assert {row.case.name for row in CONTRACTS.values()} == {*registered(), "own"} - no_chats
    assert {name for name, row in CONTRACTS.items() if row.case.name == "chat"} == {f"chat-{name}" for name in DIALECTS}
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


@pytest.mark.parametrize("contract", CONTRACTS)
@given(answers(), st.integers(0, 99), st.integers(1, 5))
def test_any_answer_is_read_as_it_was_written_and_where_batches_end_changes_no_byte(contract, events, seed, size):
    row = CONTRACTS[contract]
    try:
        stream = row.write(events)
    except UntoldAnswer:
        assume(False)
    row.case.check(split_bytes(stream, random.Random(seed)), events)
    feed = row.writer()
    assert b"".join(feed(Batch(events[at : at + size])) for at in range(0, len(events), size)) == stream
