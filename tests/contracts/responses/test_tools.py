"""Tools of the Responses contract: which functions they become, and how calls find the way back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.responses.tools import NAME_LENGTH, Origin, function_name, read_choice, read_tools
from proxy.errors import BadRequest
from proxy.request import Tool
from proxy.wire.custom_tools import custom_arguments, custom_input


def tools(*values, **fields):
    return read_tools({"tools": list(values), **fields})


FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
CUSTOM = {"type": "custom", "name": "patch", "description": "Change files."}
NAMESPACE = {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [FUNCTION, CUSTOM]}
SEARCH = {"type": "web_search"}


def test_functions_are_what_they_are():
    read = tools(FUNCTION, {"type": "function", "name": "bare"})
    assert read.functions == (Tool("f", "d", {"type": "object"}, strict=True), Tool("bare"))
    assert read.origins == {}
    bare = {"type": "function", "name": "bare", "description": None, "parameters": None, "strict": False}
    assert read.echo == (FUNCTION, bare)


def test_a_custom_tool_becomes_a_function_of_one_text():
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /x+/"}
    read = tools(CUSTOM, {**CUSTOM, "name": "strict", "format": grammar})
    assert [tool.parameters["required"] for tool in read.functions] == [["input"], ["input"]]
    assert read.functions[0].description == "Change files."
    assert read.functions[1].description == "Change files.\n\nThe input has to match this lark:\nstart: /x+/"
    assert read.origins == {"patch": Origin("patch", custom=True), "strict": Origin("strict", custom=True)}


def test_a_namespace_becomes_functions_that_bear_its_name():
    read = tools(NAMESPACE, FUNCTION)
    assert [tool.name for tool in read.functions] == ["crm__f", "crm__patch", "f"]
    assert read.origins == {"crm__f": Origin("f", "crm"), "crm__patch": Origin("patch", "crm", custom=True)}
    assert read.echo[0]["tools"] == [FUNCTION, CUSTOM]


def test_hosted_tools_are_left_out_and_the_answer_does_not_claim_them():
    hosted = ["web_search", "file_search", "code_interpreter", "image_generation", "mcp", "local_shell", "brand_new"]
    read = tools(*[{"type": kind} for kind in hosted], FUNCTION)
    assert [tool.name for tool in read.functions] == ["f"]
    assert [tool["name"] for tool in read.echo] == ["f"]
    assert list(read.omissions) == hosted


def test_tools_that_come_within_the_conversation_are_offered_too():
    item = {"type": "additional_tools", "role": "developer", "tools": [CUSTOM]}
    read = tools(FUNCTION, input=[{"role": "user", "content": "hi"}, item])
    assert [tool.name for tool in read.functions] == ["f", "patch"]
    assert read.echo == (FUNCTION,)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"type": "function"}, "tools[0].name"),
        ({"name": "f"}, "tools[0].type"),
        ({"type": "function", "name": "f", "parameters": "x"}, "tools[0].parameters"),
        ({"type": "custom", "name": "f", "format": "x"}, "tools[0].format"),
        ({"type": "namespace", "name": "n"}, "tools[0].tools"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
    ],
)
def test_what_is_wrong_with_a_tool_is_reported_with_its_place(value, place):
    with pytest.raises(BadRequest) as refused:
        tools(value)
    assert refused.value.param == place


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_functions_name_is_short_enough_and_always_the_same(name, namespace):
    made = function_name(name, namespace)
    assert made == function_name(name, namespace)
    assert not namespace or len(made) <= NAME_LENGTH


def test_long_names_stay_apart():
    names = {function_name(f"{'x' * 70}{number}", "crm") for number in range(100)}
    assert len(names) == 100


@given(st.text())
def test_a_custom_tools_input_survives_the_way_there_and_back(text):
    assert custom_input(custom_arguments(text)) == text


@pytest.mark.parametrize("arguments", ["plain text", "", '{"patch":"x"}', '{"input":5}', "[1]", "[" * 100_000])
def test_a_model_that_ignores_the_form_means_all_it_wrote(arguments):
    assert custom_input(arguments) == arguments


def test_R6_a_tool_in_the_form_of_chat_completions_is_read_and_repeated_in_that_of_responses():
    nested = {"type": "function", "function": {name: FUNCTION[name] for name in FUNCTION if name != "type"}}
    assert tools(nested).functions == tools(FUNCTION).functions
    assert tools(nested).echo == tools(FUNCTION).echo
    with pytest.raises(BadRequest) as refused:
        tools({"type": "function", "function": {"name": 5}})
    assert refused.value.param == "tools[0].function.name"


# tool_choice


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (None, None),
        ("none", "none"),
        ("auto", "auto"),
        ("required", "required"),
        ("any", "required"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "patch"}, {"type": "function", "function": {"name": "crm__patch"}}),
        ({"type": "function", "name": "g", "namespace": "crm"}, {"type": "function", "function": {"name": "crm__g"}}),
    ],
)
def test_a_choice_is_written_as_in_chat_completions(value, choice):
    read = tools(FUNCTION, NAMESPACE, SEARCH)
    assert read_choice(value, read) == (choice, read.functions)


def test_allowed_tools_are_the_only_ones_offered():
    read = tools(FUNCTION, CUSTOM, {"type": "function", "name": "g"})
    allowed = [{"type": "function", "name": "g"}, {"type": "custom", "name": "patch"}, {"type": "web_search"}]
    choice, offered = read_choice({"type": "allowed_tools", "mode": "required", "tools": allowed}, read)
    assert (choice, [tool.name for tool in offered]) == ("required", ["patch", "g"])


@pytest.mark.parametrize(
    ("value", "place", "fact"),
    [
        ("every", "tool_choice", "required"),
        (5, "tool_choice", None),
        ({}, "tool_choice.type", None),
        ({"type": "function"}, "tool_choice.name", None),
        ("required", "tool_choice", "web_search"),
        ({"type": "web_search"}, "tool_choice", "web_search"),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "mcp"}]}, "tool_choice", None),
    ],
)
def test_a_choice_that_cannot_be_kept_is_refused(value, place, fact):
    with pytest.raises(BadRequest, match=fact) as refused:
        read_choice(value, tools(SEARCH, SEARCH))
    assert refused.value.param == place


def test_the_functions_parameters_are_a_schema_others_accept():
    [tool] = tools(CUSTOM).functions
    assert msgspec.json.decode(msgspec.json.encode(tool.parameters))["additionalProperties"] is False
