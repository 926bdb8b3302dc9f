"""Records become medians, tables, verdicts and a chart, without a load."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import __main__ as command
from bench import chart, plan, table
from bench.goals import GOALS, Goal, Verdict, figure, judge, number
from bench.peers import PEERS, Peer
from bench.results import Results
from bench.workloads import WORKLOADS, Workload


def record(key: str, load: str, round: int = 1, run: str = "one", **figures: object) -> dict[str, object]:
    name = PEERS[key].name
    return {"run": run, "round": round, "proxy": name, "load": load, "failed": 0, "harness_cpu": 0.2, **figures}


def costing(key: str, *costs: float, load: str = "paced-200", run: str = "one") -> list[dict[str, object]]:
    return [record(key, load, count, run, cpu_us_per_token=cost) for count, cost in enumerate(costs, 1)]


def verdict(what: str, records: list[dict[str, object]]) -> Verdict:
    return next(verdict for verdict in judge(Results(records)) if verdict.goal.what == what)


AGAINST_NGINX = "CPU per token, paced 200, against nginx"


def test_a_cell_is_the_median_of_its_runs_but_the_worst_of_its_failures():
    runs = [
        record("nginx", "burst", cpu_us_per_token=cost, failed=failed)
        for cost, failed in ((1.0, 0), (9.0, 2), (1.2, 0))
    ]
    (figures,) = Results(runs).medians.values()
    assert (figures["cpu_us_per_token"], figures["failed"], figures["runs"]) == (1.2, 2, 3)


def test_a_run_that_ended_in_an_error_is_named_and_counts_for_nothing():
    records = [*costing("nginx", 20), record("litellm", "tls", error="LiteLLM did not come up\nmuch more")]
    page = table.page([{"machine": "two cores"}], records)
    assert "- LiteLLM, tls: LiteLLM did not come up\n" in page
    assert "| LiteLLM |" not in page


def test_a_ratio_is_the_median_of_the_ratios_of_each_round():
    """The machine was twice as slow in the second round, and nobody suffers for it."""
    records = [*costing("nginx", 20, 40, 20), *costing("chat", 30, 60, 34), *costing("openai", 30, 62, 30)]
    assert verdict(AGAINST_NGINX, records).values == (1.5, 1.5)


def test_figures_of_two_runs_have_no_ratio():
    ours = [one for key in ("chat", "openai") for one in costing(key, 20, run="two")]
    assert verdict(AGAINST_NGINX, [*costing("nginx", 20), *ours]).reached is None
    assert Results([*costing("nginx", 20), *ours]).figure(("paced-200", "nginx"), "cpu_us_per_token") == 20


def test_ours_is_held_to_the_goal_by_the_worse_of_its_two_contracts():
    nginx = costing("nginx", 20)
    assert verdict(AGAINST_NGINX, [*nginx, *costing("chat", 30), *costing("openai", 36)]).reached is True
    assert verdict(AGAINST_NGINX, [*nginx, *costing("chat", 30), *costing("openai", 37)]).reached is False


@pytest.mark.parametrize("missing", ["nginx", "chat", "openai"])
def test_a_goal_without_all_its_runs_is_neither_reached_nor_missed(missing: str):
    records = [one for key in ("nginx", "chat", "openai") if key != missing for one in costing(key, 20)]
    assert verdict(AGAINST_NGINX, records).reached is None


def test_a_yield_is_better_the_more_it_is():
    cheap = [record(key, "whole", cpu_ms_per_request=0.5) for key in ("chat", "openai")]
    what = "not streamed: requests per CPU second, against LiteLLM"
    good = verdict(what, [*cheap, record("litellm", "whole", cpu_ms_per_request=13.0)])
    assert good.values == (26.0, 26.0)
    assert good.reached is True
    assert verdict(what, [*cheap, record("litellm", "whole", cpu_ms_per_request=12.0)]).reached is False


def test_cost_may_grow_by_half_from_200_streams_to_4000():
    records = [one for key in ("chat", "openai") for one in costing(key, 40)]
    records += [one for key in ("chat", "openai") for one in costing(key, 61, load="paced-4000")]
    growth = verdict("CPU per token, 4,000 streams against 200", records)
    assert growth.values[0] == pytest.approx(1.525)
    assert growth.reached is False


def test_two_workers_are_judged_by_what_the_busier_one_can_carry():
    """The other one idled: the same work for the busiest is no gain, however little CPU both took."""
    what = "two workers on two CPUs, against one on one"
    one = record("chat-1-worker", "workers", busiest_ms_per_request=1.0)
    assert verdict(what, [one, record("chat-2-workers", "workers", busiest_ms_per_request=0.5)]).values == (2.0,)
    assert verdict(what, [one, record("chat-2-workers", "workers", busiest_ms_per_request=0.9)]).reached is False


def test_one_failed_answer_misses_the_goal():
    records = [record(key, "paced-4000", failed=failed) for key in ("chat", "openai") for failed in (0, 0, 1)]
    assert verdict("failed, 4,000 streams", records).reached is False


def test_start_and_idle_memory_are_medians_over_all_loads():
    starts = {"burst": 0.4, "whole": 0.5, "tls": 0.9}
    records = [record(key, load, start_s=s) for key in ("chat", "openai") for load, s in starts.items()]
    assert verdict("start to the first answer", records).values == (0.5, 0.5)


def test_every_goal_reads_figures_that_are_measured():
    """A misspelt figure, or a row that its load does not have, would be `not measured` for ever."""
    names = ("cpu_us_per_token", "cpu_ms_per_request", "kb_per_stream", "start_s", "idle_mb", "token_p50_us")
    names += ("token_p99_us", "first_token_p50_us", "first_token_p99_us", "busiest_ms_per_request")
    everything = [
        record(key, turn.load, turn.round, **dict.fromkeys(names, 1.0))
        for turn in plan.turns(WORKLOADS, PEERS, 3)
        for key in turn.proxies
    ]
    assert [verdict.goal.what for verdict in judge(Results(everything)) if verdict.reached is None] == []


def test_the_tables_say_what_was_measured():
    records = [
        *costing("nginx", 27.6),
        record("portkey", "paced-200", cpu_us_per_token=99.0, saturated=True, token_p50_us=31215.0, token_p99_us=1.0),
        record("chat", "burst", cpu_us_per_token=2.345, start_s=0.4, idle_mb=58.25),
        record("chat-2-workers", "workers", requests_per_s=1800.0, cpu_share=1.7, busiest_ms_per_request=0.5),
    ]
    page = table.page([{"run": "x", "machine": "two cores", "versions": {"nginx": "1.22.1"}}], records)
    assert "- machine: two cores\n- nginx: 1.22.1\n- runs of a cell: 1\n" in page
    assert f"| {WORKLOADS['paced-200'].title} | nginx | 27.6 | – | – |" in page
    assert "|  | Portkey \\* | 99 | – | 31,215 / 1 |" in page
    assert "| chat-proxy /chat | 0.4 | 58.2 | 1 |" in page
    assert "| chat-proxy /chat, 2 workers | 1,800 | 170 | 0.5 | 2,000 |" in page
    assert page.index("burst") < page.index("paced:"), "loads stand in their own order"


def test_what_runs_have_in_common_is_said_once():
    runs = [
        {"run": run, "date": "today", "load average at the start": load} for run, load in (("a", "0.1"), ("b", "0.4"))
    ]
    page = table.page(runs, costing("nginx", 20))
    assert "- date: today\n- load average at the start: 0.1; 0.4\n" in page


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0326, "0.0326"), (2.345, "2.35"), (99.4, "99.4"), (1259, "1,259")]
)
def test_figures_have_three_digits_and_no_exponent(value: float, text: str):
    assert number(value) == text


def test_a_goal_names_its_limit():
    goal = Goal("what", 1 / 2, figure("burst", "failed"))
    assert goal.limit_text == "≤ 0.5 ×"
    assert len({goal.what for goal in GOALS}) == len(GOALS)


def test_the_chart_is_an_image_with_a_bar_for_each_proxy_and_words_for_those_who_cannot_see_it():
    records = [
        *costing("nginx", 20),
        *costing("chat", 40),
        *costing("litellm", 1259),
        *costing("chat-aiohttp", 50),
        *costing("chat", 3, load="burst"),
    ]
    image = ET.fromstring(chart.draw(Results(records)))
    rows = [element for element in image if element.tag.endswith("rect")]
    assert [row.get("class") for row in rows] == ["bar", "ours", "bar", "ours"], "trials are not in it"
    widths = [float(row.get("width", "")) for row in rows[:3]]
    assert widths == sorted(widths)
    assert all(float(row.get("x", "")) + float(row.get("width", "")) <= chart.WIDTH for row in rows)
    assert "nginx 20 µs, chat-proxy /chat 40 µs, LiteLLM 1,259 µs" in image.get("aria-label", "")


def test_page_and_chart_are_made_again_from_the_raw_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw = tmp_path / "results.jsonl"
    raw.write_text("\n".join(json.dumps(line) for line in ({"run": "one"}, *costing("nginx", 20))))
    assert command.main(["page", str(raw)]) == 0
    assert (tmp_path / "results.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """Runs measure nothing, and write here: which cells they would have measured."""
    cells: list[tuple[str, str]] = []

    def measure(peer: Peer, load: Workload, **_: object) -> dict[str, object]:
        cells.append((load.name, peer.name))
        return {"proxy": peer.name, "load": load.name, "failed": 0, "cpu_us_per_token": 20.0}

    monkeypatch.setattr(command, "measure", measure)
    monkeypatch.setattr(command, "WORK", tmp_path)
    monkeypatch.setattr(command, "_prepare", lambda _: False)
    return cells


def test_a_run_in_pieces_adds_up_and_measures_nothing_twice(measured: list[tuple[str, str]], tmp_path: Path):
    chosen = ["--proxies", "chat,openai"]
    command.main(["run", "--loads", "burst", *chosen])
    command.main(["run", "--loads", "burst,whole", "--resume", "--rounds", "2", *chosen])
    once = [("burst", name) for name in ("chat-proxy /chat", "chat-proxy /v1")]
    other = [("whole", name) for _, name in once]
    assert measured == [*once, *other, *once, *other]
    page = (tmp_path / "results.md").read_text()
    assert WORKLOADS["burst"].title in page
    assert WORKLOADS["whole"].title in page
    assert "runs of a cell: 2" in page


def test_a_run_that_is_not_resumed_begins_anew(measured: list[tuple[str, str]], tmp_path: Path):
    command.main(["run", "--loads", "burst", "--proxies", "chat"])
    command.main(["run", "--loads", "whole", "--proxies", "chat"])
    assert len(measured) == 2
    assert WORKLOADS["burst"].title not in (tmp_path / "results.md").read_text()


def test_an_unknown_load_is_refused_by_name(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command.main(["run", "--loads", "brust"])
    said = capsys.readouterr().err
    assert ("'brust'" in said, "burst, paced-200" in said) == (True, True)
