"""What is left out of a request, and which of it its client is told."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.contracts.anthropic import upstream_request as anthropic_body
from proxy.contracts.anthropic.omissions import omissions as left_out_to_anthropic
from proxy.contracts.openai import upstream_request as openai_chat
from proxy.events import Notice
from proxy.request import ChatRequest, Message, Text, Tool
from proxy.wire.omissions import hosted_tools, notice_json, noticeable


def request(**keys: Any) -> ChatRequest:
    keys = {"id": "q", "contract": "chat", "dialect": "chat", "messages": (Message("user", (Text("hi"),)),)} | keys
    return ChatRequest(**keys)


def to_anthropic(asked: ChatRequest, *, model: str = "claude-sonnet-4-5", version: str = "2023-06-01") -> list[Notice]:
    fields = anthropic_body.request_fields(asked, model=model, version=version, max_tokens=4096)
    return left_out_to_anthropic(asked, fields, model=model)


def to_openai(asked: ChatRequest, *hints: str) -> list[Notice]:
    return openai_chat.omissions(asked, openai_chat.request_fields(asked, model="m", hints=hints))


def named(notices: list[Notice]) -> list[str]:
    return [notice.param for notice in notices]


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1},
        {"frequency_penalty": 0.0},
        {"n": 1},
        {"stop": []},
        {"response_format": {"type": "text"}},
        {"reasoning_effort": "none"},
        {"top_logprobs": 3},
        {"tool_choice": "required"},  # among no tools
        {"parallel_tool_calls": False},
    ],
)
def test_what_asks_for_what_happens_anyway_is_missed_by_nobody(params):
    assert not any(noticeable(request(params=params), name) for name in params)


def test_what_the_route_says_is_missed_by_no_client():
    asked = request(params={"seed": 1, "logit_bias": {"1": 2}}, routed=frozenset({"seed"}))
    assert named(to_anthropic(asked)) == ["logit_bias"]


def test_every_setting_anthropic_has_no_word_for_is_announced_once():
    given = {"seed": 1, "frequency_penalty": 0.5, "presence_penalty": 0.5, "logit_bias": {"1": 1}, "verbosity": "low"}
    given |= {
        "service_tier": "flex",
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "response_format": {"type": "json_object"},
    }
    carried = {"temperature": 0.5, "top_k": 3, "stop": "END", "max_completion_tokens": 9}
    asked = request(params=given | carried, hints=frozenset({"top_k", "min_p", "repetition_penalty"}))
    assert named(to_anthropic(asked)) == list(given)
    assert {notice.code for notice in to_anthropic(asked)} == {"ignored_setting"}


def test_settings_that_anthropic_takes_are_not_announced():
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    asked = request(
        tools=(Tool("f"),),
        params={"stop": ["END"], "response_format": schema, "tool_choice": "required", "parallel_tool_calls": False}
        | {"max_tokens": 9, "top_p": 0.5, "top_k": 3},
    )
    assert to_anthropic(asked) == []
    assert to_anthropic(request(params={"reasoning_effort": "low", "max_tokens": 9000})) == []


@pytest.mark.parametrize(
    ("params", "keys", "why"),
    [
        ({"temperature": 0.5}, {"model": "claude-opus-4-7"}, "sampling"),
        ({"top_k": 5}, {"version": "2026-10-21"}, "top_k"),
        ({"top_p": 0.5, "temperature": 1}, {}, "beside temperature"),
        ({"temperature": 0.5, "reasoning_effort": "low", "max_tokens": 9000}, {}, "beside thinking"),
        ({"reasoning_effort": "low", "max_tokens": 100}, {}, "reasoning_effort"),
    ],
)
def test_the_reason_is_reported(params, keys, why):
    (notice,) = to_anthropic(request(params=params), **keys)
    assert why in notice.message


def test_a_request_in_anthropics_own_words_loses_only_what_the_version_refuses():
    wire = {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "top_k": 3,
        "thinking": {"type": "enabled"},
    }
    own = {"dialect": "anthropic-messages", "raw_body": wire, "params": {"max_tokens": 9, "top_k": 3}}
    tools = ("web_search_20250305",)
    assert to_anthropic(request(**own, hosted_tools=tools)) == []
    assert named(to_anthropic(request(**own, hosted_tools=tools), version="2026-10-21")) == ["top_k"]


def test_a_hint_that_goes_on_is_not_announced():
    asked = request(params={"top_k": 3, "reasoning_effort": "low"}, hints=frozenset({"top_k", "reasoning_effort"}))
    assert named(to_openai(asked, "top_k")) == ["reasoning_effort"]
    assert to_openai(asked, "top_k", "reasoning_effort") == []


def test_tools_that_the_upstream_should_run_are_announced_unless_it_speaks_the_clients_dialect():
    tools = ("web_search", "web_search", "mcp")
    assert named(to_openai(request(hosted_tools=tools))) == ["web_search", "mcp"]
    assert named(to_anthropic(request(hosted_tools=tools))) == ["web_search", "mcp"]
    assert to_openai(request(dialect="openai-chat", hosted_tools=tools)) == []


def test_a_tools_type_is_a_clients_text_and_reported_only_if_it_is_a_word():
    (notice,) = hosted_tools(request(hosted_tools=("x\r\nSet-Cookie: a=b",)))
    assert "Set-Cookie" not in f"{notice.message} {notice.param}"


def test_that_a_tool_failed_is_announced_to_a_form_without_a_field_for_it():
    asked = request(messages=(Message("tool", (Text("no such city"),), tool_call_id="c", failed=True),))
    (notice,) = to_openai(asked)
    assert "failed" in notice.message


def test_a_notice_for_programs_names_what_it_is_about():
    assert notice_json(Notice("a", "b")) == b'{"code":"a","message":"b"}'
    assert notice_json(Notice("a", "b", "c")) == b'{"code":"a","message":"b","param":"c"}'
