"""Writing Messages requests: from other dialects, and on from a client's own body."""

import base64

import msgspec
import pytest

from proxy.contracts.anthropic.params import takes_late_system
from proxy.contracts.anthropic.request import decode_request
from proxy.contracts.anthropic.upstream_request import request_fields
from proxy.contracts.openai.request import decode_request as decode_openai
from proxy.errors import BadRequest, Unsupported
from proxy.request import Audio, ChatRequest, File, Image, Message, Other, Text, Tool, ToolCall

OLD, NEW = "2023-06-01", "2026-10-21"
HI = (Message("user", (Text("hi"),)),)
TOOL = Tool("f", "d", {"type": "object", "properties": {"a": {"type": "string"}}})


CLOSED = {"type": "object", "additionalProperties": False}


def request(*messages, params=None, **fields):
    return ChatRequest(
        id="r1", contract="openai", dialect="openai-chat", messages=messages or HI, params=params or {}, **fields
    )


def encode(asked, model="claude-haiku-4-5", version=OLD):
    return msgspec.json.decode(as_bytes(asked, model, version))


def as_bytes(asked, model, version):
    return msgspec.json.encode(request_fields(asked, model=model, version=version, max_tokens=5000))


def written(params, model="claude-haiku-4-5", version=OLD, **fields):
    """What settings become, without what every request has."""
    body = encode(request(params=params, **fields), model, version)
    always = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5000}
    return {name: value for name, value in body.items() if always.get(name) != value and name != "tools"}


def turns(*messages):
    return encode(request(*messages))["messages"]


# messages of other dialects


def test_the_smallest_request():
    assert encode(request(stream=False)) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 5000,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
    }


def test_the_same_request_gives_the_same_bytes():
    asked = request(params={"temperature": 0, "top_k": 4, "stop": ["x"]}, tools=(TOOL,), user="u")
    assert len({as_bytes(asked, "m", OLD) for _ in range(5)}) == 1


def test_system_text_stays_where_it_is_and_turns_alternate():
    body = encode(
        request(
            Message("system", (Text("s"),)),
            Message("user", (Text("a"),)),
            Message("developer", (Text("d"),)),
            Message("user", (Text("b"),)),
            Message("assistant", (Text("x"),)),
            Message("assistant", (Text("y"),)),
            Message("user", (Text("c"),)),
        )
    )
    assert body["system"] == "s"
    assert body["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "system", "content": "d"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]},
        {"role": "user", "content": "c"},
    ]


def test_calls_and_their_results():
    assert turns(
        *HI,
        Message("assistant", tool_calls=(ToolCall("call-1", "f", '{"a":1}'), ToolCall("c2", "g", ""), ToolCall("c3", "h", "{"))),
        Message("tool", (Text("one"),), tool_call_id="call-1"),
        Message("tool", (Text("no"), Image("data:image/png;base64,AA==")), tool_call_id="c2", failed=True),
        Message("tool", (Text(" "),), tool_call_id="c3"),
        Message("user", (Text("so?"),)),
    )[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "call-1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
                {"type": "tool_use", "id": "c3", "name": "h", "input": {"arguments": "{"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call-1", "content": "one"},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [
                        {"type": "text", "text": "no"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
                    ],
                    "is_error": True,
                },
                {"type": "tool_result", "tool_use_id": "c3"},
                {"type": "text", "text": "so?"},
            ],
        },
    ]  # fmt: skip


def test_thoughts_go_back_only_with_their_seal():
    signed = Message("assistant", (Text("t"),), reasoning="hm", reasoning_signature="s")
    hidden = Message("assistant", (Text("t"),), reasoning_signature="s")
    bare = Message("assistant", (Text("t"),), reasoning="hm")
    content = [turns(*HI, one, *HI)[1]["content"] for one in (signed, hidden, bare)]
    assert content == [
        [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "t"}],
        [{"type": "thinking", "thinking": "", "signature": "s"}, {"type": "text", "text": "t"}],
        "t",
    ]


