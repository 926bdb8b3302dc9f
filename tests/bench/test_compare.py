"""Two revisions are run in alternating pairs, and the median of the pairs decides."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import compare
from bench.compare import Comparison, pairs
from bench.peers import CHAT, Peer
from bench.tools import CannotMeasure
from tests.support.said import assert_said

BASE = replace(CHAT, name="base")


def machine(costs: dict[str, float], asked: list[str]):
    def run(peer: Peer, load: str) -> dict[str, object]:
        asked.append(peer.name)
        return {"proxy": peer.name, "load": load, "failed": 0, "cpu_us_per_token": costs[peer.name]}

    return run


def test_every_other_pair_is_run_the_other_way_round():
    asked: list[str] = []
    ratios = pairs(machine({"base": 40.0, CHAT.name: 44.0}, asked), BASE, CHAT, "burst", 3)
    assert asked == ["base", CHAT.name, CHAT.name, "base", "base", CHAT.name]
    assert ratios == pytest.approx((1.1, 1.1, 1.1))


def test_one_bad_pair_decides_nothing():
    comparison = Comparison("burst", (0.99, 1.60, 1.01))
    assert not comparison.worse()
    assert_said([comparison.line()], ["burst 1.010 0.990 1.600 3"])


def test_a_median_beyond_the_margin_is_worse():
    assert Comparison("burst", (1.12, 1.11, 1.05)).worse()
    assert not Comparison("burst", (1.12, 1.11, 1.05)).worse(margin=0.2)


@pytest.mark.parametrize(
    ("broken", "words"),
    [({"error": "did not come up"}, "did not come up"), ({"failed": 3}, "3")],
)
def test_a_revision_that_does_not_serve_has_no_cost(broken: dict[str, object], words: str):
    def run(peer: Peer, load: str) -> dict[str, object]:
        return {"proxy": peer.name, "load": load, "failed": 0, "cpu_us_per_token": 1.0, **broken}

    with pytest.raises(CannotMeasure, match=words):
        pairs(run, BASE, CHAT, "burst", 1)


@pytest.mark.heavy
def test_the_base_is_the_other_revisions_own_code_and_leaves_nothing_behind():
    built: list[Path] = []

    def run(peer: Peer) -> str:
        command = [sys.executable, "-c", "import proxy; print(proxy.__file__)"]
        return subprocess.run(
            command, env=dict(peer.environment), cwd="/", check=True, capture_output=True, text=True
        ).stdout

    with compare.base("HEAD") as peer:
        built.append(Path(peer.environment["PYTHONPATH"]))
        assert run(peer).startswith(str(built[0]))
    assert not built[0].exists()


def test_a_revision_that_is_not_one_is_named():
    with pytest.raises(CannotMeasure, match="no-such-revision"), compare.base("no-such-revision"):
        pass
