"""From records to a page of Markdown: medians, one table of them all, one of the goals."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.goals import Verdict, judge, number
from bench.measure import Record
from bench.peers import PEERS
from bench.results import Cell, Results
from bench.workloads import WORKLOADS

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


def page(runs: Sequence[Mapping[str, Any]], records: Sequence[Record]) -> str:
    """Everything, as `bench/results.md` holds it."""
    results = Results(records)
    parts = [
        INTRODUCTION,
        _machine(runs, results),
        figures_table(results.medians),
        workers_table(results.medians),
        starts_table(results),
        "## Goals\n\n" + goals_table(judge(results)),
    ]
    if errors := _errors(records):
        parts.append("## Not measured\n\n" + errors)
    return "\n".join(part for part in parts if part)


def _machine(runs: Sequence[Mapping[str, Any]], results: Results) -> str:
    """What all runs have in common is said once; where they differ, each in its words."""
    facts: dict[str, list[str]] = {}
    for run in runs:
        told = {name: value for name, value in run.items() if name not in {"run", "fingerprint", "versions"}}
        for name, value in (told | run.get("versions", {})).items():
            if value and str(value) not in facts.setdefault(name, []):
                facts[name].append(str(value))
    counts = sorted({int(figures["runs"]) for figures in results.medians.values()})
    facts["runs of a cell"] = [
        " to ".join(str(count) for count in sorted({counts[0], counts[-1]})) if counts else "none"
    ]
    return "".join(f"- {name}: {'; '.join(values)}\n" for name, values in facts.items() if values)


def figures_table(cells: Mapping[Cell, Mapping[str, float]]) -> str:
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


def workers_table(cells: Mapping[Cell, Mapping[str, float]]) -> str:
    """What one and two workers do: measured here, where the tools take their share, and without them."""
    rows = [
        [
            proxy,
            _one(figures, "requests_per_s"),
            _one(figures, "cpu_share", 100),
            _one(figures, "busiest_ms_per_request"),
            number(1e3 / figures["busiest_ms_per_request"]),
        ]
        for (load, proxy), figures in cells.items()
        if load == "workers" and figures.get("busiest_ms_per_request")
    ]
    head = ["workers", "answers / s here", "CPU, %", "of the busiest process, ms / answer", "answers / s, a CPU each"]
    return _markdown(head, rows) if rows else ""


def starts_table(results: Results) -> str:
    """Start and idle memory, over all runs of a proxy under whatever load followed."""
    rows = []
    for name in (peer.name for peer in PEERS.values()):
        if starts := results.all_of(name, "start_s"):
            idle = results.all_of(name, "idle_mb")
            rows.append([name, number(statistics.median(starts)), number(statistics.median(idle)), str(len(starts))])
    return _markdown(["proxy", "start to the first 200, s", "idle memory, MB", "starts"], rows)


def goals_table(verdicts: Sequence[Verdict]) -> str:
    """Under the first contract also what is measured of it alone."""
    words = {True: "reached", False: "**not reached**", None: "not measured"}
    rows = []
    for verdict in verdicts:
        values = ["–" if value is None else f"{number(value)} {verdict.goal.unit}" for value in verdict.values]
        values += [""] * (2 - len(values))
        rows.append([verdict.goal.what, verdict.goal.limit_text, *values, words[verdict.reached]])
    return _markdown(["goal", "limit", "/chat", "/v1", ""], rows)


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
