"""A small chaos, with another seed than the published run. `make chaos` is the large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.clients import Client, Stream
from tests.chaos.contracts import CONTRACTS
from tests.chaos.run import chaos
from tests.chaos.stores import chaos_of_stores
from tests.chaos.upstreams import answer


@pytest.mark.heavy
async def test_a_hundred_streams_break_no_rule(tmp_path: Path) -> None:
    report = await chaos(100, "small", tmp_path, at_once=20, ports=(24702, 24703), keep_s=2)
    assert report.broken == []
    assert report.reloads
    assert sum(stream.resumed for stream in report.streams)


@pytest.mark.heavy
async def test_stores_that_fail_break_no_rule(tmp_path: Path) -> None:
    report = await chaos_of_stores("small", tmp_path, rounds=1)
    assert report.broken == []
    assert report.outages
    assert report.outcomes["paid"]["402"], "the budget was used up"


def _judged(frames: list[bytes], outcome: str) -> Stream:
    """What the rules say of a `chat` answer of three words."""
    client = Client(0, "any", None, [])  # type: ignore[arg-type]  # it asks nobody
    client._runner = type("Replica", (), {"killed": 0})()
    client.stream.words, client.stream.contract = 3, CONTRACTS[0]
    client.stream.frames, client.stream.outcome = frames, outcome
    client._judge()
    return client.stream


def test_the_rules_see_what_is_wrong() -> None:
    words = [b'data:{"token":"%b"}' % word.encode() for word in answer(0, 3)]
    done, error = b"event: done\ndata:[DONE]", b'event: error\ndata:{"error":{}}'
    assert _judged([*words, done], "done").broken == []
    assert _judged([*words[:2], error], "error").broken == []
    for frames, outcome in [
        ([*words[:2], done], "done"),
        ([*words, words[2], done], "done"),
        ([words[1], error], "error"),
        ([*words, done, error], "done"),
        ([*words, done, words[0]], "done"),
        (words, "cut"),
    ]:
        assert _judged(frames, outcome).broken, (frames, outcome)
