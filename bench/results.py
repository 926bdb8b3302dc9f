"""The raw figures: a file of JSON lines that runs add to, and what a page or a goal reads from it.

A run writes a line about itself and the machine (`run`, `fingerprint`, …), then one for each cell (`run`, `round`,
`load`, `proxy`, figures), as it measures them. Figures of one revision may come from several runs, a load or two each.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import Record
from bench.peers import PEERS
from bench.plan import Turn
from bench.tools import HERE, ROOT, CannotMeasure
from bench.workloads import WORKLOADS

COUNTS_WORST = ("failed",)
"""Of these the most of all runs is shown: a median would hide one bad run in three."""

SHAPING = ("measure.py", "workloads.py", "peers.py", "processes.py", "upstream.c", "loadgen.c", "litellm_alone.py")
"""Of the tools, those that decide what a figure is; a table may change without measuring anew."""

Cell = tuple[str, str]
"""A load and a proxy's name."""


def fingerprint() -> str:
    """Changes with the product, its dependencies and what measures it; not with what is written meanwhile."""
    files = [*ROOT.glob("proxy/**/*.py"), ROOT / "requirements.lock"]
    files += [HERE / name for name in SHAPING] + [*(HERE / "configs").iterdir(), *HERE.glob("aiohttp_*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def read(path: Path) -> tuple[list[dict[str, Any]], list[Record]]:
    """What is known of the runs, and the records of all of them."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [line for line in lines if "proxy" not in line], [line for line in lines if "proxy" in line]


def resumed(path: Path, mark: str, asked: Sequence[Turn]) -> tuple[list[dict[str, Any]], list[Turn]]:
    """The lines of a file that go on to hold, and the turns that are still to be measured.

    A turn counts when one run measured all of its proxies; what is left of a turn that was broken off is dropped.
    Raises `CannotMeasure` for figures of other code: they cannot stand beside new ones.
    """
    if not path.exists():
        return [], list(asked)
    runs, records = read(path)
    if any(run.get("fingerprint") != mark for run in runs):
        raise CannotMeasure(f"{path} holds figures of another revision; without --resume they are replaced")
    measured: dict[tuple[str, str, int], set[str]] = defaultdict(set)
    for record in records:
        if "error" not in record:
            measured[record["run"], record["load"], record["round"]].add(record["proxy"])

    def whole(turn: Turn) -> bool:
        wanted = {PEERS[key].name for key in turn.proxies}
        return any(
            wanted <= names for (_, load, count), names in measured.items() if (load, count) == (turn.load, turn.round)
        )

    left = [turn for turn in asked if not whole(turn)]
    again = {(turn.load, turn.round) for turn in left}
    kept = [record for record in records if (record["load"], record["round"]) not in again]
    used = {record["run"] for record in kept}
    return [run for run in runs if run["run"] in used] + kept, left


class Results:
    """Figures by cell. Those of cells that did not come about are not among them."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._cells: dict[Cell, list[Record]] = defaultdict(list)
        for record in records:
            if "error" not in record:
                self._cells[record["load"], record["proxy"]].append(record)
        self.medians: dict[Cell, dict[str, float]] = {cell: _median(self._cells[cell]) for cell in self._in_order()}
        """Per cell, in the tables' order: the median of each figure, how many `runs` there were, `saturated` if most were."""

    def figure(self, cell: Cell, name: str) -> float | None:
        """The median of a figure; `None` where it was not measured."""
        return self.medians.get(cell, {}).get(name)

    def ratio(self, above: Cell, below: Cell, name: str) -> float | None:
        """The median of the ratios of one figure of two cells, both of the same round of the same run."""
        over, under = (self._by_round(cell, name) for cell in (above, below))
        ratios = [over[key] / under[key] for key in over if under.get(key)]
        return statistics.median(ratios) if ratios else None

    def all_of(self, proxy: str, name: str) -> list[float]:
        """A figure of a proxy in all runs under all loads."""
        return [run[name] for (_, of), runs in self._cells.items() if of == proxy for run in runs if name in run]

    def _by_round(self, cell: Cell, name: str) -> Mapping[tuple[str, int], float]:
        return {(run["run"], run["round"]): run[name] for run in self._cells.get(cell, []) if name in run}

    def _in_order(self) -> list[Cell]:
        loads, names = list(WORKLOADS), [peer.name for peer in PEERS.values()]
        return sorted(self._cells, key=lambda cell: (loads.index(cell[0]), names.index(cell[1])))


def _median(runs: Sequence[Record]) -> dict[str, float]:
    names = {name for run in runs for name, value in run.items() if isinstance(value, int | float)}
    figures: dict[str, float] = {"runs": len(runs)}
    for name in sorted(names - {"round"}):
        values = [float(run[name]) for run in runs if name in run]
        figures[name] = max(values) if name in COUNTS_WORST else statistics.median(values)
    return figures
