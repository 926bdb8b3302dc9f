"""What is promised, and whether it holds.

A goal is judged for both of our contracts, by the worse of the two, unless it is about one row that differs from them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from bench.peers import OURS, PEERS
from bench.results import Results

Value = Callable[[Results, str], float | None]
"""A figure of the row of that name; `None` where a run it needs is missing."""


@dataclass(frozen=True)
class Goal:
    what: str
    limit: float
    value: Value
    unit: str = "×"
    at_least: bool = False
    rows: tuple[str, ...] = OURS

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def worse(self, values: list[float]) -> float:
        return min(values) if self.at_least else max(values)

    @property
    def limit_text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {number(self.limit)} {self.unit}"


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    values: tuple[float | None, ...]  # in the order of the goal's rows

    @property
    def reached(self) -> bool | None:
        """`None` where not everything was measured that it takes to tell."""
        known = [value for value in self.values if value is not None]
        return self.goal.met_by(self.goal.worse(known)) if len(known) == len(self.values) else None


def number(value: float) -> str:
    """Three digits that mean something, no exponent, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def figure(load: str, name: str, scale: float = 1) -> Value:
    def read(results: Results, row: str) -> float | None:
        value = results.figure((load, row), name)
        return None if value is None else value * scale

    return read


def ratio(load: str, name: str, other: str, *, inverse: bool = False) -> Value:
    """Ours over the other's, or the other's over ours where the figure is a cost and the goal is a yield."""

    def read(results: Results, row: str) -> float | None:
        mine, theirs = (load, row), (load, PEERS[other].name)
        return results.ratio(theirs, mine, name) if inverse else results.ratio(mine, theirs, name)

    return read


def growth(name: str, small: str, large: str) -> Value:
    return lambda results, row: results.ratio((large, row), (small, row), name)


def everywhere(name: str) -> Value:
    """Over all loads: the start and the memory before it do not depend on what follows."""

    def read(results: Results, row: str) -> float | None:
        values = results.all_of(row, name)
        return statistics.median(values) if values else None

    return read


CPU, REQUEST = "cpu_us_per_token", "cpu_ms_per_request"
TEAM, TICK_50, TICK_33, TWO_WORKERS, LITELLM_BACKEND = (
    ("chat-team",),
    ("chat-tick-50",),
    ("chat-tick-33",),
    ("chat-2-workers",),
    ("chat-litellm",),
)
GOALS = (
    Goal("CPU per token, paced 200, against nginx", 1.8, ratio("paced-200", CPU, "nginx")),
    Goal("CPU per token, paced 200, against Envoy", 1.2, ratio("paced-200", CPU, "envoy")),
    Goal("CPU per token, paced 200, against Portkey", 1 / 2, ratio("paced-200", CPU, "portkey")),
    Goal("CPU per token, paced 200, against LiteLLM", 1 / 25, ratio("paced-200", CPU, "litellm")),
    Goal("the same at a tick of 50 ms, against nginx", 0.75, ratio("paced-200", CPU, "nginx"), rows=TICK_50),
    Goal("CPU per token, fast model, tick of 33 ms, against nginx", 0.35, ratio("fast", CPU, "nginx"), rows=TICK_33),
    Goal("CPU per token, burst, against nginx", 4, ratio("burst", CPU, "nginx")),
    Goal("CPU per token, burst, against Portkey", 1 / 9, ratio("burst", CPU, "portkey")),
    Goal("CPU per token, burst, against LiteLLM", 1 / 250, ratio("burst", CPU, "litellm")),
    Goal("CPU per token, 4,000 streams against 200", 1.5, growth(CPU, "paced-200", "paced-4000")),
    Goal("added per token, p50, paced 200, against nginx", 1.4, ratio("paced-200", "token_p50_us", "nginx")),
    Goal("added per token, p99, paced 200, against Envoy", 1, ratio("paced-200", "token_p99_us", "envoy")),
    Goal(
        "added to the first token, p50, 200 streams evenly", 0.5, figure("even-200", "first_token_p50_us", 1e-3), "ms"
    ),
    Goal("added to the first token, p99, 200 streams evenly", 5, figure("even-200", "first_token_p99_us", 1e-3), "ms"),
    Goal("memory per stream, 1,000 streams", 20, figure("paced-1000", "kb_per_stream"), "KB"),
    Goal("failed, 1,000 streams", 0, figure("paced-1000", "failed"), "answers"),
    Goal("memory per stream, 4,000 streams", 20, figure("paced-4000", "kb_per_stream"), "KB"),
    Goal("failed, 4,000 streams", 0, figure("paced-4000", "failed"), "answers"),
    Goal(
        "not streamed: requests per CPU second, against LiteLLM",
        25,
        ratio("whole", REQUEST, "litellm", inverse=True),
        at_least=True,
    ),
    Goal(
        "not streamed: requests per CPU second, against Portkey",
        4,
        ratio("whole", REQUEST, "portkey", inverse=True),
        at_least=True,
    ),
    Goal(
        "CPU per token, litellm backend, against the litellm SDK alone",
        1.05,
        ratio("litellm", CPU, "litellm-alone"),
        rows=LITELLM_BACKEND,
    ),
    Goal(
        "two workers on two CPUs, against one on one",
        1.8,
        ratio("workers", "busiest_ms_per_request", "chat-1-worker", inverse=True),
        at_least=True,
        rows=TWO_WORKERS,
    ),
    Goal("limits, ledger and Redis on: CPU per token, paced 200", 1.03, ratio("paced-200", CPU, "chat"), rows=TEAM),
    Goal("the same, not streamed: CPU per request", 1.25, ratio("whole", REQUEST, "chat"), rows=TEAM),
    Goal("memory while idle", 60, everywhere("idle_mb"), "MB"),
    Goal("start to the first answer", 0.6, everywhere("start_s"), "s"),
)


def judge(results: Results) -> list[Verdict]:
    return [Verdict(goal, tuple(goal.value(results, PEERS[row].name) for row in goal.rows)) for goal in GOALS]
