"""Reading Messages requests: into normal form, with what only Anthropic can read left in `wire`."""

import base64

import msgspec
import pytest

from proxy.contracts.anthropic.request import decode_count, decode_request, input_tokens
from proxy.errors import BadRequest
from proxy.request import File, Image, Message, Other, Text, Tool, ToolCall

HI = [{"role": "user", "content": "hi"}]


def decode(**fields):
    body = {"model": "claude-x", "max_tokens": 100, "messages": HI, **fields}
    return decode_request(msgspec.json.encode(body), id="r1", path="/v1/messages", headers={"x-a": "b"})


def messages(*values):
    return decode(messages=list(values)).messages


def said(*blocks):
    return messages({"role": "assistant", "content": list(blocks)})


def asked(*blocks):
    return messages({"role": "user", "content": list(blocks)})


def test_the_smallest_request():
    request = decode()
    assert (request.contract, request.dialect, request.model) == ("anthropic", "anthropic-messages", "claude-x")
    assert (request.id, request.path, request.headers) == ("r1", "/v1/messages", {"x-a": "b"})
    assert request.messages == (Message("user", (Text("hi"),)),)
    assert request.params == {"max_tokens": 100}
    assert request.hints == frozenset()
    assert not request.stream
    assert request.wants_usage
    assert request.raw_body["max_tokens"] == 100


def test_everything_about_who_and_how():
    request = decode(stream=True, metadata={"user_id": "u1", "more": 1}, model=None, anything={"new": 1})
    assert (request.stream, request.user, request.metadata) == (True, "u1", {"user_id": "u1", "more": 1})
    assert request.model is None
    assert request.raw_body["anything"] == {"new": 1}


# settings


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({"temperature": 0, "top_p": 0.5, "top_k": 4}, {"temperature": 0, "top_p": 0.5, "top_k": 4}),
        ({"temperature": None}, {}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"stop_sequences": []}, {}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 8192}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"service_tier": "auto", "cache_control": {"type": "ephemeral"}}, {}),
    ],
)
def test_settings_get_openais_names(fields, params):
    assert decode(**fields).params == {"max_tokens": 100, **params}


def test_what_is_our_reading_is_marked_as_such():
    request = decode(top_k=4, temperature=1, thinking={"type": "enabled", "budget_tokens": 1024})
    assert request.hints == {"top_k", "reasoning_effort"}


@pytest.mark.parametrize(
    ("choice", "params"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        ({"type": "new"}, {}),
        # in the forms of OpenAI
        ("required", {"tool_choice": "required"}),
        ("none", {"tool_choice": "none"}),
        (
            {"type": "function", "function": {"name": "f"}},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        ),
    ],
)
def test_tool_choice_is_translated_where_there_are_tools(choice, params):
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    assert decode(tool_choice=choice, tools=tools).params == {"max_tokens": 100, **params}
    assert decode(tool_choice=choice).params == {"max_tokens": 100}
    hosted = [{"type": "web_search_20250305", "name": "web_search"}]
    assert decode(tool_choice=choice, tools=hosted).params == {"max_tokens": 100}


@pytest.mark.parametrize("where", ["output_config", "output_format"])
def test_a_schema_for_the_answer_becomes_a_response_format(where):
    format_ = {"type": "json_schema", "schema": {"type": "object"}}
    request = decode(**{where: {"format": format_} if where == "output_config" else format_})
    assert request.params["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


def test_tools_that_the_client_defines_are_read_and_others_left_alone():
    request = decode(
        tools=[
            {"name": "f", "description": "d", "input_schema": {"type": "object"}, "cache_control": {}, "strict": True},
            {"type": "custom", "name": "g", "input_schema": {}},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
        ]
    )
    assert request.tools == (Tool("f", "d", {"type": "object"}, strict=True), Tool("g", None, {}))
    assert len(request.raw_body["tools"]) == 4


def test_R6_tools_in_the_form_of_openai_are_read():
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    for tool in ({"type": "function", "function": function}, {"type": "function", **function}):
        request = decode(tools=[tool])
        assert request.tools == (Tool("f", "d", {"type": "object"}, strict=True),)
        assert (request.hosted_tools, request.unread) == ((), ())
    with pytest.raises(BadRequest) as refused:
        decode(tools=[{"type": "function", "function": {}}])
    assert refused.value.param == "tools[0].function.name"


# messages


def test_a_system_prompt_is_one_text_up_to_each_mark():
    blocks = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]
    assert decode(system="a").messages[0] == Message("system", (Text("a"),))
    assert decode(system=blocks).messages[0] == Message("system", (Text("a", {"type": "ephemeral"}), Text("b")))
    assert decode(system="").messages == decode(system=[]).messages == decode().messages
    assert messages({"role": "system", "content": "a"}, *HI)[0] == Message("system", (Text("a"),))


