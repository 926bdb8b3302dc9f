"""From records to a page of Markdown: medians, one table of them all, one of the goals."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.goals import Medians, Verdict, judge, number
from bench.measure import Record
from bench.peers import OURS, PEERS
from bench.workloads import WORKLOADS

COUNTS_WORST = ("failed",)
"""Of these the most of all runs is shown: a median would hide one bad run in three."""


INTRODUCTION = """\
# Measured

Written by the tools in `bench/`. What each figure means: [docs/performance.md](../docs/performance.md).
"""

HEAD = [
    "load",
    "proxy",
    "CPU µs / token",
    "CPU ms / request",
    "added / token µs, p50 / p99",
    "added / first token ms, p50 / p99",
    "KB / stream",
    "answers / s",
    "tokens / s",
    "failed",
    "harness CPU",
]


def read(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """The machine (first line) and the records (the others) of a file of raw figures."""
    machine, *records = (json.loads(line) for line in path.read_text().splitlines() if line.strip())
    return machine, records


def medians(records: Iterable[Record]) -> dict[tuple[str, str], dict[str, float]]:
    """Per cell, in the tables' order: the median of each figure, how many `runs` there were, `saturated` if most were."""
    cells: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if "error" not in record:
            cells[record["load"], record["proxy"]].append(record)
    return {key: _median(cells[key]) for key in _in_order(cells)}


def _median(runs: Sequence[Record]) -> dict[str, float]:
    names = {name for run in runs for name, value in run.items() if isinstance(value, int | float)}
    figures: dict[str, float] = {"runs": len(runs)}
    for name in sorted(names):
        values = [float(run[name]) for run in runs if name in run]
        figures[name] = max(values) if name in COUNTS_WORST else statistics.median(values)
    return figures


def _in_order(cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    loads, names = list(WORKLOADS), [peer.name for peer in PEERS.values()]
    return sorted(cells, key=lambda cell: (loads.index(cell[0]), names.index(cell[1])))


def page(machine: Mapping[str, Any], records: Sequence[Record]) -> str:
    """Everything, as `bench/results.md` holds it."""
    cells = medians(records)
    runs = sorted({int(figures["runs"]) for figures in cells.values()})
    parts = [
        INTRODUCTION,
        _machine(machine, runs),
        figures_table(cells),
        starts_table(records),
        "## Goals\n\n" + goals_table(judge(cells)),
    ]
    if errors := _errors(records):
        parts.append("## Not measured\n\n" + errors)
    return "\n".join(parts)


def _machine(machine: Mapping[str, Any], runs: Sequence[int]) -> str:
    lines = [f"- {name}: {value}" for name, value in machine.items() if name != "versions"]
    lines += [f"- {name}: {version}" for name, version in machine.get("versions", {}).items() if version]
    lines.append(
        f"- runs of a cell: {' to '.join(str(count) for count in sorted({runs[0], runs[-1]})) if runs else 'none'}"
    )
    return "\n".join(lines) + "\n"


def figures_table(cells: Medians) -> str:
    """All loads under each other; the load is named on its first row."""
    rows, last = [], ""
    for (load, proxy), figures in cells.items():
        rows.append([WORKLOADS[load].title if load != last else "", _starred(proxy, figures), *_cells(figures)])
        last = load
    return _markdown(HEAD, rows) + "\n\\* could not carry the load: its latency is queueing, not cost.\n"


def _starred(proxy: str, figures: Mapping[str, float]) -> str:
    return f"{proxy} \\*" if figures.get("saturated", 0) >= 0.5 else proxy


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [
        _one(figures, "cpu_us_per_token"),
        _one(figures, "cpu_ms_per_request"),
        _two(figures, "token_p50_us", "token_p99_us"),
        _two(figures, "first_token_p50_us", "first_token_p99_us", 1e-3),
        _one(figures, "kb_per_stream"),
        _one(figures, "requests_per_s"),
        _one(figures, "tokens_per_s"),
        f"{figures['failed']:.0f}" if "failed" in figures else "–",
        f"{figures['harness_cpu']:.0%}" if "harness_cpu" in figures else "–",
    ]


def _one(figures: Mapping[str, float], name: str, scale: float = 1) -> str:
    return number(figures[name] * scale) if name in figures else "–"


def _two(figures: Mapping[str, float], first: str, second: str, scale: float = 1) -> str:
    return f"{_one(figures, first, scale)} / {_one(figures, second, scale)}" if first in figures else "–"


def starts_table(records: Iterable[Record]) -> str:
    """Start and idle memory, over all runs of a proxy under whatever load followed."""
    of_proxy: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if "start_s" in record:
            of_proxy[record["proxy"]].append(record)
    rows = []
    for name in (peer.name for peer in PEERS.values() if peer.name in of_proxy):
        starts, idle = ([run[key] for run in of_proxy[name]] for key in ("start_s", "idle_mb"))
        rows.append([name, number(statistics.median(starts)), number(statistics.median(idle)), str(len(starts))])
    return _markdown(["proxy", "start to the first 200, s", "idle memory, MB", "starts"], rows)


def goals_table(verdicts: Sequence[Verdict]) -> str:
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows = [
        [verdict.goal.what, verdict.goal.limit_text]
        + ["–" if value is None else f"{number(value)} {verdict.goal.unit}" for value in verdict.values]
        + [words[verdict.reached]]
        for verdict in verdicts
    ]
    return _markdown(["goal", "limit", *(PEERS[key].name for key in OURS), ""], rows)


def _errors(records: Iterable[Record]) -> str:
    lines = {
        f"- {record['proxy']}, {record['load']}: {record['error'].splitlines()[0]}"
        for record in records
        if record.get("error")
    }
    return "".join(f"{line}\n" for line in sorted(lines))


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
