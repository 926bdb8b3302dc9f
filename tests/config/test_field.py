"""What people really write into a config, and what `check` says about it: rows N5 and N7."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from proxy.app import settings_for
from proxy.backends.openai.compatible import PRESETS
from proxy.config.load import load_config
from proxy.errors import ConfigErrors
from tests.support.said import assert_said

ROUTES = "routes: [{name: default, to: far/m}]"
NO_ENVIRONMENT: Mapping[str, str] = {}


def errors(text: str, *, env: Mapping[str, str] = NO_ENVIRONMENT) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        load_config("c.yaml", content=dedent(text).encode(), settings_for=settings_for, env=env)
    return [f"{error.line}:{error.column}: {error.message}" for error in raised.value.errors]


def warnings(text: str, *, env: Mapping[str, str] = NO_ENVIRONMENT) -> list[str]:
    config = load_config("c.yaml", content=dedent(text).encode(), settings_for=settings_for, env=env)
    return [f"{warning.line}:{warning.column}: {warning.message}" for warning in config.warnings]


def row(**keys: str) -> str:
    """A config whose only backend has these keys."""
    body = ", ".join(f"{key}: {value}" for key, value in {"kind": "openai-compatible", **keys}.items())
    return f"backends:\n  far: {{{body}}}\n{ROUTES}\n"


LOCAL = '"http://127.0.0.1:9999/v1"'

# -- N5: what cannot work is said by `check`


def without_model(route: str, *, far: str = f"{{kind: openai-compatible, base_url: {LOCAL}}}") -> str:
    return f"backends:\n  far: {far}\nroutes:\n  - {route}\n"


@pytest.mark.parametrize(
    "route",
    [
        "{name: default, to: far}",
        "{name: default, to: [far/m, far]}",
        "{name: default, match: {contract: [chat, openai]}, to: far}",
        '{name: default, match: {contract: "*", path: "/ch*"}, to: {target: far}}',
    ],
)
def test_N5_a_route_that_leaves_the_model_to_requests_that_name_none_is_doubted(route: str) -> None:
    assert_said(warnings(without_model(route)), ['4: `far` far/MODEL {model: "*"}'])


@pytest.mark.parametrize(
    "route",
    [
        "{name: default, to: far/m}",
        '{name: default, match: {model: "*"}, to: far}',
        "{name: default, match: {contract: [openai, anthropic]}, to: far}",
        "{name: default, match: {path: /v1/chat/completions}, to: far}",
        "{name: default, match: {header: {x-from: open-webui}}, to: far}",
        "{name: chat, match: {contract: chat}, to: far/m}\n  - {name: default, to: far}",
    ],
)
def test_N5_a_route_whose_requests_name_a_model_is_fine(route: str) -> None:
    assert warnings(without_model(route)) == []


def test_N5_a_backend_with_a_model_of_its_own_is_fine() -> None:
    assert warnings(without_model("{name: default, to: far}", far="{kind: echo}")) == []


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("os.environ/FAR_KEY", "FAR_KEY"),
        ("$FAR_KEY", "FAR_KEY"),
        ('"$FAR_KEY"', "FAR_KEY"),
        ("env:FAR_KEY", "FAR_KEY"),
        ("env.FAR_KEY", "FAR_KEY"),
        ('"%FAR_KEY%"', "FAR_KEY"),
        ('"{{ env.FAR_KEY }}"', "FAR_KEY"),
        ('"{{FAR_KEY}}"', "FAR_KEY"),
        ("$env:FAR_KEY", "FAR_KEY"),
        ("FAR_KEY", "FAR_KEY"),
        ("FAR_API_TOKEN", "FAR_API_TOKEN"),
    ],
)
def test_N5_a_variable_in_another_programs_form_is_an_error_with_ours(written: str, name: str) -> None:
    found = errors(row(base_url=LOCAL, api_key=written), env={"FAR_KEY": "sk-0123456789abcdef"})
    assert_said(found, [f"2: ${{{name}}}"])


def test_N5_the_same_holds_for_addresses_headers_and_client_keys() -> None:
    (error,) = errors(row(base_url="$FAR_URL"))
    assert "${FAR_URL}" in error
    (error,) = errors(row(base_url=LOCAL, headers="{X-Api-Key: os.environ/FAR_KEY}"))
    assert "${FAR_KEY}" in error
    (error,) = errors(row(base_url=LOCAL) + "auth: {keys: [{name: web, key: $WEB_KEY}]}\n")
    assert "${WEB_KEY}" in error


def test_N5_a_value_that_comes_from_the_environment_is_not_read_again() -> None:
    assert warnings(row(base_url=LOCAL, api_key='"${FAR_KEY}"'), env={"FAR_KEY": "$OTHER"}) == []


@pytest.mark.parametrize("kind", ["openai-compatible", "openai"])
@pytest.mark.parametrize("endpoint", ["/chat/completions", "/completions", "/responses", "/embeddings"])
def test_N5_an_address_that_ends_with_the_endpoint_is_an_error(kind: str, endpoint: str) -> None:
    url = f'"http://127.0.0.1:9999/v1{endpoint}"'
    (error,) = errors(row(kind=kind, base_url=url, api_key="sk-0123456789abcdef"))
    assert f"`{endpoint}`" in error


def test_N5_the_same_for_the_kind_anthropic() -> None:
    url = '"https://api.anthropic.com/v1/messages"'
    (error,) = errors(row(kind="anthropic", base_url=url, api_key="sk-0123456789abcdef"))
    assert "`/messages`" in error
    assert warnings(row(kind="anthropic", base_url='"https://api.anthropic.com"', api_key="sk-0123456789abcdef")) == []


@pytest.mark.parametrize("kind", ["openai-compatible", "openai"])
def test_N5_an_address_without_a_path_is_doubted(kind: str) -> None:
    found = warnings(row(kind=kind, base_url='"http://127.0.0.1:11434/"', api_key="sk-0123456789abcdef"))
    assert_said(found, ["2: http://127.0.0.1:11434/v1 base_url"])


@pytest.mark.parametrize("preset", PRESETS)
def test_N5_the_address_of_a_known_vendor_is_right_as_it_is(preset: str) -> None:
    url = PRESETS[preset].base_url
    assert warnings(row(base_url=f'"{url}"', api_key="sk-0123456789abcdef").replace("8080", "8081")) == []


# -- N7: hints that lead to the cure


@pytest.mark.parametrize(
    "text",
    [
        "server:\n  port: 8080\n   host: 127.0.0.1\n",
        "backends:\n  echo: here\n    kind: echo\n",
        "routes:\n  - name: default\n     to: echo\n",
        "a: 1\n b: 2\n",
    ],
)
def test_N7_a_line_indented_too_deep_is_told_so(text: str) -> None:
    assert_said(errors(text), [f"{text.count(chr(10))}: indent"])


@pytest.mark.parametrize("text", ["a: b: c\n", "x:\n  a: b: c\n", "- a: b: c\n", "x: 1\ny: see: that\n"])
def test_N7_a_second_colon_is_told_so(text: str) -> None:
    (error,) = errors(text)
    assert "`: `" in error


@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        ("ollama", "ollama"),
        ("Ollama", "ollama"),
        ("vllm", "vllm"),
        ("llamacpp", "llama.cpp"),
        ("lm-studio", "lmstudio"),
        ("groq", "groq"),
        ("deepseek", "deepseek"),
        ("gemini", "gemini"),
    ],
)
def test_N7_a_vendor_given_as_kind_is_told_its_preset(kind: str, preset: str) -> None:
    found = errors(f"backends:\n  far: {{kind: {kind}}}\n{ROUTES}\n")
    assert_said(found, [f"2: `far` `{kind}` openai-compatible preset: {preset}`"])


def test_N7_azure_given_as_kind_is_told_where_it_is() -> None:
    assert_said(errors(f"backends:\n  far: {{kind: azure}}\n{ROUTES}\n"), ["2: openai endpoint api_version"])


def test_N7_a_kind_like_none_of_them_is_told_which_there_are() -> None:
    assert_said(errors(f"backends:\n  far: {{kind: zzzzzz}}\n{ROUTES}\n"), ["2: `far` anthropic"])
    assert_said(errors(f"backends:\n  far: {{kind: openai-compatibel}}\n{ROUTES}\n"), ["2: `openai-compatible`"])


QUIRKS = {
    "the nearest key": ("{prefil: trailing}", "prefil:", "backends.far.quirks `prefill`"),
    "the nearest value": ("{system: hed}", "hed", "`hed` `head`"),
    "a key inside": ("{call_ids: {longst: 9}}", "longst", "`longst`"),
    "a number too small": ("{call_ids: {longest: 3}}", "3}", "backends.far.quirks.call_ids.longest"),
}


@pytest.mark.parametrize("case", QUIRKS)
def test_N7_a_mistake_in_quirks_is_placed(case: str) -> None:
    quirks, wrong, facts = QUIRKS[case]
    text = row(base_url=LOCAL, quirks=quirks)
    assert_said(errors(text), [f"2:{text.splitlines()[1].index(wrong) + 1}: {facts}"])


def test_N7_litellm_takes_quirks_of_conversations_alone() -> None:
    litellm = "backends:\n  far: {kind: litellm, quirks: {%s}}\n" + ROUTES
    load_config("c.yaml", content=(litellm % "system: anywhere").encode(), settings_for=settings_for, env={})
    assert_said(errors(litellm % "parameters: {seed: s}"), ["2:33: `parameters` backends.far.quirks"])


def test_N5_perplexity_s_ended_api_is_doubted() -> None:
    (warning,) = warnings(row(preset="perplexity", api_key="k"))
    assert "Perplexity" in warning


LITELLM = """
    model_list:
      - model_name: gpt-4o
        litellm_params: {model: azure/gpt-4o, api_key: os.environ/AZURE_API_KEY}
    litellm_settings: {drop_params: true}
    general_settings: {master_key: sk-1234}
    router_settings: {num_retries: 2}
    environment_variables: {}
"""


def test_N7_a_config_of_litellm_is_told_in_one_line_what_it_is_and_what_to_do() -> None:
    assert_said(errors(LITELLM), ["2:1: LiteLLM `backends` `routes`"])


def test_N7_a_config_of_our_own_with_a_stray_key_is_told_of_the_key(tmp_path: Path) -> None:
    (error,) = errors(row(base_url=LOCAL) + "model_list: []\n")
    assert "`model_list`" in error


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{every_s: 1}", "2: far.discover.every_s 10"),
        ("{every: 100}", "2: `every` far.discover `every_s`"),
        ('"on"', '2: far.discover every_s "off"'),
        ("null", '2: far.discover every_s "off"'),
        ("[60]", '2: far.discover every_s "off"'),
    ],
)
def test_N7_a_mistake_in_a_setting_that_may_be_off_is_told_once_and_by_its_own_name(written: str, said: str) -> None:
    assert_said(errors(row(base_url=LOCAL, discover=written)), [said])
