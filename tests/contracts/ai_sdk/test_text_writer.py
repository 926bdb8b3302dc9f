"""Text streams of the AI SDK: text and nothing else."""

from proxy.contracts.ai_sdk.text_writer import AITextWriter
from proxy.events import Batch, RefusalDelta, TextDelta


def test_every_text_arrives_as_the_model_wrote_it():
    tokens = ["a\r", "\n", "data: x\n\n", "[DONE]", "👩‍💻", "\ufeff", "\u2028", "\x00", " "]
    writer = AITextWriter()
    assert b"".join(writer.feed(Batch([TextDelta(token)])) for token in tokens).decode() == "".join(tokens)
    assert writer.feed(Batch([RefusalDelta("No.")])) == b"No."


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert AITextWriter().feed(Batch([TextDelta("a\ud83d")])) == "a\ufffd".encode()