def test_later_system_messages_stay_where_they_are():
    later = {"role": "system", "content": [{"type": "text", "text": "later"}]}
    assert messages(*HI, later) == (Message("user", (Text("hi"),)), Message("system", (Text("later"),)))


def test_texts_side_by_side_are_one():
    a, b = {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
    assert asked(a, b)[0].parts == (Text("a\n\nb"),)
    assert said(a, b)[0].parts == (Text("ab"),)


def test_which_claude_code_asks_is_for_anthropic_alone():
    billing = {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.197.782; cc_entrypoint=cli;"}
    request = decode(system=[billing, {"type": "text", "text": "s"}])
    assert request.messages[0] == Message("system", (Text("s"),))
    assert request.raw_body["system"][0] == billing


def test_images_and_documents():
    pdf = base64.b64encode(b"%PDF").decode()
    (message,) = asked(
        {"type": "text", "text": "see"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/i"}},
        {"type": "image", "source": {"type": "file", "file_id": "f1"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf}, "title": "T"},
        {"type": "document", "source": {"type": "url", "url": "https://a.example/d"}},
        {"type": "document", "source": {"type": "file", "file_id": "f2"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}, "title": "T"},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "inner"}]}},
        {"type": "document", "source": {"type": "content", "content": "whole"}},
        {"type": "document", "source": {"type": "new"}},
        {"type": "search_result", "source": "https://a.example", "title": "A", "content": [{"type": "text", "text": "x"}]},
        {"type": "container_upload", "file_id": "f3"},
    )  # fmt: skip
    assert message == Message(
        "user",
        (
            Text("see"),
            Image("data:image/png;base64,AA=="),
            Image("https://a.example/i"),
            Other("image by file", "messages[0].content[3].source"),
            File(data=pdf, name="T", media_type="application/pdf"),
            File(url="https://a.example/d"),
            File(id="f2"),
            Text("T\n\nplain\n\ninner\n\nwhole"),
            Other("document by new", "messages[0].content[10].source"),
            Text("A\nhttps://a.example\nx"),
            Other("container_upload", "messages[0].content[12]"),
        ),
    )


def test_results_of_tools_are_messages_of_their_own_before_what_the_user_says():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    assert asked(
        {"type": "text", "text": "and now"},
        {"type": "tool_result", "tool_use_id": "c1", "content": "done"},
        {
            "type": "tool_result",
            "tool_use_id": "c2",
            "is_error": True,
            "content": [{"type": "text", "text": "no"}, image],
        },
        {"type": "tool_result", "tool_use_id": "c3"},
    ) == (
        Message("tool", (Text("done"),), tool_call_id="c1"),
        Message("tool", (Text("no"), Image("data:image/png;base64,AA==")), tool_call_id="c2", failed=True),
        Message("tool", (), tool_call_id="c3"),
        Message("user", (Text("and now"),)),
    )
    assert asked({"type": "tool_result", "tool_use_id": "c1", "content": []}) == (
        Message("tool", (), tool_call_id="c1"),
    )


def test_an_earlier_answer_with_thoughts_and_calls():
    assert said(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Looking.", "citations": []},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"a": [1, None]}},
    ) == (
        Message(
            "assistant",
            (Text("Looking."),),
            tool_calls=(ToolCall("c", "f", '{"a":[1,null]}'),),
            reasoning="hm",
            reasoning_signature="s",
        ),
    )


