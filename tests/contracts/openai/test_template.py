"""What is read without parsing is what parsing would have read, whatever the upstream does in between."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.openai.chunks import decode_chunk
from proxy.contracts.openai.stream import MANY_BYTES, StreamDecoder
from proxy.contracts.openai.template import LESSONS, ChunkTemplate, only_text
from proxy.events import StreamEvent, TextDelta


class NeverFits(ChunkTemplate):
    """Everything is parsed."""

    def text(self, event: bytes) -> str | None:
        return None

    def run(self, events: bytes) -> tuple[list[str], int]:
        return [], 0

    def texts(self, events: bytes) -> list[str]:
        return []


def chunk(text: str, *, spaced: bool = False, created: int = 1, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    data = msgspec.json.encode({"id": "chatcmpl-1", "created": created, "model": "m", "choices": [choice], **more})
    return b"data: %b\n\n" % (data.replace(b'"content":', b'"content": ') if spaced else data)


def read(pieces: list[bytes], *, parse_all: bool) -> tuple[list[StreamEvent], bytes]:
    decoder = StreamDecoder(1 << 20)
    if parse_all:
        decoder._template = NeverFits()
    batches = [*map(decoder.feed, pieces), decoder.finish()]
    events = [event for batch in batches for event in batch.events]
    for batch in batches:  # it may be said of fewer than it is true of, never of more
        assert not batch.text_only or {type(event) for event in batch.events} == {TextDelta}
    return events, b"".join(payload for batch in batches for payload in batch.payloads)


def taught(text: str = "one", **more: Any) -> ChunkTemplate:
    template = ChunkTemplate()
    template.learn(chunk(text, **more)[6:-2], text)
    return template


ODD = st.sampled_from(
    [
        chunk("")[:-2] + b"\n\n",
        chunk("a", usage={"prompt_tokens": 1, "completion_tokens": 1}),
        chunk("a", obfuscation="xyz"),
        b"data: [DONE]\n\n",
        b": ping\n\n",
        b"event: x\n" + chunk("named"),
        chunk("crlf").replace(b"\n", b"\r\n"),
        chunk('a","b').replace(b"\\", b""),  # malformed: the string ends early
        chunk("x").replace(b'"x"', b'"x\n"'),
        chunk("x").replace(b'"x"', b'"\xff"'),
        chunk("x").replace(b'"x"', b'"\\"'),
        chunk("x").replace(b'"x"', b"null"),
        b'data: {"error": {"message": "no", "type": "server_error"}}\n\n',
        chunk("x").replace(b'"finish_reason":null', b'"finish_reason":"stop"'),
        chunk("x").replace(b'"index":0', b'"index":1'),
    ]
)
TEXTS = st.text(max_size=8) | st.sampled_from(["[DONE]", "\n\n", '"', "\\", '","', "data: x", "\u2028", "\x7f"])
PLAIN = st.builds(chunk, TEXTS, spaced=st.booleans(), created=st.integers(1, 2))


@given(st.lists(PLAIN | PLAIN | PLAIN | ODD, max_size=30), st.lists(st.integers(1, 2000), min_size=1, max_size=6))
def test_what_is_not_parsed_is_read_the_same(events: list[bytes], sizes: list[int]) -> None:
    stream, pieces, at = b"".join(events), [], 0
    while at < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[at : at + size])
        at += size
    assert repr(read(pieces, parse_all=False)) == repr(read(pieces, parse_all=True))
    assert repr(read([stream], parse_all=False)) == repr(read([stream], parse_all=True))
    assert repr(read(events, parse_all=False)) == repr(read(events, parse_all=True))


def test_a_read_of_many_events_is_taken_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(
        "proxy.contracts.openai.stream.decode_chunk", lambda data: parsed.append(data) or decode_chunk(data)
    )
    words = [f" word{number}" for number in range(100)]
    stream = b"".join(map(chunk, words)) + chunk("end", created=2)
    assert len(stream) > MANY_BYTES
    events, payloads = read([stream], parse_all=False)
    assert [event.text for event in events if isinstance(event, TextDelta)] == [*words, "end"]
    assert payloads == stream
    assert len(parsed) == 2


def test_a_field_of_that_name_elsewhere_is_not_taken_for_the_text() -> None:
    """Its place would be another: the proof by substitution fails, and everything is parsed."""
    data = b'{"choices":[{"index":0,"delta":{"content" :"a"},"x":{"content":"a"}}]}'
    assert only_text(decode_chunk(data)) == "a"
    template = ChunkTemplate()
    template.learn(data, "a")
    assert template.text(b"data: " + data.replace(b'"content":"a"', b'"content":"b"') + b"\n\n") is None


@pytest.mark.parametrize("text", ['say "content":"one"', '\\"content":"one'])
def test_text_that_looks_like_the_field_teaches_nothing_wrong(text: str) -> None:
    template = taught(text)
    assert template.text(chunk("two")) == "two"


def test_a_stream_that_always_differs_elsewhere_is_not_learned_from_for_ever() -> None:
    template = ChunkTemplate()
    for number in range(LESSONS + 5):
        template.learn(chunk("a", obfuscation=str(number))[6:-2], "a")
    assert template.text(chunk("b", obfuscation=str(LESSONS - 1))) == "b"
    assert template.text(chunk("b", obfuscation=str(LESSONS + 4))) is None


def test_a_stream_that_changes_now_and_then_is_learned_from_again() -> None:
    template = ChunkTemplate()
    for second in range(LESSONS + 5):
        template.learn(chunk("a", created=second)[6:-2], "a")
        assert template.text(chunk("b", created=second)) == "b"
        template.fitted = True


def test_a_large_event_is_still_refused() -> None:
    decoder = StreamDecoder(1000)
    decoder.feed(chunk("a") + chunk("b"))
    batch = decoder.feed(chunk("x" * 2000))
    assert batch.terminal is not None
    assert "larger than 1000 bytes" in repr(batch.terminal)
