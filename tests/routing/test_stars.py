"""Targets that take what a `*` of `match.model` stands for: `to: openai/$1`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import main
from proxy.config.models import RouteSettings, ServerSettings
from proxy.errors import BadRequest
from proxy.request import ChatRequest
from proxy.routing.conditions import any_of, captured
from proxy.routing.principal import Principal
from proxy.routing.router import Router


def router(*routes: dict[str, object]) -> Router:
    rules = [RouteSettings.model_validate({"name": f"r{number}"} | route) for number, route in enumerate(routes)]
    return Router(rules, {"a": "", "b": ""}, {}, ServerSettings())


def asking(model: str | None) -> ChatRequest:
    return ChatRequest(id="q", contract="openai", dialect="openai-chat", messages=(), model=model)


@pytest.mark.parametrize(
    ("pattern", "target", "asked", "sent"),
    [
        ("openai/*", "a/$1", "openai/gpt-4o", "a/gpt-4o"),
        ("openai/*", "a/openai/$1", "openai/o/x", "a/openai/o/x"),
        ("*", "a/$1", "m", "a/m"),
        ("*/*", "a/$2:$1", "x/y/z", "a/y/z:x"),
        ("gpt-*-mini", "a/llama-$1-small", "gpt-4o-mini", "a/llama-4o-small"),
        (["x-*", "y-*"], "a/$1", "y-1", "a/1"),
        ("*", "a/$1", "$1", "a/$1"),  # what a client says is never filled in again
    ],
)
def test_a_target_is_asked_for_what_the_star_stands_for(
    pattern: str | list[str], target: str, asked: str, sent: str
) -> None:
    (found,) = router({"match": {"model": pattern}, "to": target}).plan(asking(asked)).targets
    assert (str(found), found.asked) == (sent, True)


def test_a_star_that_stands_for_nothing_names_no_model() -> None:
    with pytest.raises(BadRequest) as refused:
        router({"match": {"model": "openai/*"}, "to": "a/$1"}).plan(asking("openai/"))
    assert refused.value.param == "model"


def test_other_targets_of_the_rule_stay_as_they_are() -> None:
    plan = router({"match": {"model": "openai/*"}, "to": ["a/$1", "b/fixed", "b"]}).plan(asking("openai/m"))
    assert [str(target) for target in plan.targets] == ["a/m", "b/fixed", "b/openai/m"]


def test_a_keys_models_hold_for_what_is_sent() -> None:
    found = router({"match": {"model": "*"}, "to": ["a/$1", "b/small"]})
    limited = Principal("k", models=("small",))
    assert [str(target) for target in found.plan(asking("large"), limited).targets] == ["b/small"]


def test_models_are_listed_by_the_names_that_reach_them() -> None:
    found = router(
        {"match": {"model": "openai/*"}, "to": "a/$1"}, {"match": {"model": "x"}, "to": "b/$1m"} | {"to": "b/y"}
    )
    assert found.models(asking(None), listed=lambda backend: ["gpt-4o", "o3"] if backend == "a" else []) == [
        "openai/gpt-4o", "openai/o3", "x",
    ]  # fmt: skip
    assert "$" not in "".join(found.named)


@given(st.lists(st.text("ab*", max_size=5)).map("".join), st.text("ab", max_size=12))
def test_what_the_stars_stand_for_makes_the_text_again(pattern: str, text: str) -> None:
    found = captured(pattern, text)
    assert (found is not None) == any_of((pattern,))(text)
    if found is not None:
        pieces = pattern.split("*")
        assert len(found) == len(pieces) - 1
        assert "".join(a + b for a, b in zip(pieces, [*found, ""], strict=True)) == text


@pytest.mark.parametrize(
    ("match", "named"),
    [
        ("", "`match.model`"),
        ("match: {model: gpt}, ", "`gpt`"),
        ('match: {model: ["a*", gpt]}, ', "`gpt`"),
        ('match: {model: "gpt-?*"}, ', "`gpt-?*`"),
    ],
)
def test_a_star_that_is_not_there_is_an_error_at_its_place(tmp_path: Path, match: str, named: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"backends: {{a: {{kind: echo}}}}\nroutes:\n  - {{name: r, {match}to: a/$1}}\n")
    ran = CliRunner().invoke(main, ["check", str(config)])
    column = config.read_text().splitlines()[2].index("a/$1") + 1
    assert ran.exit_code == 1
    (error,) = [line for line in ran.output.splitlines() if line.startswith(f"{config}:3:{column}: ")]
    assert [fact for fact in ("`r`", "`a/$1`", named) if fact not in error] == []


def test_explain_shows_the_model_and_where_it_comes_from(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text('backends: {a: {kind: echo}}\nroutes: [{name: r, match: {model: "openai/*"}, to: a/$1}]\n')
    ran = CliRunner().invoke(
        main, ["explain", "-c", str(config), "--path", "/v1/chat/completions", "--model", "openai/o3"]
    )
    assert "1. a/o3  (from a/$1)" in ran.output, ran.output
