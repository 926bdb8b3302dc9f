"""What is promised, and whether it holds. Every goal is judged for both of our contracts, by the worse of the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.peers import OURS, PEERS

Figures = Mapping[str, float]
Medians = Mapping[tuple[str, str], Figures]
"""(load, proxy's name) -> figures: the medians of all runs of that cell."""

Value = Callable[[Medians, str], float | None]
"""A figure of one of our rows; `None` where a run it needs is missing."""


@dataclass(frozen=True)
class Goal:
    what: str
    limit: float
    value: Value
    unit: str = "×"
    at_least: bool = False

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
    values: tuple[float | None, ...]  # in the order of OURS

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
    def read(medians: Medians, ours: str) -> float | None:
        value = medians.get((load, ours), {}).get(name)
        return None if value is None else value * scale

    return read


def ratio(load: str, name: str, peer: str, *, inverse: bool = False) -> Value:
    """Ours over the peer's, or the peer's over ours where the figure is a cost and the goal is a yield."""

    def read(medians: Medians, ours: str) -> float | None:
        mine, theirs = figure(load, name)(medians, ours), figure(load, name)(medians, PEERS[peer].name)
        above, below = (theirs, mine) if inverse else (mine, theirs)
        return above / below if above is not None and below else None

    return read


def growth(name: str, small: str, large: str) -> Value:
    def read(medians: Medians, ours: str) -> float | None:
        before, after = figure(small, name)(medians, ours), figure(large, name)(medians, ours)
        return after / before if before and after is not None else None

    return read


def worst(name: str, scale: float = 1) -> Value:
    """Over all loads: the start and the memory before it do not depend on what follows."""

    def read(medians: Medians, ours: str) -> float | None:
        values = [figures[name] for (_, proxy), figures in medians.items() if proxy == ours and name in figures]
        return max(values) * scale if values else None

    return read


CPU = "cpu_us_per_token"
GOALS = (
    Goal("CPU per token, paced 200, against nginx", 1.8, ratio("paced-200", CPU, "nginx")),
    Goal("CPU per token, paced 200, against Envoy", 1.2, ratio("paced-200", CPU, "envoy")),
    Goal("CPU per token, paced 200, against Portkey", 1 / 2, ratio("paced-200", CPU, "portkey")),
    Goal("CPU per token, paced 200, against LiteLLM", 1 / 25, ratio("paced-200", CPU, "litellm")),
    Goal("CPU per token, burst, against nginx", 4, ratio("burst", CPU, "nginx")),
    Goal("CPU per token, burst, against Portkey", 1 / 9, ratio("burst", CPU, "portkey")),
    Goal("CPU per token, burst, against LiteLLM", 1 / 250, ratio("burst", CPU, "litellm")),
    Goal("CPU per token, 4,000 streams against 200", 1.5, growth(CPU, "paced-200", "paced-4000")),
    Goal("added per token, p50, paced 200, against nginx", 1.4, ratio("paced-200", "token_p50_us", "nginx")),
    Goal("added per token, p99, paced 200, against Envoy", 1, ratio("paced-200", "token_p99_us", "envoy")),
    Goal("added to the first token, p50, paced 200", 0.5, figure("paced-200", "first_token_p50_us", 1e-3), "ms"),
    Goal("added to the first token, p99, paced 200", 5, figure("paced-200", "first_token_p99_us", 1e-3), "ms"),
    Goal("memory per stream, 1,000 streams", 20, figure("paced-1000", "kb_per_stream"), "KB"),
    Goal("failed, 1,000 streams", 0, figure("paced-1000", "failed"), "answers"),
    Goal("memory per stream, 4,000 streams", 20, figure("paced-4000", "kb_per_stream"), "KB"),
    Goal("failed, 4,000 streams", 0, figure("paced-4000", "failed"), "answers"),
    Goal(
        "not streamed: requests per CPU second, against LiteLLM",
        25,
        ratio("whole", "cpu_ms_per_request", "litellm", inverse=True),
        at_least=True,
    ),
    Goal(
        "not streamed: requests per CPU second, against Portkey",
        4,
        ratio("whole", "cpu_ms_per_request", "portkey", inverse=True),
        at_least=True,
    ),
    Goal("memory while idle", 60, worst("idle_mb"), "MB"),
    Goal("start to the first answer", 0.6, worst("start_s"), "s"),
)


def judge(medians: Medians) -> list[Verdict]:
    ours = [PEERS[key].name for key in OURS]
    return [Verdict(goal, tuple(goal.value(medians, name) for name in ours)) for goal in GOALS]
