"""Completions without messages: golden bytes, what the SDK's types read of them, and what a decoder reads again."""

from pathlib import Path

import pytest
from openai.types import Completion

from proxy.contracts.openai.chunks import decode_text_chunk
from proxy.contracts.openai.completions import DIALECT, CompletionsWriter, choices_expected, decode_request
from proxy.contracts.openai.stream import StreamDecoder
from proxy.errors import UpstreamTruncated
from proxy.events import Batch, Fault, Finish, Notice, ReasoningDelta, Start, TextDelta
from proxy.request import Answer, Usage

GOLDEN = Path(__file__).parents[1] / "golden"
TRANSCRIPTS = {
    "completions-text": [
        Start("up-1", "m"),
        ReasoningDelta("not told here"),
        Notice("ignored", "nor this"),
        TextDelta(' "wörld" 👩‍💻\n'),
        TextDelta("b"),
        Finish("length", Usage(3, 2)),
    ],
    "completions-broke-off": [
        Start("up-1", "m"),
        TextDelta("a"),
        Fault(UpstreamTruncated("the answer was cut off")),
    ],
}


def written(events, size=None):
    writer = CompletionsWriter("cmpl-1", "asked", 1700000000, usage=True)
    if size is None:
        return writer.feed(Batch(list(events)))
    return b"".join(writer.feed(Batch([event])) for event in events)


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_events_are_written_as_the_transcript_says(name):
    golden = (GOLDEN / f"{name}.sse").read_bytes()
    assert written(TRANSCRIPTS[name]) == golden
    assert written(TRANSCRIPTS[name], size=1) == golden
    assert (b"[DONE]" in golden) == (name == "completions-text")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_decoder_reads_what_is_written(size):
    data = written(TRANSCRIPTS["completions-text"])
    decoder = StreamDecoder(1 << 20, dialect=DIALECT, decode=decode_text_chunk)
    batches = [decoder.feed(data[at : at + size]) for at in range(0, len(data), size)]
    events = [event for batch in batches for event in batch.events]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == ' "wörld" 👩‍💻\nb'
    assert events[-1] == Finish("length", Usage(3, 2))
    assert {batch.dialect for batch in batches} == {DIALECT}
    frames = b"".join(payload for batch in batches for payload in batch.payloads)
    assert frames + b"data: [DONE]\n\n" == data


def test_the_sdk_reads_a_whole_one():
    writer = CompletionsWriter("cmpl-1", "asked", 1700000000)
    reply = writer.whole(Answer(text="a\n", model="m", finish_reason="stop", usage=Usage(3, 2)))
    read = Completion.model_validate_json(reply.body)
    assert (read.choices[0].text, read.choices[0].finish_reason, read.usage.total_tokens) == ("a\n", "stop", 5)


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        (b'{"prompt": "a"}', 1),
        (b'{"prompt": ["a", "b"], "n": 2}', 4),
        (b'{"prompt": [1, 2, 3]}', 1),
        (b'{"prompt": [[1, 2], [3]]}', 2),
    ],
)
def test_each_prompt_has_n_choices(body, choices):
    assert choices_expected(decode_request(body, id="r")) == choices