def test_each_signed_reasoning_keeps_its_signature():
    first, second = said(
        {"type": "thinking", "thinking": "a", "signature": "s1"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "b", "signature": "s2"},
        {"type": "text", "text": "t"},
    )
    assert (first.reasoning, first.reasoning_signature, len(first.tool_calls)) == ("a", "s1", 1)
    assert (second.reasoning, second.reasoning_signature, second.text) == ("b", "s2", "t")


def test_unsigned_reasoning_begins_no_new_turn():
    (message,) = said(
        {"type": "text", "text": "t"}, {"type": "thinking", "thinking": "a", "signature": ""}, {"type": "thinking"}
    )
    assert (message.reasoning, message.reasoning_signature) == ("a", None)


# refusals


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"system": 7}, "system"),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "f", "input_schema": []}]}, "tools[0].input_schema"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}]},
            "messages[0].content[0].source.media_type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f"}]}]},
            "messages[0].content[0].input",
        ),
    ],
)
def test_a_refusal_names_what_is_wrong(fields, param):
    with pytest.raises(BadRequest) as refused:
        decode(**fields)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_zero_tokens_are_a_wish_too():
    assert decode(max_tokens=0).params["max_tokens"] == 0


# counting


def counted(**fields):
    return input_tokens(decode_count(msgspec.json.encode({"messages": HI, **fields})))


def test_counting_needs_no_length_and_counts_all_that_is_read():
    assert counted() == 1
    assert counted(system="x" * 400) == 101
    assert counted(tools=[{"name": "f", "input_schema": {"type": "object"}, "description": "x" * 400}]) > 100
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {"a": "x" * 400}}
    assert counted(messages=[*HI, {"role": "assistant", "content": [call]}]) > 100
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example"}}
    assert counted(messages=[{"role": "user", "content": [image, image]}]) == 3200
    with pytest.raises(BadRequest):
        counted(messages=[])


@pytest.mark.parametrize(
    "name",
    [
        *("system", "tools", "tool_choice", "thinking", "output_config", "output_format", "metadata", "stop_sequences"),
        *("temperature", "top_p", "top_k", "stream", "max_tokens", "messages"),
    ],
)
@pytest.mark.parametrize("value", [5.5, "x", True, [1], {"x": 1}, [[]]], ids=str)
def test_A6_a_field_of_a_wrong_type_is_a_400_that_names_it(name, value):
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], name: value}
    allowed = {
        float: {"temperature", "top_p"},
        str: {"system"},
        bool: {"stream"},
        dict: {"tool_choice", "thinking", "output_config", "output_format", "metadata"},
        list: set(),
    }
    if name in allowed[type(value)]:
        decode_request(msgspec.json.encode(body), id="r")
        return
    with pytest.raises(BadRequest, match=rf"^{name}") as refused:
        decode_request(msgspec.json.encode(body), id="r")
    assert refused.value.param.startswith(name)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"output_config": {"effort": []}}, "output_config.effort"),
        ({"output_config": {"format": 5}}, "output_config.format"),
        ({"output_config": {"format": {"schema": "x"}}}, "output_config.format.schema"),
        ({"stop_sequences": [5]}, "stop_sequences"),
    ],
)
def test_A6_so_is_a_field_inside_another(body, place):
    with pytest.raises(BadRequest) as refused:
        decode_request(
            msgspec.json.encode({"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **body}), id="r"
        )
    assert refused.value.param == place


def test_R4_what_tools_of_anthropic_did_is_announced_as_left_out():
    ran = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    turns = [*HI, {"role": "assistant", "content": [ran, {"type": "text", "text": "so"}]}, *HI]
    assert decode(messages=turns).unread == ("messages.server_tool_use",)
    quoted = {"role": "user", "content": '{"type": "server_tool_use"}'}
    assert decode(messages=[quoted]).unread == ()
