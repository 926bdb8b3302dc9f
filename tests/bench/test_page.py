"""Records become medians, tables, verdicts and a chart, without a load."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import __main__ as command
from bench import chart, table
from bench.goals import GOALS, Goal, Verdict, figure, judge, number
from bench.peers import PEERS
from bench.workloads import WORKLOADS


def record(key: str, load: str, **figures: object) -> dict[str, object]:
    return {"proxy": PEERS[key].name, "load": load, "failed": 0, "harness_cpu": 0.2, **figures}


def costing(key: str, *costs: float, load: str = "paced-200") -> list[dict[str, object]]:
    return [record(key, load, cpu_us_per_token=cost) for cost in costs]


def verdict(what: str, records: list[dict[str, object]]) -> Verdict:
    return next(verdict for verdict in judge(table.medians(records)) if verdict.goal.what == what)


AGAINST_NGINX = "CPU per token, paced 200, against nginx"


def test_a_cell_is_the_median_of_its_runs_but_the_worst_of_its_failures():
    runs = [
        record("nginx", "burst", cpu_us_per_token=cost, failed=failed)
        for cost, failed in ((1.0, 0), (9.0, 2), (1.2, 0))
    ]
    (figures,) = table.medians(runs).values()
    assert (figures["cpu_us_per_token"], figures["failed"], figures["runs"]) == (1.2, 2, 3)


def test_a_run_that_ended_in_an_error_is_named_and_counts_for_nothing():
    records = [*costing("nginx", 20), record("litellm", "tls", error="LiteLLM did not come up\nmuch more")]
    page = table.page({"machine": "two cores"}, records)
    assert "- LiteLLM, tls: LiteLLM did not come up\n" in page
    assert "| LiteLLM |" not in page


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


def test_one_failed_answer_misses_the_goal():
    records = [record(key, "paced-4000", failed=failed) for key in ("chat", "openai") for failed in (0, 0, 1)]
    assert verdict("failed, 4,000 streams", records).reached is False


def test_every_goal_reads_figures_that_measuring_gives():
    """A misspelt figure would be `not measured` for ever."""
    names = ("cpu_us_per_token", "cpu_ms_per_request", "kb_per_stream", "start_s", "idle_mb", "token_p50_us")
    names += ("token_p99_us", "first_token_p50_us", "first_token_p99_us")
    everything = [record(key, load, **dict.fromkeys(names, 1.0)) for key in PEERS for load in WORKLOADS]
    assert [verdict.goal.what for verdict in judge(table.medians(everything)) if verdict.reached is None] == []


def test_the_tables_say_what_was_measured():
    records = [
        *costing("nginx", 27.6),
        record("portkey", "paced-200", cpu_us_per_token=99.0, saturated=True, token_p50_us=31215.0, token_p99_us=1.0),
        record("chat", "burst", cpu_us_per_token=2.345, start_s=0.4, idle_mb=58.25),
    ]
    page = table.page({"machine": "two cores", "versions": {"nginx": "1.22.1"}}, records)
    assert "- machine: two cores\n- nginx: 1.22.1\n- runs of a cell: 1\n" in page
    assert f"| {WORKLOADS['paced-200'].title} | nginx | 27.6 | – | – |" in page
    assert "|  | Portkey \\* | 99 | – | 31,215 / 1 |" in page
    assert "| chat-proxy /chat | 0.4 | 58.2 | 1 |" in page
    assert page.index("burst") < page.index("paced:"), "loads stand in their own order"


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
        *costing("chat", 3, load="burst"),
    ]
    image = ET.fromstring(chart.draw(table.medians(records)))
    rows = [element for element in image if element.tag.endswith("rect")]
    assert [row.get("class") for row in rows] == ["bar", "ours", "bar", "ours"]
    widths = [float(row.get("width", "")) for row in rows[:3]]
    assert widths == sorted(widths)
    assert all(float(row.get("x", "")) + float(row.get("width", "")) <= chart.WIDTH for row in rows)
    assert "nginx 20 µs, chat-proxy /chat 40 µs, LiteLLM 1,259 µs" in image.get("aria-label", "")


def test_page_and_chart_are_made_again_from_the_raw_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw = tmp_path / "results.jsonl"
    raw.write_text("\n".join(json.dumps(line) for line in ({"machine": "two cores"}, *costing("nginx", 20))))
    assert command.main(["page", str(raw)]) == 0
    assert (tmp_path / "results.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")


def test_an_unknown_load_is_refused_by_name(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        command.main(["run", "--loads", "brust"])
    assert "no 'brust' among burst, paced-200" in capsys.readouterr().err
