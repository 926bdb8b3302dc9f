"""What is measured under which load, in which order, and what a broken-off run need not do again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import plan, results
from bench.goals import judge
from bench.peers import OURS, PEERS
from bench.plan import Turn
from bench.results import resumed
from bench.tools import CannotMeasure
from bench.workloads import WORKLOADS

FIGURES = ("cpu_us_per_token", "cpu_ms_per_request", "busiest_ms_per_request", "kb_per_stream", "start_s", "idle_mb")
FIGURES += ("token_p50_us", "token_p99_us", "first_token_p50_us", "first_token_p99_us", "failed")
BURST = Turn("burst", 1, ("chat", "nginx"))
WHOLE = Turn("whole", 1, ("chat", "nginx"))


def test_every_row_and_load_the_plan_names_exists():
    rows = {key for load in WORKLOADS for key in plan.rows(load)}
    assert rows == set(PEERS)
    assert {*plan.ONLY, *plan.BESIDES} <= set(WORKLOADS)
    assert {key for _, key in plan.ONCE} <= set(PEERS)


def test_all_proxies_of_a_load_have_their_turn_before_any_has_its_next():
    assert plan.turns(["burst", "whole"], ["chat", "nginx"], 2) == [
        BURST, WHOLE, Turn("burst", 2, ("chat", "nginx")), Turn("whole", 2, ("chat", "nginx")),
    ]  # fmt: skip


def test_what_no_goal_hangs_on_is_measured_in_the_first_round_only():
    first, second = plan.turns(["paced-1000"], ["direct", "litellm", *OURS], 2)
    assert first.proxies == ("direct", "chat", "openai", "litellm")
    assert second.proxies == ("chat", "openai")


def test_every_figure_a_goal_hangs_on_is_measured_in_every_round():
    """A ratio needs both of its cells in the same round: what is measured once has one at most."""
    last = [
        {"run": "one", "round": turn.round, "load": turn.load, "proxy": PEERS[key].name, **dict.fromkeys(FIGURES, 1.0)}
        for turn in plan.turns(WORKLOADS, PEERS, 3)
        if turn.round == 3
        for key in turn.proxies
    ]
    assert [verdict.goal.what for verdict in judge(results.Results(last)) if verdict.reached is None] == []


def test_trials_are_left_to_their_loads():
    assert plan.turns(["whole"], ["chat-aiohttp"], 1) == []
    assert plan.turns(["tls"], ["direct", "chat-aiohttp"], 1) == [Turn("tls", 1, ("chat-aiohttp",))]


def test_the_fingerprint_follows_the_code_that_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = results.fingerprint()
    assert results.fingerprint() == before
    (tmp_path / "upstream.c").write_text("another one")
    monkeypatch.setattr(results, "SHAPING", results.SHAPING[1:])
    assert results.fingerprint() != before


def file_of(folder: Path, *records: dict[str, object], fingerprint: str = "abc") -> Path:
    path = folder / "results.jsonl"
    runs = [{"run": run, "fingerprint": fingerprint} for run in sorted({str(record["run"]) for record in records})]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*runs, *records]))
    return path


def cell(turn: Turn, key: str, run: str = "one", **more: object) -> dict[str, object]:
    return {"run": run, "round": turn.round, "load": turn.load, "proxy": PEERS[key].name, **more}


def test_whole_turns_are_kept_and_the_rest_is_measured_again(tmp_path: Path):
    whole = [cell(BURST, key) for key in BURST.proxies]
    path = file_of(tmp_path, *whole, cell(WHOLE, "chat"))
    kept, left = resumed(path, "abc", [BURST, WHOLE])
    assert left == [WHOLE]
    assert kept == [{"run": "one", "fingerprint": "abc"}, *whole]


def test_a_turn_that_two_runs_share_or_that_failed_does_not_count(tmp_path: Path):
    shared = [cell(BURST, "chat"), cell(BURST, "nginx", run="two")]
    failed = [cell(WHOLE, "chat"), cell(WHOLE, "nginx", error="did not come up")]
    kept, left = resumed(file_of(tmp_path, *shared, *failed), "abc", [BURST, WHOLE])
    assert (kept, left) == ([], [BURST, WHOLE])


def test_other_loads_stay_when_one_is_added(tmp_path: Path):
    whole = [cell(BURST, key) for key in BURST.proxies]
    kept, left = resumed(file_of(tmp_path, *whole), "abc", [WHOLE])
    assert left == [WHOLE]
    assert kept[1:] == whole


def test_figures_of_other_code_are_not_added_to(tmp_path: Path):
    with pytest.raises(CannotMeasure, match="--resume"):
        resumed(file_of(tmp_path, cell(BURST, "chat"), fingerprint="old"), "abc", [BURST])


def test_without_a_file_everything_is_left(tmp_path: Path):
    assert resumed(tmp_path / "none.jsonl", "abc", [BURST]) == ([], [BURST])
