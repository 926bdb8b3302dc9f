"""Requests of OpenAI Responses: what is read of them, what of that reaches an upstream, and what is refused."""

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.openai.upstream_request import encode_request
from proxy.contracts.responses.request import decode_request
from proxy.errors import BadRequest
from proxy.request import Audio, File, Image, Message, Other, Text, Tool, ToolCall
from proxy.wire.conversation import arranged
from proxy.wire.translation import translated
from proxy.wire.vocabulary import Vocabulary

CODEX = (Path(__file__).parents[1] / "golden" / "responses-codex-request.json").read_bytes()


def decode(body=None, **fields):
    if not isinstance(body, bytes):
        body = msgspec.json.encode({"input": "hi", **(body or {}), **fields})
    return decode_request(body, id="r1", path="/v1/responses", headers={"x-team": "y"})


def messages(*items, **fields):
    return decode(input=list(items), **fields).messages


def sent(request):
    return msgspec.json.decode(encode_request(request, model="m"))


def said(role, *texts, **fields):
    return Message(role, tuple(map(Text, texts)), **fields)


def test_a_request_is_read_into_its_parts():
    request = decode(
        model="gpt-x",
        stream=True,
        temperature=0.5,
        metadata={"team": "x"},
        user="old",
        safety_identifier="new",
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        brand_new={"a": 1},
    )
    assert (request.contract, request.dialect, request.model) == ("responses", "openai-responses", "gpt-x")
    assert request.messages == (said("user", "hi"),)
    assert request.params == {"temperature": 0.5}
    assert request.tools == (Tool("f", parameters={"type": "object"}),)
    assert (request.user, request.metadata, request.stream) == ("new", {"team": "x"}, True)
    assert (request.path, request.headers) == ("/v1/responses", {"x-team": "y"})
    assert decode(user="old").user == "old"


@pytest.mark.parametrize(("stream", "expected"), [(True, True), (False, False), (None, False)])
def test_only_true_asks_for_a_stream(stream, expected):
    assert decode(stream=stream).stream is expected


# settings


SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"}


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"top_p": 0.1, "service_tier": "flex"}, {"top_p": 0.1, "service_tier": "flex"}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"reasoning": None, "text": None, "temperature": None}, {}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": SCHEMA}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"},
                }
            },
        ),
        ({"tool_choice": "auto", "parallel_tool_calls": True}, {}),  # there is nothing to choose from
        (
            {"store": True, "include": ["x"], "prompt_cache_key": "k", "client_metadata": {"a": "b"}, "truncation": "auto",
             "stream_options": {"include_obfuscation": False}, "background": False, "previous_response_id": None,
             "max_tool_calls": 3, "top_logprobs": 2},
            {"prompt_cache_key": "k"},
        ),
    ],
)  # fmt: skip
def test_settings_get_the_names_of_chat_completions(fields, params):
    assert decode(fields).params == params


