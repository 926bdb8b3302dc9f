"""`chat-proxy explain`: the same decision as the server's, in words and as data."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from proxy.cli import main
from tests.support.said import assert_said, says

CONFIG = """
    auth:
      keys:
        - {name: web, sha256: "2a747cf28224f2f4d163111061400eb3ea82aed16b73901edddd264eff1bb370"}
        - {name: ci, sha256: "3a747cf28224f2f4d163111061400eb3ea82aed16b73901edddd264eff1bb370", models: [echo]}
        - {name: coder, sha256: "4a747cf28224f2f4d163111061400eb3ea82aed16b73901edddd264eff1bb370", routes: [code]}
    backends:
      echo: {kind: echo}
      far: {kind: openai, api_key: "${FAR_KEY}", optional: true}
    routes:
      - {name: code, match: {model: "code-*", header: {x-team: "research*"}}, to: [echo/code, far/gpt]}
      - {name: far, to: far/gpt}
      - {name: v1, match: {contract: openai}, to: [echo/v1, echo/echo], timeouts: {connect_s: 2}, heartbeat_s: 0}
      - name: default
        match: {path: [/chat, /api/chat]}
        to: [{target: echo/a, weight: 95}, {target: echo/echo, weight: 5}]
        pick: weighted
        set: {temperature: 0.7}
        default: {max_tokens: 100}
