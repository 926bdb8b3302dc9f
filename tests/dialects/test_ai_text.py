"""Text streams of the AI SDK: text and nothing else."""

from pathlib import Path

import pytest

from proxy.dialects.ai_text import text_of
from proxy.events import Batch, RefusalDelta, TextDelta
from tests.support.ui_events import EXAMPLES

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", EXAMPLES)
def test_events_are_written_as_the_transcript_says(name):
    expected = (GOLDEN / f"ai-text-{name}.txt").read_bytes()
    assert text_of(Batch(EXAMPLES[name])) == expected
    assert b"".join(text_of(Batch([event])) for event in EXAMPLES[name]) == expected


def test_every_text_arrives_as_the_model_wrote_it():
    tokens = ["a\r", "\n", "data: x\n\n", "[DONE]", "👩‍💻", "\ufeff", "\u2028", "\x00", " "]
    assert b"".join(text_of(Batch([TextDelta(token)])) for token in tokens).decode() == "".join(tokens)
    assert text_of(Batch([RefusalDelta("No.")])) == b"No."


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert text_of(Batch([TextDelta("a\ud83d")])) == "a\ufffd".encode()