def test_images_and_files():
    text = base64.b64encode(b"plain").decode()
    (turn,) = turns(
        Message(
            "user",
            (
                Image("https://a.example/i"),
                Image("data:image/webp;charset=x;base64,AA=="),
                File(data="AA==", media_type="application/pdf", name="T"),
                File(data="AA=="),
                File(data="AA==", media_type="image/png"),
                File(data=text, media_type="text/csv; charset=utf-8"),
                File(url="https://a.example/d"),
                File(id="f1"),
            ),
        )
    )
    assert turn["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://a.example/i"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AA=="}},
        {"type": "document", "title": "T", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/d"}},
        {"type": "document", "source": {"type": "file", "file_id": "f1"}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [
        Audio("AA==", "wav"),
        Other("video"),
        Image("data:image/svg+xml,<svg>"),
        File(data="AA==", media_type="application/zip"),
    ],
    ids=repr,
)
def test_content_that_messages_has_no_block_for_is_refused_so_that_another_target_is_tried(part):
    with pytest.raises(Unsupported) as refused:
        turns(Message("user", (part,)))
    assert refused.value.fallback


def test_a_text_file_that_is_no_text_is_the_clients_mistake():
    for data in ("!", base64.b64encode(b"\xff").decode()):
        with pytest.raises(BadRequest):
            turns(Message("user", (File(data=data, media_type="text/plain"),)))


def test_what_is_empty_is_left_out():
    assert turns(
        Message("user", (Text(""), Text("hi"))),
        Message("assistant"),
        Message("user", (Text(" \n"),)),
    ) == [{"role": "user", "content": "hi"}]
    with pytest.raises(Unsupported):
        turns(Message("system", (Text("s"),)), Message("user", (Text(" "),)))


def test_an_answer_to_be_gone_on_with_does_not_end_in_white_space():
    assert turns(*HI, Message("assistant", (Text("so \n"),)))[1] == {"role": "assistant", "content": "so"}
    assert turns(*HI, Message("assistant", (Text("so \n"),)), *HI)[1] == {"role": "assistant", "content": "so \n"}


def test_tools_always_have_a_schema_and_users_an_id_of_bearable_length():
    body = encode(request(tools=(TOOL, Tool("g"), Tool("h", parameters={"properties": {}})), user="u"))
    assert body["tools"] == [
        {"name": "f", "description": "d", "input_schema": TOOL.parameters},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        {"name": "h", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body["metadata"] == {"user_id": "u"}
    assert len(encode(request(user="u" * 1000))["metadata"]["user_id"]) == 64


# settings of other dialects


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 8}, {"max_tokens": 8}),
        ({"max_tokens": "7"}, {}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"temperature": 1.5}, {"temperature": 1}),
        ({"temperature": 0.7, "top_p": 0.5}, {"temperature": 0.7}),
        ({"top_p": 0.5, "top_k": 4}, {"top_p": 0.5, "top_k": 4}),
        ({"stop": "a"}, {"stop_sequences": ["a"]}),
        ({"stop": ["a", " ", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": "\n"}, {}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}},
            {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        ),
        ({"response_format": {"type": "json_object"}}, {}),
        ({"n": 1, "logprobs": False}, {}),
        ({"seed": 1, "presence_penalty": 1, "logit_bias": {}, "verbosity": "low", "service_tier": "flex"}, {}),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, {}),  # there are no tools
        ({"thinking": {"type": "enabled", "budget_tokens": 4000}}, {"thinking": {"type": "enabled", "budget_tokens": 4000}}),
    ],
)  # fmt: skip
def test_settings_get_anthropics_names(params, fields):
    assert written(params) == fields


@pytest.mark.parametrize(
    ("params", "choice"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
def test_tool_choice(params, choice):
    assert written(params, tools=(TOOL,)) == {"tool_choice": choice}


@pytest.mark.parametrize("params", [{"n": 2}, {"logprobs": True}])
def test_what_would_change_the_answer_is_refused(params):
    with pytest.raises(Unsupported) as refused:
        written(params)
    assert refused.value.param in params


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-3-haiku-20240307", True),
        ("claude-3-7-sonnet-20250219", True),
        ("claude-opus-4-20250514", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-opus-4-6-20260205", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-10-20261010", False),
        ("claude-sonnet-5", False),
        ("claude-fable-5-1", False),
        ("claude-mythos-preview", False),
        ("qwen3-coder", True),
        ("glm-4.7", True),
    ],
)
def test_a_temperature_goes_to_models_that_take_one(model, takes):
    assert written({"temperature": 0.7, "top_k": 4}, model) == ({"temperature": 0.7, "top_k": 4} if takes else {})


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-sonnet-4-6", False),
        ("claude-opus-4-7", False),
        ("claude-opus-4-8", True),
        ("claude-opus-5-20260901", True),
        ("claude-sonnet-5", False),
        ("claude-sonnet-5-20260801", False),
        ("claude-fable-5-1", True),
        ("qwen3-coder", False),
    ],
)
def test_system_text_between_turns_goes_to_models_that_take_it(model, takes):
    assert takes_late_system(model) is takes


def test_from_a_certain_api_version_on_no_temperature_is_sent_at_all():
    params = {"temperature": 0.7, "top_p": 1, "top_k": 4}
    assert written(params, version=NEW) == written(params, version="2027-01-01") == {}
    client = anthropic(temperature=0.7, top_p=1, top_k=4)
    assert not {"temperature", "top_p", "top_k"} & encode(client, version=NEW).keys()
    assert encode(client, version=OLD)["top_k"] == 4


@pytest.mark.parametrize(
    ("effort", "model", "fields"),
    [
        ("low", "claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("high", "claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2500}}),  # half of max_tokens
        ("high", "qwen3", {"thinking": {"type": "enabled", "budget_tokens": 2500}}),
        (
            "high",
            "claude-opus-4-6",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        (
            "minimal",
            "claude-sonnet-5",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
        ),
        (
            "xhigh",
            "claude-opus-4-6",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        (
            "xhigh",
            "claude-opus-4-7",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}},
        ),
        (
            "max",
            "claude-opus-4-7",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "max"}},
        ),
        (
            "max",
            "claude-sonnet-4-6",
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        ),
        ("max", "claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2500}}),
        ("none", "claude-haiku-4-5", {}),
        (7, "claude-haiku-4-5", {}),
    ],
)
def test_effort_makes_a_model_think_without_a_temperature(effort, model, fields):
    assert written({"reasoning_effort": effort}, model) == fields
    if fields:
        assert written({"reasoning_effort": effort, "temperature": 0.7}, model) == fields


