"""Two revisions, or two rows of `PEERS`, against each other: what a relayed token costs, in alternating pairs.

A base that is a revision is built from a git worktree into a folder of its own and runs on the same `.venv`; rows are of
the working tree. Pairs run base-head, head-base, base-head, …, so that a machine that slows down is slow to both. The figure
of a pair is head over base; what counts is the median of the pairs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bench.measure import Record, measure
from bench.peers import CHAT, PEERS, Peer
from bench.tools import ROOT, WORK, CannotMeasure
from bench.workloads import WORKLOADS

MARGIN = 0.10
"""A median this much worse fails. Pairs of one and the same revision stay within about half of it."""

PAGE_MARGIN = 0.01
"""What an open page may cost. So small a difference shows in the median of many pairs only."""


@dataclass(frozen=True)
class Comparison:
    """CPU per token of the head over that of the base, one number for each pair."""

    load: str
    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def worse(self, margin: float = MARGIN) -> bool:
        return self.median > 1 + margin

    def line(self, margin: float = MARGIN) -> str:
        verdict = "WORSE" if self.worse(margin) else "fine"
        spread = f"{min(self.ratios):.3f} to {max(self.ratios):.3f} in {len(self.ratios)} pairs"
        return f"{self.load:<11} {self.median:.3f} × the base's CPU per token ({spread}): {verdict}"


def compare(
    other: Peer, head: Peer, loads: Iterable[str], *, rounds: int, seconds: float, pin: bool
) -> list[Comparison]:
    """What the head costs beside the other. Raises `CannotMeasure` where one of them does not serve."""

    def run(peer: Peer, load: str) -> Record:
        print(f"{load}: {peer.name}", file=sys.stderr, flush=True)
        return measure(peer, WORKLOADS[load], seconds=seconds, pin=pin)

    return [Comparison(load, pairs(run, other, head, load, rounds)) for load in loads]


@contextmanager
def base(revision: str) -> Iterator[Peer]:
    """A row of `PEERS`, or a revision as a peer, installed without its dependencies for as long as the block lasts.

    Raises `CannotMeasure` for a revision that is none.
    """
    if revision in PEERS:
        yield PEERS[revision]
        return
    commit = _run("git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=WORK) as site:
        tree = f"{site}/worktree"
        _run("git", "worktree", "add", "--quiet", "--detach", tree, commit)
        try:
            pip = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input", "install"]
            _run(*pip, "--no-index", "--no-deps", "--no-build-isolation", "--target", site, tree)
        finally:
            _run("git", "worktree", "remove", "--force", tree)
        # The folder that is first on the path also says which entry points there are.
        yield replace(CHAT, name=f"{revision} /chat", environment={"PYTHONPATH": site})


def pairs(run: Callable[[Peer, str], Record], base: Peer, head: Peer, load: str, rounds: int) -> tuple[float, ...]:
    """Head over base, for each pair; every other pair is run the other way round."""
    ratios = []
    for turn in range(rounds):
        order: Sequence[Peer] = (base, head) if turn % 2 == 0 else (head, base)
        costs = {peer.name: _cost(run(peer, load)) for peer in order}
        ratios.append(costs[head.name] / costs[base.name])
    return tuple(ratios)


def _cost(record: Record) -> float:
    if "error" in record:
        raise CannotMeasure(record["error"])
    if record["failed"]:
        raise CannotMeasure(f"{record['proxy']}: {record['failed']} answers failed: {record.get('failures')}")
    cost: float = record["cpu_us_per_token"]
    if not cost:
        raise CannotMeasure("the runs are too short for clock ticks of 10 ms: give more --seconds")
    return cost


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMeasure(f"`{' '.join(command)}` failed: {done.stderr.strip()[-1000:] or 'no such revision'}")
    return done.stdout.strip()
