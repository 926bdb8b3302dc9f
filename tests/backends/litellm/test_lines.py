"""What stands between an upstream's lines and litellm."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.litellm.lines import LineGuard
from proxy.errors import FrameTooLarge

STREAM = (
    b': hello\r\nevent: x\r\ndata: {"a": "[DONE] data: [DONE]\\\\[DONE]"}\r\n\r\n'
    + 'data: {"é": [1, 2]}\n\ndata: ping\n\n{"b": "東京 😀"}\ndata:[DONE]\n\n'.encode()
)


def fed(guard: LineGuard, *pieces: bytes) -> bytes:
    return b"".join(guard.feed(piece) for piece in pieces) + guard.finish()


def values(stream: bytes) -> list[object]:
    lines = [line.removeprefix(b"data:").strip() for line in stream.splitlines()]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def test_says_the_same_and_hides_the_end_sentinel_inside_texts() -> None:
    out = fed(LineGuard(1000), STREAM)
    assert values(out) == values(STREAM)
    assert out.count(b"[DONE]") == 1
    assert out.endswith(b"data:[DONE]\n\n")


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_same_lines_however_pieces_fall(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    guard = LineGuard(1000)
    assert fed(guard, *pieces) == fed(LineGuard(1000), STREAM)
    assert guard.done
    assert guard.error is None


def test_hands_out_only_whole_lines() -> None:
    guard = LineGuard(1000)
    assert guard.feed(b'data: {"a"') == b""
    assert guard.feed(b': 1}\ndata: {"b') == b'data: {"a": 1}\n'


def test_a_broken_line_is_an_error_after_what_came_before_it() -> None:
    guard = LineGuard(1000)
    assert guard.feed(b'data: {"a": 1}\n\ndata: {"b": \n\ndata: {"c": 3}\n\n') == b'data: {"a": 1}\n\n'
    assert guard.error is not None


@pytest.mark.parametrize("pieces", [[b"x" * 200 + b"\n"], [b"x" * 50] * 3, [b"ok\n" + b"y" * 200]])
def test_an_endless_line_is_an_error_and_is_not_kept(pieces: list[bytes]) -> None:
    guard = LineGuard(100)
    for piece in pieces:
        guard.feed(piece)
    assert isinstance(guard.error, FrameTooLarge)


@pytest.mark.parametrize(("rest", "kept"), [(b'{"done": true}', b'{"done": true}'), (b'{"done": tr', b"")])
def test_a_last_line_without_an_end_stands_only_if_it_is_whole(rest: bytes, kept: bytes) -> None:
    assert fed(LineGuard(100), rest) == kept


def test_text_that_names_the_sentinel_is_no_end() -> None:
    guard = LineGuard(1000)
    guard.feed(b'data: {"text": "data: [DONE]"}\n\n')
    assert not guard.done