def test_a_model_does_not_think_where_that_would_be_refused():
    effort = {"reasoning_effort": "high"}
    assert written({**effort, "max_tokens": 1500}) == {"max_tokens": 1500}
    assert "thinking" not in written({**effort, "tool_choice": "required"}, tools=(TOOL,))
    assert "thinking" in written({**effort, "tool_choice": "auto"}, tools=(TOOL,))
    call = Message("assistant", tool_calls=(ToolCall("c", "f", "{}"),))
    answered = (*HI, call, Message("tool", (Text("x"),), tool_call_id="c"))
    assert "thinking" not in encode(request(*answered, params=effort))
    assert "thinking" in encode(request(*answered, *HI, params=effort))
    assert "thinking" in encode(request(*answered, params=effort), "claude-opus-4-6")
    signed = msgspec.structs.replace(call, reasoning_signature="s")
    assert "thinking" in encode(request(*HI, signed, answered[2], params=effort))


def test_a_schema_and_an_effort_share_their_place():
    schema = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}}
    assert written({**schema, "reasoning_effort": "low"}, "claude-sonnet-5")["output_config"] == {
        "format": {"type": "json_schema", "schema": CLOSED},
        "effort": "low",
    }


def test_a_request_of_the_openai_dialect_is_written_from_its_values():
    body = b"""{"messages": [{"role": "user", "content": "hi"}], "stream": true, "stream_options": {"x": 1},
                "metadata": {"a": "b"}, "store": true, "unknown": 1, "max_tokens": 9}"""
    assert encode(decode_openai(body, id="r1")) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }


# the same dialect


def anthropic(**fields):
    body = {"model": "asked", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], **fields}
    return decode_request(msgspec.json.encode(body), id="r1")


RICH = {
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "text", "text": "t ", "citations": [{"new": 1}]},
            ],
        },
        {"role": "user", "content": ""},
    ],
    "tools": [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {}, "strict": True}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True, "new": 1},
    "thinking": {"type": "enabled", "budget_tokens": 50, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "stop_sequences": [" "],
    "temperature": 1.5,
    "top_p": 0.5,
    "top_k": 4,
    "metadata": {"user_id": "u" * 500},
    "context_management": {"edits": []},
    "mcp_servers": [{"type": "url", "url": "https://mcp.example", "name": "m"}],
    "service_tier": "auto",
    "container": "c",
    "anything": {"new": [1, None]},
}


def test_a_request_of_the_same_dialect_passes_untouched():
    asked = anthropic(stream=True, **RICH)
    for model in ("claude-haiku-4-5", "claude-sonnet-5", "m"):
        assert encode(asked, model) == {**RICH, "max_tokens": 100, "model": model, "stream": True}


def test_what_would_choose_a_destination_or_a_key_does_not_pass():
    hostile = {"api_base": "http://x", "api_key": "k", "extra_headers": {}, "fallbacks": ["m"], "aws_region_name": "r"}
    body = encode(anthropic(**hostile, metadata={"user_id": "u", "api_base": "http://x", "base_url": "http://x"}))
    assert body == encode(anthropic(metadata={"user_id": "u"}))


def test_thoughts_of_other_upstreams_do_not_pass():
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    text, hi = {"type": "text", "text": "t"}, {"role": "user", "content": "hi"}
    body = encode(
        anthropic(
            messages=[
                hi,
                {"role": "assistant", "content": [thought, text]},
                hi,
                {"role": "assistant", "content": [thought]},
                {"role": "assistant", "content": "plain"},
                hi,
            ]
        )
    )
    assert body["messages"] == [
        hi,
        {"role": "assistant", "content": [text]},
        hi,
        {"role": "assistant", "content": "plain"},
        hi,
    ]


def routed(asked, **params):
    return encode(msgspec.structs.replace(asked, params={**asked.params, **params}))


def test_a_route_changes_what_it_sets_and_nothing_else():
    asked = anthropic(stream=True, **RICH)
    untouched = encode(asked)
    assert routed(asked, temperature=0.2) == {**untouched, "temperature": 0.2}
    assert routed(asked, max_tokens=70) == {**untouched, "max_tokens": 70}
    assert routed(asked, max_completion_tokens=70) == {**untouched, "max_tokens": 70}
    assert routed(asked, stop=["x"]) == {**untouched, "stop_sequences": ["x"]}
    assert routed(asked, thinking={"type": "disabled"}) == {**untouched, "thinking": {"type": "disabled"}}
    assert routed(asked, tool_choice="required")["tool_choice"] == {"type": "any"}
    schema = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    assert routed(asked, response_format=schema)["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": CLOSED},
    }


def test_a_route_may_make_it_think():
    body = routed(anthropic(max_tokens=10_000), reasoning_effort="low")
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2048}