def test_a_upstream_gets_the_request_in_chat_completions_form():
    request = decode(
        instructions="Be brief.",
        max_output_tokens=9,
        tools=[{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        store=True,
        include=["reasoning.encrypted_content"],
        api_base="http://elsewhere",
    )
    assert sent(request) == {
        "model": "m",
        "stream": False,
        "max_completion_tokens": 9,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
    }


# what is kept elsewhere


@pytest.mark.parametrize(
    ("fields", "param", "code", "advice"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found", "conversation"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter", "whole"),
        ({"conversation": {"id": "conv_1"}}, "conversation", "unsupported_parameter", "whole"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter", "instructions"),
        ({"background": True}, "background", "unsupported_parameter", "stream"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]", "item_not_found", "itself"),
        ({"input": [{"id": "msg_1"}]}, "input[0]", "item_not_found", "itself"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type", "unsupported_value", "compaction"),
    ],
)  # fmt: skip
def test_what_only_points_to_something_kept_or_would_be_lost_is_refused(fields, param, code, advice):
    with pytest.raises(BadRequest, match=advice) as refused:
        decode(fields)
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": ["hi"]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 1}]}, "input[0].output"),
        ({"instructions": ["x"]}, "instructions"),
        ({"text": "x"}, "text"),
        ({"text": {"format": {}}}, "text.format.type"),
        ({"reasoning": "high"}, "reasoning"),
        ({"metadata": "x"}, "metadata"),
        ({"stream": "yes"}, "stream"),
        ({"model": 1}, "model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported_with_its_place(fields, place):
    with pytest.raises(BadRequest) as refused:
        decode(fields)
    assert (refused.value.status, refused.value.param) == (400, place)


def test_messages_in_place_of_input_are_told_where_they_are_read():
    with pytest.raises(BadRequest, match="/v1/chat/completions") as refused:
        decode({"input": None, "messages": [{"role": "user", "content": "hi"}]})
    assert refused.value.param == "input"


# items


def test_easy_messages_and_message_items_are_the_same():
    assert messages({"role": "user", "content": "a"}, {"type": "message", "role": "user", "content": "b"}) == (
        said("user", "a"),
        said("user", "b"),
    )


def test_every_kind_of_part_is_read():
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": "data:image/png;base64,QUJD", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
        {"type": "brand_new"},
    ]
    assert messages({"role": "user", "content": parts})[0].parts == (
        Text("a"),
        Image("data:image/png;base64,QUJD", "low"),
        File(data="QUJD", name="a.pdf", media_type="application/pdf"),
        File(url="https://example.org/a.pdf"),
        File(id="file_1"),
        Audio("QUJD", "wav"),
        Other("brand_new", "input[0].content[6]"),
    )
    answer = [{"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"}]
    assert messages({"role": "assistant", "content": answer}) == (said("assistant", "a", "no"),)


def test_what_stands_at_the_head_from_the_system_is_one_message():
    developer = {
        "role": "developer",
        "content": [{"type": "input_text", "text": "c"}, {"type": "input_text", "text": "d"}],
    }
    heard = messages(
        {"role": "system", "content": "b"},
        developer,
        {"role": "user", "content": "hi"},
        {"role": "developer", "content": "later"},
        instructions="a",
    )
    head, *rest = arranged(heard, Vocabulary(system="anywhere")).messages
    assert head == said("system", "a\n\nb\n\nc\n\nd")
    assert rest == [said("user", "hi"), said("system", "later")]


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}


def call(call_id, **fields):
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}", **fields}


def output(call_id, text="out"):
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def test_what_the_model_thought_said_and_called_in_a_turn_is_one_message():
    heard = messages(
        {**REASONING, "encrypted_content": "chat-proxy:seal"},
        {"role": "assistant", "content": "Let me see."},
        call("a"),
        call("b"),
        output("a"),
        output("b", [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:,"}]),
        {"role": "assistant", "content": "Done."},
    )
    assert heard == (
        said(
            "assistant",
            "Let me see.",
            tool_calls=(ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")),
            reasoning="Hm.",
            reasoning_signature="seal",
        ),
        said("tool", "out", tool_call_id="a"),
        Message("tool", (Text("x"), Image("data:,")), tool_call_id="b"),
        said("assistant", "Done."),
    )


def test_the_whole_thought_counts_more_than_its_summary():
    item = {**REASONING, "content": [{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}]}
    assert messages(item)[0].reasoning == "a\n\nb"


def test_a_reasoning_item_with_only_a_signature_keeps_it():
    [heard] = messages({"type": "reasoning", "summary": [], "encrypted_content": "chat-proxy:seal"})
    assert (heard.reasoning, heard.reasoning_signature) == (None, "seal")


def test_another_servers_secret_is_left_out():
    """A conversation that began at OpenAI: no upstream here could open it, and those with seals would refuse it."""
    theirs = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABo"}
    assert messages({"role": "user", "content": "a"}, theirs, call("a"))[1] == Message(
        "assistant", tool_calls=(ToolCall("a", "f", "{}"),)
    )
    [heard] = messages({**theirs, "summary": REASONING["summary"]})
    assert (heard.reasoning, heard.reasoning_signature) == ("Hm.", None)


def test_thoughts_of_different_turns_do_not_mix():
    heard = messages(REASONING, {"role": "assistant", "content": "a"}, REASONING, {"role": "assistant", "content": "b"})
    assert heard == (said("assistant", "a", reasoning="Hm."), said("assistant", "b", reasoning="Hm."))


def test_a_seal_on_one_thought_is_none_on_two():
    one, two = {**REASONING, "encrypted_content": "chat-proxy:1"}, {**REASONING, "encrypted_content": "chat-proxy:2"}
    [heard, *_] = messages(one, call("a"), two, call("b"), output("a"), output("b"))
    assert (heard.reasoning, heard.reasoning_signature, len(heard.tool_calls)) == ("Hm.\n\nHm.", None, 2)
    first, second = messages(one, two)
    assert (first.reasoning_signature, second.reasoning_signature) == ("1", "2")


def test_two_answers_in_a_row_stay_two_and_one_after_a_call_stays_behind_it():
    assert len(messages({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"})) == 2
    said_before = {"role": "assistant", "content": "a"}
    heard = messages(said_before, call("a"), {"role": "assistant", "content": "b"}, output("a"))
    assert [(message.role, message.text, len(message.tool_calls)) for message in heard] == [
        ("assistant", "a", 1),
        ("assistant", "b", 0),
        ("tool", "out", 0),
    ]


def test_calls_of_custom_and_namespaced_tools_go_by_their_functions_names():
    [heard, answer] = messages(
        {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": 'a "b"'},
        call("b", namespace="crm"),
        {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
    )
    assert heard.tool_calls == (ToolCall("a", "apply_patch", '{"input":"a \\"b\\""}'), ToolCall("b", "crm__f", "{}"))
    assert answer == said("tool", "ok", tool_call_id="a")


def test_R6_a_call_of_the_computer_keeps_its_screenshot():
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,AA"}
    heard = messages(
        {"type": "computer_call", "call_id": "a", "action": {"type": "click"}},
        {"type": "computer_call_output", "call_id": "a", "output": shot},
    )
    assert heard[0].tool_calls == (ToolCall("a", "computer", '{"type":"click"}'),)
    assert heard[1].parts == (Image("data:image/png;base64,AA"),)


def test_R4_what_tools_of_openai_did_is_announced_as_left_out():
    ran = {"type": "mcp_call", "id": "m", "name": "n", "server_label": "s", "arguments": "{}", "output": "O"}
    assert decode({"input": [{"role": "user", "content": "hi"}, ran, ran]}).unread == ("input.mcp_call",)


def test_calls_that_the_client_ran_by_other_items_keep_their_content():
    heard = messages(
        {"type": "local_shell_call", "call_id": "a", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "id": "a", "output": "files"},
        {"type": "shell_call", "call_id": "b", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "b", "output": [{"stdout": "x"}]},
    )
    assert [message.tool_calls for message in heard[::2]] == [
        (ToolCall("a", "local_shell", '{"type":"exec","command":["ls"]}'),),
        (ToolCall("b", "shell", '{"commands":["ls"]}'),),
    ]
    assert heard[1::2] == (said("tool", "files", tool_call_id="a"), said("tool", '[{"stdout":"x"}]', tool_call_id="b"))


def test_what_hosted_tools_did_earlier_is_stepped_over():
    records = [{"type": kind, "id": "x"} for kind in ("web_search_call", "file_search_call", "mcp_list_tools")]
    assert messages({"role": "user", "content": "a"}, *records) == (said("user", "a"),)


# Codex


def test_a_request_as_codex_sends_it_is_read_in_full():
    """Captured from Codex CLI 0.169 in its second turn, with long texts shortened and ids made up."""
    assert msgspec.json.decode(CODEX).keys() == {
        "model", "stream", "input", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "store", "include",
        "prompt_cache_key", "client_metadata",
    }  # fmt: skip
    body = sent(translated(decode(CODEX), Vocabulary()).request)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "user", "assistant", "tool", "tool"]
    assert [one["function"]["name"] for one in body["messages"][3]["tool_calls"]] == [
        "exec_command",
        "multi_agent_v1__close_agent",
    ]
    assert [one["function"]["name"] for one in body["tools"]] == [
        "exec_command",
        "view_image",
        "multi_agent_v1__close_agent",
        "multi_agent_v1__resume_agent",
    ]
    assert set(body) == {"model", "messages", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options"}
    assert decode(CODEX).messages[4].reasoning_signature == "c2VhbA=="


# anything


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["type", "role", "content", "text", "call_id", "name", "arguments", "output", "summary", "input", "tools", "id",
         "namespace", "image_url", "action", "encrypted_content"]), inner | st.sampled_from(
        ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "user", "assistant",
         "input_text", "function", "custom", "namespace", "additional_tools", "local_shell_call"]), max_size=6),
    max_leaves=25,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["input", "instructions", "tools", "tool_choice", "text", "reasoning", "metadata", "user", "stream", "background"]
)


@given(st.dictionaries(FIELDS, JSON))
def test_H11_no_body_leads_to_anything_but_a_request_or_a_clear_refusal(body):
    with suppress(BadRequest):
        assert decode_request(msgspec.json.encode(body), id="r1").messages


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"reasoning": {"effort": []}}, "reasoning.effort"),
        ({"reasoning": 5}, "reasoning"),
        ({"text": {"verbosity": 5}}, "text.verbosity"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": {}}, "top_p"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"service_tier": []}, "service_tier"),
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"tool_choice": []}, "tool_choice"),
        ({"instructions": []}, "instructions"),
        ({"metadata": "x"}, "metadata"),
        ({"input": 5}, "input"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_A6_a_field_of_a_wrong_type_is_a_400_that_names_it(body, place):
    with pytest.raises(BadRequest) as refused:
        decode_request(msgspec.json.encode({"input": "hi", **body}), id="r")
    assert refused.value.param == place
