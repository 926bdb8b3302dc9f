"""Functions, the form before tools: passed on as they came, or told as tools to upstreams that know only those."""

import msgspec
import pytest

from proxy.contracts.openai.request import decode_request
from proxy.contracts.openai.upstream_request import encode_request
from proxy.errors import BadRequest
from proxy.request import Message, Text, Tool, ToolCall

HI = {"role": "user", "content": "hi"}
FUNCTIONS = [{"name": "f", "description": "d", "parameters": {"type": "object"}}, {"name": "g"}]
TALK = [
    HI,
    {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}},
    {"role": "function", "name": "f", "content": "one"},
    {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
    {"role": "function", "name": "f", "content": None},
]


def decode(**fields):
    return decode_request(msgspec.json.encode({"messages": [HI], **fields}), id="r1")


def sent(request):
    return msgspec.json.decode(encode_request(request, model="m"))


def test_a_upstream_of_the_same_dialect_gets_them_as_they_came():
    body = sent(decode(messages=TALK, functions=FUNCTIONS, function_call={"name": "f"}))
    assert (body["messages"], body["functions"], body["function_call"]) == (TALK, FUNCTIONS, {"name": "f"})
    assert not {"tools", "tool_choice"} & body.keys()


def test_all_others_get_tools_and_calls_with_ids():
    request = decode(messages=TALK, functions=FUNCTIONS)
    assert request.tools == (Tool("f", "d", {"type": "object"}), Tool("g"))
    assert request.messages == (
        Message("user", (Text("hi"),)),
        Message("assistant", tool_calls=(ToolCall("call_1", "f", '{"a":1}'),)),
        Message("tool", (Text("one"),), tool_call_id="call_1", name="f"),
        Message("assistant", (Text(""),), tool_calls=(ToolCall("call_3", "f", "{}"),)),
        Message("tool", (Text(""),), tool_call_id="call_3", name="f"),
    )
    body = sent(msgspec.structs.replace(request, raw_body=None))
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f", "g"]
    assert "functions" not in body


@pytest.mark.parametrize(
    ("choice", "offered"), [(None, ["f", "g"]), ("auto", ["f", "g"]), ("none", []), ({"name": "g"}, ["g"])]
)
def test_what_the_choice_rules_out_is_not_offered(choice, offered):
    assert [tool.name for tool in decode(functions=FUNCTIONS, function_call=choice).tools] == offered


def test_tools_count_where_both_are_given():
    tool = {"type": "function", "function": {"name": "t"}}
    assert [one.name for one in decode(functions=FUNCTIONS, tools=[tool]).tools] == ["t"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"functions": [5]}, "functions[0]"),
        ({"functions": FUNCTIONS, "function_call": {}}, "function_call.name"),
        ({"functions": FUNCTIONS, "function_call": 5}, "function_call"),
        (
            {"messages": [{"role": "assistant", "function_call": "f"}]},
            "messages[0].function_call",
        ),
        ({"messages": [5]}, "messages[0]"),
    ],
)
def test_what_is_wrong_is_reported_with_its_place(fields, place):
    with pytest.raises(BadRequest) as refused:
        decode(**fields)
    assert refused.value.param == place
