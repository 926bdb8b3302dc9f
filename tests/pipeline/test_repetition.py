"""Loops are found within 2,000 characters, and what merely repeats its form is none."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.pipeline.repetition import Repetition
from tests.support.corpus import MAKERS, WORDS, prose, tokens


def tripped_at(text: str, random: Random) -> int | None:
    """After how many characters the text counts as a loop; in the pieces that a model would stream."""
    guard, length = Repetition(), 0
    for piece in tokens(text, random):
        length += len(piece)
        if guard.feed(piece):
            return length
    return None


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", range(5))
def test_what_people_want_is_no_loop(make: Callable[[Random], str], seed: int) -> None:
    text = make(Random(seed))
    assert len(text) > 3_000, "long enough to tell"
    assert tripped_at(text, Random(seed)) is None


@given(st.text(min_size=1, max_size=500), st.integers(0, 1 << 32))
@example("\n", 0)
@example("-" * 120 + "\n", 0)
@example("I will try again. Let me think about it once more. ", 0)
def test_a_piece_over_and_over_is_found_within_2000_characters(piece: str, seed: int) -> None:
    random = Random(seed)
    before = prose(random)[: random.randint(0, 6_000)]
    at = tripped_at(before + piece * (4_000 // len(piece) + 1), random)
    assert at is not None
    assert at <= len(before) + 2_000


@pytest.mark.parametrize("length", [600, 900, 1_300])
def test_a_long_piece_is_found_with_its_third_time(length: int) -> None:
    random = Random(length)
    piece = " ".join(random.choices(WORDS, k=300))[:length]
    assert tripped_at(piece * 2, random) is None
    at = tripped_at(prose(random) + piece * 5, random)
    assert at is not None
    assert at <= len(prose(random)) * 2 + 5 * length


@pytest.mark.parametrize("seed", range(20))
def test_a_few_phrases_in_any_order_are_a_loop(seed: int) -> None:
    random = Random(seed)
    before = prose(random)[:3_000]
    phrases = ("Wait, let me think again. ", "No, that is not right. ", "Let me check that again. ")
    at = tripped_at(before + "".join(random.choices(phrases, k=300)), random)
    assert at is not None
    assert at <= len(before) + 3_000


def test_an_answer_in_one_piece_is_looked_at_throughout() -> None:
    random = Random(1)
    assert Repetition().feed(prose(random) + "again and " * 300 + prose(random))
    assert not Repetition().feed(prose(random) + prose(random))
