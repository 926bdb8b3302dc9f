"""`chat-proxy import litellm`: what is carried over, what is said of the rest, and that no secret is copied."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli import main
from proxy.config.models import Settings
from proxy.errors import ConfigErrors
from proxy.importing import deployments, litellm, writer
from proxy.importing.litellm import Converted, convert
from tests.support.said import says

EXAMPLES = Path(__file__).parent / "litellm"


def converted(text: str) -> Converted:
    return convert(dedent(text), "litellm.yaml")


def data(text: str) -> Any:
    return yaml.safe_load(converted(text).text)


def model(params: str, more: str = "") -> str:
    return f"model_list: [{{model_name: m, litellm_params: {params}}}]\n{more}"


def run(folder: Path, text: str, *options: str) -> Result:
    (folder / "litellm.yaml").write_text(text)
    return CliRunner().invoke(
        main, ["import", "litellm", str(folder / "litellm.yaml"), "-o", str(folder / "config.yaml"), *options]
    )


@pytest.mark.parametrize(
    ("params", "row", "target"),
    [
        ("{model: gpt-4o}", {"kind": "openai", "api_key": "${OPENAI_API_KEY}"}, "openai/gpt-4o"),
        (
            "{model: openai/mine, api_base: 'http://gpu:8000/v1', api_key: none}",
            {"kind": "openai-compatible", "base_url": "http://gpu:8000/v1"},
            "openai/mine",
        ),
        (
            "{model: azure/eu, api_base: os.environ/BASE, api_key: os.environ/KEY, api_version: '2024-10-21'}",
            {"kind": "openai", "api_key": "${KEY}", "azure": {"endpoint": "${BASE}", "api_version": "2024-10-21"}},
            "azure/eu",
        ),
        (
            "{model: claude-opus-4-5}",
            {"kind": "anthropic", "api_key": "${ANTHROPIC_API_KEY}"},
            "anthropic/claude-opus-4-5",
        ),
        (
            "{model: together_ai/meta/llama}",
            {"kind": "openai-compatible", "preset": "together", "api_key": "${TOGETHER_API_KEY}"},
            "together_ai/meta/llama",
        ),
        (
            "{model: ollama/llama3, api_base: 'http://gpu:11434'}",
            {"kind": "openai-compatible", "preset": "ollama", "base_url": "http://gpu:11434/v1"},
            "ollama/llama3",
        ),
        (
            "{model: bedrock/anthropic.claude, aws_region_name: eu-west-1, aws_secret_access_key: os.environ/AWS_SECRET}",
            {
                "kind": "litellm",
                "drop_params": False,
                "options": {"aws_region_name": "eu-west-1", "aws_secret_access_key": "${AWS_SECRET}"},
            },
            "bedrock/bedrock/anthropic.claude",
        ),
        *(
            (
                f"{{model: {name}, api_key: os.environ/K}}",
                {"kind": "litellm", "api_key": "${K}", "drop_params": False},
                f"{name.partition('/')[0]}/{name}",
            )
            for name in ("openai/responses/gpt-5", "azure/responses/mine", "azure/o_series/mine")
        ),
        (
            "{model: command-a, custom_llm_provider: cohere, extra_headers: {x-team: red}}",
            {"kind": "litellm", "drop_params": False, "options": {"extra_headers": {"x-team": "red"}}},
            "cohere/cohere/command-a",
        ),
    ],
)
def test_a_deployment_becomes_the_backend_that_asks_as_it_does(params: str, row: dict[str, Any], target: str) -> None:
    found = data(model(params))
    assert list(found["backends"].values()) == [row]
    assert found["routes"][0]["to"] == target


@pytest.mark.parametrize("strategy", ["latency-based-routing", "cost-based-routing"])
def test_a_limit_that_is_no_weight_is_not_dropped_in_silence(strategy: str) -> None:
    left = converted(f"""
        model_list:
          - {{model_name: m, litellm_params: {{model: gpt-4o, rpm: 6, tpm: 9}}}}
          - {{model_name: m, litellm_params: {{model: groq/x}}}}
        router_settings: {{routing_strategy: {strategy}}}
    """).left
    left = {one.name for one in left}
    assert left == {"model_list.litellm_params.rpm", "model_list.litellm_params.tpm"}


def test_settings_of_a_model_become_defaults_and_timers_of_its_route() -> None:
    found = data(model("{model: gpt-4o, temperature: 0.2, max_tokens: 9, timeout: 30, stream_timeout: 5}"))
    assert found["routes"][0]["default"] == {"temperature": 0.2, "max_tokens": 9}
    assert found["routes"][0]["timeouts"] == {"first_token_s": 5, "whole_s": 30}


def test_what_holds_for_all_becomes_a_setting_of_the_server() -> None:
    more = """
    router_settings: {timeout: 20, allowed_fails: 2, cooldown_time: 60}
    litellm_settings: {json_logs: true}
    general_settings: {master_key: os.environ/MY_KEY}
    """
    found = data(model("{model: gpt-4o}") + dedent(more))
    assert found["server"] == {
        "timeouts": {"first_token_s": 20, "whole_s": 20},
        "breaker": {"failures": 3, "open_s": 60, "longest_s": 60},
        "log": {"format": "json"},
    }
    assert found["auth"] == {"keys": [{"name": "master", "key": "${MY_KEY}"}]}


def test_what_is_not_carried_over_is_a_comment_at_its_place_with_its_line() -> None:
    text = converted("""\
        model_list:
          - model_name: m
            litellm_params:
              model: gpt-4o
              max_budget: 3
        litellm_settings:
          cache: true
          num_retries: 3
    """).text
    before_route = text.partition("  - {name: m")[0].rstrip().splitlines()[-1]
    assert says(before_route.strip(), "# model_list.litellm_params.max_budget 5 `budget`")
    comments = [line.strip() for line in text.splitlines()]
    for facts in ("litellm_settings.cache 7", "litellm_settings.num_retries 8"):
        assert any(says(line, f"# {facts}") for line in comments), facts


@pytest.mark.parametrize(
    ("params", "more"),
    [
        ("{model: gpt-4o}", "router_settings: {routing_strategy: usage-based-routing-v2}"),
        ("{model: gpt-4o}", "router_settings: {enable_tag_filtering: true}"),
        ("{model: gpt-4o}", "router_settings: {content_policy_fallbacks: [{m: [n]}]}"),
        ("{model: gpt-4o}", "router_settings: {fallbacks: [{m: [{model: n, temperature: 1}]}]}"),
        ("{model: gpt-4o}", "router_settings: {model_group_alias: {a: nobody}}"),
        ("{model: gpt-4o}", "general_settings: {completion_model: x}"),
        ("{model: gpt-4o}", "include: [more.yaml]"),
        ("{model: gpt-4o}", "general_settings: {pass_through_endpoints: [{path: /v1/rerank, target: 'https://x'}]}"),
        ("{model: gpt-4o}", "router_settings: {provider_budget_config: {openai: {budget_limit: 1}}}"),
        ("{model: gpt-4o}", "litellm_settings: {fallbacks: [m]}"),
        ("{model: gpt-4o}", "litellm_settings: {fallbacks: [{m: [nobody]}]}"),
        ("{model: gpt-4o}", "litellm_settings: {default_fallbacks: [nobody]}"),
        ("{model: gpt-4o}, model_info: {team_id: red}", ""),
        ("{model: whisper-1}, model_info: {mode: audio_transcription}", ""),
        ("{model: gpt-4o, rpm: os.environ/RPM}", ""),
        ("{model: gpt-4o, fallbacks: [m]}", ""),
        ("{model: gpt-4o, mock_response: hi}", ""),
        ("{model: 'openai/*'}", ""),
        ("{model: auto_router/any, auto_router_default_model: m}", ""),
    ],
)
def test_a_change_of_who_answers_stops_it_unless_forced(tmp_path: Path, params: str, more: str) -> None:
    ran = run(tmp_path, model(params, more))
    assert ran.exit_code == 1, ran.output
    assert "--force" in ran.output
    assert not (tmp_path / "config.yaml").exists()
    assert run(tmp_path, model(params, more), "--force").exit_code == 0
    assert "not carried over" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("given", ["[{m: [n]}]", "[{m: n}]", "{m: [n]}", "{m: n}"])
def test_fallbacks_are_read_in_each_form(given: str) -> None:
    models = "model_list: [{model_name: m, litellm_params: {model: gpt-4o}}, {model_name: n, litellm_params: {model: gpt-5}}]"
    assert data(f"{models}\nlitellm_settings: {{fallbacks: {given}}}")["routes"][0]["to"] == [
        "openai/gpt-4o",
        "openai/gpt-5",
    ]


def test_variables_stand_wherever_a_text_does() -> None:
    found = converted("""        model_list:
          - model_name: os.environ/NAME
            litellm_params: {model: os.environ/MODEL, api_key: os.environ/KEY, temperature: os.environ/WARMTH, timeout: os.environ/T}
    """)
    written = yaml.safe_load(found.text)
    assert written["routes"] == [{"name": "NAME", "match": {"model": "${NAME}"}, "to": "litellm/${MODEL}"}]
    assert set(found.variables) == {"NAME", "MODEL", "KEY"}
    assert [left.name.rpartition(".")[2] for left in found.left] == ["timeout", "temperature"]


def test_a_setting_is_read_where_litellm_reads_it() -> None:
    """Elsewhere it does nothing there, and is said to be left out."""
    found = converted(model("{model: gpt-4o}", "litellm_settings: {model_group_alias: {a: m}, master_key: sk-1}"))
    assert [left.name for left in found.left] == ["litellm_settings.model_group_alias", "litellm_settings.master_key"]


def test_a_login_that_is_a_mapping_becomes_a_variable() -> None:
    login = "{type: service_account, private_key: very-secret-word}"
    found = converted(model(f"{{model: vertex_ai/gemini-2.5-pro, vertex_credentials: {login}}}"))
    (row,) = yaml.safe_load(found.text)["backends"].values()
    assert row["options"] == {"vertex_credentials": "${VERTEX_CREDENTIALS}"}
    assert "very-secret-word" not in found.text


def test_a_file_that_is_not_there_is_no_mistake_in_an_option(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["import", "litellm", str(tmp_path / "none.yaml"), "-o", "-"])
    assert (ran.exit_code, "no such file; check its name" in ran.output, "-c FILE" in ran.output) == (1, True, False)


def test_a_config_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    ran = run(tmp_path, model("{model: gpt-4o}"))
    assert (ran.exit_code, (tmp_path / "config.yaml").read_text()) == (1, "mine")
    assert run(tmp_path, model("{model: gpt-4o}"), "--force").exit_code == 0


def test_no_secret_of_the_file_is_copied_or_told(tmp_path: Path) -> None:
    ran = run(tmp_path, (EXAMPLES / "credentials.yaml").read_text())
    assert ran.exit_code == 0, ran.output
    written = (tmp_path / "config.yaml").read_text()
    for secret in ("sk-abcdefgh-literal-secret", "sk-1234567890-literal", "very-secret-word", "secret-word"):
        assert secret not in written + ran.output
    assert "OPENAI_API_KEY, LITELLM_MASTER_KEY" in " ".join(written.split("# ")).replace("\n", "")


def test_a_secret_of_the_file_gets_no_variable_that_holds_another() -> None:
    found = converted("""\
        model_list:
          - {model_name: a, litellm_params: {model: gpt-4o, api_key: sk-first-literal-key}}
          - {model_name: b, litellm_params: {model: gpt-4o, api_key: os.environ/OPENAI_API_KEY}}
          - {model_name: c, litellm_params: {model: gpt-4o, api_key: sk-second-literal-key}}
          - {model_name: d, litellm_params: {model: gpt-4o, api_key: sk-first-literal-key}}
    """)
    rows = yaml.safe_load(found.text)["backends"]
    keys = [row["api_key"] for row in rows.values()]
    assert keys == ["${OPENAI_API_KEY_2}", "${OPENAI_API_KEY}", "${OPENAI_API_KEY_3}"]
    assert found.literals == ("OPENAI_API_KEY_2", "OPENAI_API_KEY_3")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "YAML"),
        ("- a", "mapping"),
        ("model_list: []", "model_list"),
        ("litellm_settings: {}\ninclude: [a.yaml]", ":2:1: "),
        ("model_list:\n  - {model_name: a}", ":2:1: "),
    ],
)
def test_a_file_that_is_no_config_is_an_error_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    ran = run(tmp_path, text)
    assert (ran.exit_code, words in ran.output) == (1, True), ran.output


def test_the_table_shows_what_the_router_will_do(tmp_path: Path) -> None:
    ran = run(tmp_path, (EXAMPLES / "fallbacks.yaml").read_text())
    assert "gpt-4o-mini  ->  openai/gpt-4o-mini , then openai/gpt-4o\n" in ran.output
    assert "set before `chat-proxy serve`:" in ran.output


def test_reasons_name_only_settings_that_exist() -> None:
    known = set(re.findall(r'"(\w+)"', json.dumps(Settings.model_json_schema())))
    tables = (litellm._WHY, litellm._CHANGES_ROUTES, deployments._WHY, deployments._CHANGES_ROUTES)
    reasons = "\n".join(reason for table in tables for reason in table.values())
    named = {name for path in re.findall(r"`([a-z_.]+)[`:]", reasons) for name in path.split(".")}
    assert named - known == set()


@pytest.mark.parametrize("command", [["check"], ["serve", "-c"]])
def test_other_commands_name_this_one_for_such_a_file(command: list[str]) -> None:
    file = str(EXAMPLES / "weights.yaml")
    ran = CliRunner().invoke(main, [*command, file])
    assert ran.exit_code != 0
    assert f"chat-proxy import litellm {file}" in ran.output


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["C"])), VALUES, min_size=1, max_size=3))
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    lines = writer.section("rows", [*writer.item(values, 2), *writer.item(values, 2)])
    assert yaml.safe_load("\n".join(lines)) == {"rows": [values, values]}


SECTIONS = ["general_settings", "litellm_settings", "router_settings", "include", "credential_list", "guardrails"]
NAMES = ["fallbacks", "default_fallbacks", "context_window_fallbacks", "model_group_alias", "routing_strategy", "timeout",
         "allowed_fails", "cooldown_time", "master_key", "request_timeout", "callbacks"]  # fmt: skip
PARAMS = ["weight", "rpm", "order", "timeout", "api_base", "api_key", "headers", "temperature", "tags", "api_version"]


@given(st.sampled_from(SECTIONS), st.sampled_from(NAMES), VALUES, st.sampled_from(PARAMS), VALUES)
def test_whatever_a_file_says_is_converted_or_refused(
    section: str, name: str, value: Any, param: str, given_value: Any
) -> None:
    params = {"model": "openai/gpt-4o", param: given_value}
    text = yaml.safe_dump({"model_list": [{"model_name": "m", "litellm_params": params}], section: {name: value}})
    try:
        written = convert(text, "litellm.yaml").text
    except ConfigErrors:
        return
    assert yaml.safe_load(written)["routes"]