"""


@pytest.fixture
def explain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FAR_KEY", raising=False)
    (tmp_path / "config.yaml").write_text(dedent(CONFIG))

    def explain(*arguments, body=None):
        last = [] if body is None else ["-"]
        result = CliRunner().invoke(
            main,
            ["explain", *arguments, *last],
            input=body if body is None or isinstance(body, str) else json.dumps(body),
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return explain


def chat(**keys):
    return {"messages": [{"role": "user", "content": "hi"}], **keys}


def test_a_person_reads_where_the_request_goes_and_why(explain):
    result = explain("-H", "X-Team: sales", body=chat(model="code-1", temperature=1, top_p=0.5))
    assert result.exit_code == 0
    assert result.stdout == dedent(
        """\
        request    /chat, model code-1, key (none)
        contract   chat
        skipped    code: wants header x-team research*, got sales
                   far: off: backend far: FAR_KEY is not set
                   v1: wants contract openai, got chat
        route      default
        pick       weighted
        to         1. echo/a  (95% of requests)
                   2. echo/echo  (5% of requests)
        timers     connect 5 s, first token 60 s, gap 60 s, total 1800 s, unstreamed 600 s
        heartbeat  after 15 s of silence
        delivery   as it comes; under load, fast streams at most every 33 ms
        when cut   error
        dialect    as the client asks
        errors     frame
        sends      max_tokens 100  (the route's default)
                   top_p 0.5  (from the request)
                   temperature 0.7  (set by the route)
        """
    )


def test_a_machine_reads_the_same(explain):
    said = json.loads(explain("--json", "--path", "/v1/chat/completions", body=chat(model="m")).stdout)
    assert said.pop("timers") == {
        "connect_s": 2.0, "first_token_s": 60.0, "token_gap_s": 60.0, "total_s": 1800.0, "whole_s": 600.0,
    }  # fmt: skip
    assert said == {
        "contract": "openai",
        "path": "/v1/chat/completions",
        "model": "m",
        "key": None,
        "skipped": [
            {"route": "code", "condition": "model", "wanted": "code-*", "got": "m"},
            {
                "route": "far",
                "condition": "off",
                "wanted": "a backend that is on",
                "got": "backend far: FAR_KEY is not set",
            },
        ],
        "route": "v1",
        "pick": "in-order",
        "sticks_to": None,
        "targets": [
            {"target": "echo/v1", "backend": "echo", "model": "v1", "share": 1.0},
            {"target": "echo/echo", "backend": "echo", "model": "echo", "share": 0.0},
        ],
        "unused": [],
        "heartbeat_s": 0.0,
        "delivery": {"tick_ms": "auto"},
        "hedge": None,
        "guards": {},
        "on_cut": "error",
        "tags_state": False,
        "dialect": None,
        "errors": None,
        "reasoning_field": None,
        "parameters": {},
        "limits": [],
        "omissions": [],
        "differences": [],
        "error": None,
    }


def test_without_a_body_the_request_says_hi(explain):
    assert "route      default" in explain().stdout


def test_an_off_fallback_is_shown_as_unused(explain):
    result = explain("-H", "x-team: research", body=chat(model="code-1"))
    assert "to         1. echo/code\n           -  far/gpt  (off: FAR_KEY is not set)\n" in result.stdout


def test_with_its_variable_a_backend_is_used_and_its_key_shown_nowhere(explain, monkeypatch):
    monkeypatch.setenv("FAR_KEY", "sk-canary-5511")
    for form in ([], ["--json"]):
        result = explain("-H", "x-team: research", *form, body=chat(model="code-1"))
        assert "far/gpt" in result.stdout
        assert "canary" not in result.output


def test_it_asks_as_a_key(explain):
    result = explain("--key", "ci")
    assert "to         1. echo/echo\n           -  echo/a  (the key's `models` do not allow it)\n" in result.stdout
    assert_said(explain("--key", "cii").stderr.splitlines(), ["401 invalid_api_key `cii` `ci`"])


@pytest.mark.parametrize(
    ("arguments", "body", "error"),
    [
        (["--key", "coder"], chat(model="x"), "refused    403 permission_denied: "),
        (["--key", "ci", "--path", "/v1/chat/completions"], chat(model="code-9"), None),
        (["--path", "/nowhere"], chat(), "404 not_found: "),
        (["--path", "/chatt"], chat(), " `/chat`"),
        ([], "not json", "400 invalid_request: "),
        ([], {"messages": 5}, " invalid_request: messages: "),
    ],
)
def test_a_request_that_would_be_refused_exits_1_and_says_why(explain, arguments, body, error):
    result = explain(*arguments, body=body)
    assert result.exit_code == (1 if error else 0)
    assert error is None or error in result.output


def test_a_secret_header_is_compared_and_not_shown(explain, tmp_path):
    (tmp_path / "config.yaml").write_text(
        "backends: {echo: {kind: echo}}\nroutes: [{name: a, match: {header: {authorization: 'Bearer x*'}}, to: echo/e}]\n"
    )
    result = explain("-H", "Authorization: Bearer canary-77")
    assert "wants header authorization Bearer x*, got (not shown)" in result.stdout
    assert "canary" not in result.output


def test_an_ollama_name_is_read_as_the_server_reads_it(explain):
    def asked(model):
        told = explain("--path", "/ollama/api/chat", "--json", body=chat(model=model))
        return json.loads(told.stdout)["model"]

    assert asked("echo/code:latest") == "echo/code"
    assert asked("code-1:latest") == "code-1"
    assert asked("code-1:7b") == "code-1:7b"


def test_the_query_of_a_path_is_no_part_of_it(explain):
    assert "request    /chat," in explain("--path", "/chat?dialect=json").stdout


@pytest.mark.parametrize(
    ("path", "body", "contract"),
    [
        ("/api/chat", {"messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]}, "ai-sdk"),
        ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}, "chat"),
        ("/api/chat?contract=ai-text", {"prompt": "hi"}, "ai-text"),
        ("/api/completion", {"prompt": "hi"}, "ai-sdk"),
        ("/agui", chat(), "ag-ui"),
    ],
)
def test_where_contracts_share_a_path_it_says_which_one_the_body_speaks(explain, path, body, contract):
    explained = explain("--json", "--path", path, body=body)
    assert json.loads(explained.stdout)["contract"] == contract


def test_what_is_read_out_of_other_words_is_said_to_be_a_hint(explain):
    body = {**chat(model="code-9"), "max_tokens": 9, "top_k": 4, "thinking": {"type": "enabled", "budget_tokens": 4000}}
    explained = explain("--path", "/v1/messages?beta=true", "-H", "x-team: research", body=body).stdout
    assert "contract   anthropic" in explained
    assert "max_tokens 9  (from the request)" in explained
    assert 'reasoning_effort "medium"  (from the request, to a target that is known to take it)' in explained
    said = json.loads(explain("--json", "--path", "/v1/messages", "-H", "x-team: research", body=body).stdout)
    assert said["parameters"]["top_k"] == {"value": 4, "origin": "hint"}


DECLARED = """
    backends: {echo: {kind: echo}}
    frontends:
      mine:
        path: /mine
        request: {prompt: input.question, model: llm, parameters: {temperature: heat}, metadata: {tenant: tenant}}
        response: {token: $text}
    routes:
      - {name: acme, match: {contract: mine, metadata: {tenant: acme}}, to: echo/acme}
      - {name: default, to: echo/echo}
"""


def test_a_contract_of_the_configs_own_is_chosen_by_its_path(explain, tmp_path):
    (tmp_path / "config.yaml").write_text(dedent(DECLARED))
    body = {"input": {"question": "hi"}, "llm": "m", "heat": 0.5, "tenant": "acme"}
    result = explain("--path", "/mine", body=body)
    assert result.exit_code == 0
    for line in (
        "request    /mine, model m, key anonymous",
        "contract   mine",
        "route      acme",
        "sends      temperature 0.5  (from the request)",
    ):
        assert f"{line}\n" in result.stdout + "\n"
    assert_said(explain("--path", "/mine", body={}).stderr.splitlines(), ["422 invalid_request input.question"])
    assert "`/mine`" in explain("--path", "/min", body=body).stderr


def test_without_a_body_it_says_hi_as_the_contract_would(explain, tmp_path):
    (tmp_path / "config.yaml").write_text(dedent(DECLARED))
    result = explain("--path", "/mine")
    assert "contract   mine\nskipped    acme: wants metadata tenant acme, got " in result.stdout
    assert result.exit_code == 0


def test_what_a_target_leaves_out_or_refuses_is_said_before_any_traffic(explain, tmp_path):
    (tmp_path / "config.yaml").write_text(
        dedent(
            """
            backends:
              far: {kind: anthropic, base_url: "http://127.0.0.1:1"}
              near: {kind: openai-compatible, base_url: "http://127.0.0.1:1"}
            routes: [{name: all, to: [far/claude-opus-4-7, near/m], set: {temperature: 0.7}, reasoning_field: both}]
            """
        )
    )
    result = explain("--path", "/v1/chat/completions", body=chat(seed=1, top_k=5, n=2))
    assert says(result.stdout.splitlines()[-1], "notices far/claude-opus-4-7: refuses (n)")
    assert "\nreasoning  both\n" in result.stdout
    said = json.loads(explain("--json", body=chat(seed=1, top_k=5)).stdout)
    assert [(one["target"], one["what"].split()[0]) for one in said["omissions"]] == [
        ("far/claude-opus-4-7", "seed"), ("far/claude-opus-4-7", "top_k"), ("near/m", "top_k"),
    ]  # fmt: skip
    assert said["reasoning_field"] == "both"


def test_R2_what_a_target_is_sent_in_other_words_is_said_before_any_traffic(explain, tmp_path):
    row = "{kind: openai-compatible, preset: mistral, api_key: k"
    (tmp_path / "config.yaml").write_text(
        f"backends: {{far: {row}}}, near: {row}, quirks: {{call_ids: {{longest: 64}}, parameters: {{seed: s}}}}}}}}\n"
        "routes: [{name: all, to: [far/m, near/m]}]\n"
    )
    call = {"function": {"name": "look.up", "arguments": {}}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    body = json.dumps({"messages": messages, "options": {"seed": 1}, "think": False})
    said = json.loads(explain("--json", "--path", "/ollama/api/chat", body=body).stdout)["differences"]
    by_target = {target: [one["what"] for one in said if one["target"] == target] for target in ("far/m", "near/m")}
    assert_said(by_target["far/m"], ["2 messages 3", "1 id", "the tool look.up look_up_", "seed random_seed"])
    assert says(by_target["near/m"][0], "2 messages 3")
    assert re.fullmatch(r"seed .* s", by_target["near/m"][-1])
    assert f"\nreworded   far/m: {by_target['far/m'][0]}\n" in explain("--path", "/ollama/api/chat", body=body).stdout


def test_N7_explain_takes_a_model_and_a_body_as_they_are_at_hand(explain):
    for arguments in (["--model", "code-1"], ['{"model": "code-1", "messages": [{"role": "user", "content": "hi"}]}']):
        result = explain("-H", "x-team: research", "--path", "/v1/chat/completions", *arguments)
        assert (result.exit_code, result.output.splitlines()[0]) == (
            0,
            "request    /v1/chat/completions, model code-1, key (none)",
        )
        assert "route      code" in result.output
    replaced = explain("-H", "x-team: research", "--model", "code-2", body=chat(model="other"))
    assert "model code-2" in replaced.output


def test_the_score_of_each_target_is_told_and_what_decides(explain, tmp_path):
    (tmp_path / "config.yaml").write_text(
        "backends: {echo: {kind: echo}}\n"
        'prices: {"dear": {input_per_million: 3, output_per_million: 15}, "echo/cheap*": {input_per_million: 0.1, '
        "output_per_million: 0.4}}\n"
        "routes:\n"
        "  - {name: cheap, match: {model: c}, to: [echo/unknown, echo/dear, echo/cheap-1], pick: cheapest}\n"
        "  - {name: soon, match: {model: l}, to: [echo/a, echo/b], pick: least-latency}\n"
        "  - {name: sticky, to: [echo/a, echo/b], pick: weighted, sticky: conversation}\n"
    )
    told = explain(body=chat(model="c")).stdout
    assert "pick       cheapest\n" in told
    assert "1. echo/cheap-1  (about $0.0005)" in told
    assert "2. echo/dear  (about $0.018)" in told
    assert "3. echo/unknown  (price unknown)" in told
    assert "1. echo/a  (not measured yet, 0 open)" in explain(body=chat(model="l")).stdout
    body = chat(model="x", metadata={"thread_id": "t1"})
    assert "pick       weighted, by thread_id" in explain(body=body).stdout
    said = json.loads(explain("--json", body=body).stdout)
    assert (said["pick"], said["sticks_to"]) == ("weighted", "thread_id")


def line(text, label):
    return next(one for one in text.splitlines() if one.startswith(f"{label} "))


@pytest.mark.parametrize(
    ("hedge", "told"),
    [
        ("{after_ms: 800}", "0.8 closed"),
        ("{after_percentile: 95, on_lose: drain}", "95 read"),
    ],
)
def test_a_hedge_is_explained(explain, tmp_path, hedge, told):
    config = f"backends: {{echo: {{kind: echo}}}}\nroutes: [{{name: r, to: [echo/a, echo/b], hedge: {hedge}}}]\n"
    (tmp_path / "config.yaml").write_text(config)
    assert says(line(explain(body=chat(model="m")).stdout, "hedge"), f"hedge {told}")


def test_guards_are_explained(explain, tmp_path):
    guards = "repetition_guard: true, min_tokens_per_s: 2.5, smooth: {max_lag_ms: 300}"
    (tmp_path / "config.yaml").write_text(
        f"server: {{resume: {{grace_s: 20}}}}\nbackends: {{e: {{kind: echo}}}}\nroutes: [{{name: r, to: e/a, {guards}}}]\n"
    )
    text = explain(body=chat(model="m")).stdout
    for facts in ("resume 20 300", "loops `degenerate`", "pace 2.5 10", "smooth 300"):
        assert says(line(text, facts.split()[0]), facts)
    assert json.loads(explain("--json", body=chat(model="m")).stdout)["guards"].keys() == {
        "loops",
        "pace",
        "smooth",
        "resume",
    }


def test_state_that_is_tagged_is_explained(explain, tmp_path):
    rows = ", ".join(f'{name}: {{kind: anthropic, base_url: "http://{name}.example"}}' for name in ("a", "b"))
    route = "routes: [{name: r, to: [a/m, %s/m]}]\n"
    for second, told in (("b", True), ("a", False)):
        (tmp_path / "config.yaml").write_text(f"backends: {{{rows}}}\n" + route % second)
        text = explain(body=chat(model="m")).stdout
        assert ("\nstate " in text) == told
        assert json.loads(explain("--json", body=chat(model="m")).stdout)["tags_state"] is told
    tagged = {"type": "thinking", "thinking": "hm", "signature": "cp1-aaaaaaaaaa:S"}
    said = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [tagged]},
        {"role": "user", "content": "?"},
    ]
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": said})
    told = explain("--path", "/v1/messages", body=body).stdout
    assert any("a/m: " in one and "reasoning" in one for one in told.splitlines())


def test_how_many_streams_a_target_is_sent_is_explained(explain, tmp_path):
    (tmp_path / "config.yaml").write_text(
        "backends: {echo: {kind: echo}}\n"
        "routes: [{name: r, to: [{target: echo/a, concurrency: 2, queue: {size: 9, wait_s: 3}}, "
        "{target: echo/b, concurrency: {min: 1, max: 8}}]}]\n"
    )
    told = explain(body=chat(model="m")).stdout
    assert "1. echo/a  (2 at once, 9 more wait up to 3 s)\n" in told
    assert "2. echo/b  (fallback; 1 to 8 at once)\n" in told
    first, second = json.loads(explain("--json", body=chat(model="m")).stdout)["targets"]
    assert first["limit"] == {"target": "echo/a", "least": 2, "most": 2, "queue": 9, "wait_s": 3.0}
    assert second["limit"]["most"] == 8


def test_json_that_is_no_object_is_no_file(explain):
    result = explain("[1]")
    assert (result.exit_code, "400 invalid_request" in result.stderr) == (1, True), result.output


def test_where_no_config_is_it_goes_by_what_is_served_then(explain, monkeypatch):
    Path("config.yaml").unlink()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-none-of-any-worth")
    result = explain("--model", "claude-x")
    assert (result.exit_code, "anthropic/claude-x" in result.stdout) == (0, True), result.output
    assert_said(result.stderr.splitlines(), ["no config.yaml"])
    assert not Path("config.yaml").exists()
    assert explain("-c", "config.yaml", "--model", "claude-x").exit_code == 1


def test_the_examples_of_its_help_work(explain):
    """Those that ask the config; the others need a proxy that runs."""
    Path("config.yaml").write_text("{backends: {echo: {kind: echo}}, routes: [{name: all, to: echo}]}")
    Path("request.json").write_text(json.dumps(chat(model="x")))
    lines = [line.strip() for line in main.commands["explain"].help.splitlines() if "chat-proxy explain" in line]
    examples = [line for line in lines if "--last" not in line and "--request" not in line]
    assert len(examples) == 4
    for example in examples:
        given, _, command = example.rpartition(" | ")
        arguments = shlex.split(command.removeprefix("chat-proxy explain"))
        told = shlex.split(given)[1] if given else None
        result = explain(*(one for one in arguments if one != "-"), body=told)
        assert result.exit_code == 0, f"{example}: {result.output}"
