"""Text that goes on after a cut: wherever the cut is and whatever is repeated, each word is there once, in order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pipeline.joint import Joint, NotJoined

WORDS = [f"word{number}" for number in range(60)]
ANSWER = " ".join(WORDS)


def joined(sent: str, following: str, *, exact: bool, size: int) -> str:
    joint = Joint(sent, exact=exact)
    shown = "".join(joint.feed(following[at : at + size]) for at in range(0, len(following), size))
    return sent + shown + joint.end()


@given(st.integers(1, len(ANSWER) - 1), st.integers(0, 200), st.integers(1, 40))
def test_what_the_continuation_repeats_is_left_out(cut: int, overlap: int, size: int) -> None:
    overlap = 0 if overlap < 8 else min(overlap, cut)
    assert joined(ANSWER[:cut], ANSWER[cut - overlap :], exact=False, size=size) == ANSWER


@given(st.integers(20, len(ANSWER) - 1), st.integers(1, 40))
def test_a_continuation_that_starts_over_is_skipped_to_where_it_goes_on(cut: int, size: int) -> None:
    assert joined(ANSWER[:cut], ANSWER, exact=False, size=size) == ANSWER


@given(st.integers(1, len(ANSWER) - 1), st.integers(1, 40))
def test_a_target_that_goes_on_letter_for_letter_loses_nothing(cut: int, size: int) -> None:
    """It was sent the answer without the white space at its end, which it writes again."""
    sent = ANSWER[:cut]
    assert joined(sent, ANSWER[len(sent.rstrip()) :], exact=True, size=size) == ANSWER
    again = "ha ha ha ha ha ha ha ha"
    assert joined("He laughed: ha ha ha ha", " ha ha ha ha", exact=True, size=size) == "He laughed: " + again


@given(st.integers(40, 200), st.integers(20, 30), st.integers(1, 40))
def test_one_that_starts_over_in_other_words_is_refused(cut: int, same: int, size: int) -> None:
    with pytest.raises(NotJoined):
        joined(ANSWER[:cut], ANSWER[:same] + "#" + ANSWER[same:], exact=False, size=size)
    with pytest.raises(NotJoined):
        joined(ANSWER[:cut], ANSWER[:same], exact=False, size=size)


def test_a_silence_shows_what_is_no_repetition() -> None:
    joint = Joint(ANSWER, exact=False)
    assert joint.feed(" and then") == ""
    assert joint.waited() == " and then"
    assert joint.feed(" more") == " more"
    repeating = Joint(ANSWER, exact=False)
    assert repeating.feed("word57 word") == ""
    assert repeating.waited() == "", "it may be repeating the end"
    assert repeating.feed("58 word59 and on") + repeating.end() == " and on"


def test_hostile_text_joins_too() -> None:
    dice = random.Random(3)
    for _ in range(300):
        answer = "".join(dice.choice("ab \n😀é") for _ in range(dice.randint(30, 600)))
        cut = dice.randint(10, len(answer) - 1)
        overlap = dice.choice([0, min(cut, dice.randint(8, 60))])
        following = answer[cut - overlap :]
        if overlap == 0 and any(answer[:cut].endswith(following[:k]) for k in range(8, len(following) + 1)):
            continue  # it looks like a repetition, and nobody can tell
        if any(answer[:cut].endswith(following[:k]) for k in range(overlap + 1, len(following) + 1)):
            continue
        if answer.startswith(following[:16]):
            continue
        assert joined(answer[:cut], following, exact=False, size=dice.randint(1, 50)) == answer
