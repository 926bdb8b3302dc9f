"""Requests of declared contracts: where things stand, what is made of them, and refusals that name the place."""

from __future__ import annotations

from textwrap import indent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from proxy.contracts.declared.contract import Contract
from proxy.contracts.declared.request import MOST_ECHOED, Places, RequestReader
from proxy.errors import BadRequest, ProxyError, Unsupported
from proxy.request import File, Image, Message, Text, Tool, ToolCall
from tests.support.declared import declared_settings

HI = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}
CALLS = "{token: {t: $text}, tool_call: {c: $arguments}}"


def reader(request="{}", response="{token: {t: $text}}"):
    settings = declared_settings(f"path: /own\nrequest:\n{indent(request, '  ')}\nresponse: {response}")
    contract = Contract(settings)
    return RequestReader("own", settings, calls_tools=contract.calls_tools, echoed=contract.echoed)


def decode(body, request="{}", response="{token: {t: $text}}", *, accepts_stream=False):
    data = body if isinstance(body, bytes) else json.encode(body)
    return reader(request, response).decode(data, id="r", path="/own", headers={}, accepts_stream=accepts_stream)


def said(role, text):
    return Message(role, (Text(text),))


def test_without_a_word_about_requests_they_are_read_as_chat_requests():
    request = decode(
        {"messages": [HI], "model": "m", "temperature": 1, "stream": False, "user": "u", "metadata": {"a": 1}}
    )
    assert (request.contract, request.id, request.path) == ("own", "r", "/own")
    assert request.messages == (said("user", "hi"),)
    assert (request.model, request.stream, request.user) == ("m", False, "u")
    assert (request.params, request.metadata, request.tools, request.raw_body) == ({"temperature": 1}, {"a": 1}, (), {})


def test_fields_may_stand_anywhere():
    request = decode(
        {
            "chat": {"turns": [{"who": {"is": "bot"}, "said": "hello"}, {"who": {"is": "me"}, "said": "hi"}]},
            "options": {"temp": 0.5, "max": 9},
            "llm": "m",
            "client": {"id": 7},
            "tenant": "acme",
            "live": True,
        },
        "messages: chat.turns\nrole: who.is\ncontent: said\nroles: {bot: assistant, me: user}\nmodel: llm\nuser: client.id\n"
        "stream: live\nparameters: {temperature: options.temp, max_tokens: [max, options.max], top_p: options.p}\n"
        "metadata: {tenant: tenant, missing: nowhere, deep: options}",
    )
    assert request.messages == (said("assistant", "hello"), said("user", "hi"))
    assert request.params == {"temperature": 0.5, "max_tokens": 9}
    assert (request.model, request.user, request.stream, request.metadata) == ("m", "7", True, {"tenant": "acme"})


def test_messages_may_be_lists_and_roles_booleans():
    assert decode({"messages": [["human", "a"], ["ai", "b"]]}, "role: '0'\ncontent: '1'\nroles: {human: user, ai: assistant}").messages == (
        said("user", "a"),
        said("assistant", "b"),
    )  # fmt: skip
    request = decode(
        {"messages": [{"isUser": True, "content": "a"}]}, 'role: isUser\nroles: {"true": user, "false": assistant}'
    )
    assert request.messages == (said("user", "a"),)


def test_of_several_places_the_first_that_is_there_counts():
    where = "prompt: [input.question, question]\nmodel: [a, b]"
    assert decode({"question": "hi", "a": None, "b": "m"}, where).messages == (said("user", "hi"),)
    assert decode({"question": "hi", "a": None, "b": "m"}, where).model == "m"
    assert decode({"question": "hi", "input": {"question": "ho"}}, where).last_user_text == "ho"


def test_a_prompt_comes_after_the_messages_and_what_instructs_before():
    where = "prompt: say\nmessages: before\nsystem: persona"
    request = decode({"say": "now", "before": [HI], "persona": "Be kind."}, where)
    assert request.messages == (said("system", "Be kind."), said("user", "hi"), said("user", "now"))
    assert decode({"before": [HI]}, where).messages == (said("user", "hi"),)
    assert decode({"say": "now"}, where).messages == (said("user", "now"),)


def test_defaults_fill_what_is_left_out():
    where = "system: system\ndefaults: {model: m, system: Be kind., stream: false, temperature: 0.2}"
    request = decode({"messages": [HI]}, where)
    assert (request.model, request.stream, request.params) == ("m", False, {"temperature": 0.2})
    assert request.messages == (said("system", "Be kind."), said("user", "hi"))
    own = {"role": "system", "content": "Be short."}
    request = decode({"messages": [own, HI], "model": "x", "stream": True, "temperature": 1}, where)
    assert (request.model, request.stream, request.params) == ("x", True, {"temperature": 1})
    assert request.messages == (said("system", "Be short."), said("user", "hi"))
    assert decode({"messages": [HI], "system": "Be long."}, where).messages[0] == said("system", "Be long.")


def test_parameters_stand_under_openais_names_or_where_they_are_said_to():
    body = {"messages": [HI], "temperature": 1, "temp": 2, "options": {"temperature": 3, "max_tokens": None, "t": 4}}
    assert decode(body).params == {"temperature": 1}
    assert decode(body, "parameters: {}").params == {}
    assert decode(body, "parameters: {temperature: temp}").params == {"temperature": 2}
    assert decode(body, "parameters_in: options").params == {"temperature": 3}
    assert decode(body, "parameters_in: options\nparameters: {top_k: t}").params == {"top_k": 4}
    assert decode({"messages": [HI]}, "parameters_in: options").params == {}


@pytest.mark.parametrize(
    ("where", "body", "accepts", "streams"),
    [
        ("{}", {}, False, True),
        ("{}", {"stream": None}, False, True),
        ("{}", {"stream": False}, True, False),
        ("stream: live", {"stream": False}, False, True),
        ("stream: live", {"live": False}, False, False),
        ("stream: true", {"stream": False}, False, True),
        ("stream: false", {"stream": True}, True, False),
        ("stream: $accept", {"stream": True}, False, False),
        ("stream: $accept", {"stream": False}, True, True),
    ],
)
def test_whether_an_answer_is_streamed(where, body, accepts, streams):
    assert decode({"messages": [HI], **body}, where, accepts_stream=accepts).stream is streams


def test_content_may_be_parts_and_those_nobody_knows_are_left_out():
    parts = [
        "a",
        {"text": "b"},
        {"type": "text", "text": "c"},
        {"type": "step-start"},
        {"type": "tool-weather", "input": {}},
        {"type": "image_url", "image_url": {"url": "http://a/b.png"}},
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="},
        {
            "type": "file",
            "mediaType": "application/pdf",
            "url": "data:application/pdf;base64,AA==",
            "filename": "a.pdf",
        },
    ]
    (message,) = decode({"messages": [{"role": "user", "parts": parts}]}, "content: parts").messages
    assert message.parts == (
        Text("a"),
        Text("b"),
        Text("c"),
        Image("http://a/b.png"),
        Image("data:image/png;base64,AA=="),
        File(data="AA==", name="a.pdf", media_type="application/pdf"),
    )


def test_tools_are_read_where_calls_can_be_reported():
    called = {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    result = {"role": "tool", "tool_call_id": "c", "content": "1"}
    request = decode({"messages": [HI, called, result], "tools": [TOOL]}, response=CALLS)
    assert request.tools == (Tool("f"),)
    assert request.messages[1:] == (
        Message("assistant", tool_calls=(ToolCall("c", "f", "{}"),)),
        Message("tool", (Text("1"),), tool_call_id="c"),
    )
    assert decode({"messages": [HI], "fns": [TOOL]}, "tools: fns", CALLS).tools == (Tool("f"),)


def test_a_client_that_brings_tools_is_told_where_no_call_could_be():
    with pytest.raises(Unsupported) as caught:
        decode({"messages": [HI], "tools": [TOOL]})
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported", "tools")
    for own in (["web_search"], [], {"search": True}, "all"):  # what another frontend may mean by the word
        assert decode({"messages": [HI], "tools": own}).tools == ()


def test_fields_that_the_answer_repeats_are_kept():
    response = "{token: {t: $text, a: $request.a, b: $request.b.c, d: $request.d}}"
    assert decode({"messages": [HI], "a": "x", "b": {"c": 7}, "d": {"e": 1}}, response=response).raw_body == {
        "request.a": "x",
        "request.b.c": 7,
        "request.d": None,
    }
    with pytest.raises(BadRequest, match=r"^a: "):
        decode({"messages": [HI], "a": "x" * (MOST_ECHOED + 1)}, response=response)


REFUSED = [
    (b"", "{}", 400, None),
    (b"[]", "{}", 400, None),
    (b'{"messages": [', "{}", 400, None),
    ({}, "{}", 422, "messages"),
    ({"messages": []}, "{}", 422, "messages"),
    ({"messages": "hi"}, "{}", 422, "messages"),
    ({"messages": ["hi"]}, "{}", 422, "messages[0]"),
    ({"messages": [{}]}, "{}", 422, "messages[0].role"),
    ({"messages": [{"role": 5}]}, "{}", 422, "messages[0].role"),
    ({"messages": [{"role": True}]}, "{}", 422, "messages[0].role"),
    ({"messages": [{"role": "ai"}]}, "{}", 422, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "{}", 422, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "{}", 422, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [5]}]}, "{}", 422, "messages[0].content[0]"),
    ({"chat": {"log": [{"who": "me"}]}}, "messages: chat.log\nrole: who\ncontent: [text, html]\nroles: {me: user}", 422, "chat.log[0].text"),
    ({}, "prompt: input.question", 422, "input.question"),
    ({"input": {"question": 5}}, "prompt: input.question", 422, "input.question"),
    ({"messages": [HI], "model": 5}, "{}", 422, "model"),
    ({"messages": [HI], "user": True}, "{}", 422, "user"),
    ({"messages": [HI], "stream": "yes"}, "{}", 422, "stream"),
    ({"messages": [HI], "metadata": 5}, "{}", 422, "metadata"),
    ({"messages": [HI], "options": 5}, "parameters_in: options", 422, "options"),
    ({"messages": [HI], "persona": {}}, "system: persona", 422, "persona"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "where", "status", "param"), REFUSED)
def test_a_bad_request_is_refused_with_its_place(body, where, status, param):
    with pytest.raises(BadRequest) as caught:
        decode(body, where)
    assert (caught.value.status, caught.value.param) == (status, param)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["messages", "role", "content", "input", "question", "text", "type", "tools", "user"]), inner, max_size=4),
)  # fmt: skip
NESTED = reader("messages: input.messages\nprompt: input.question\ncontent: [content, text]\nrole: [role, user.0]")


@given(JSON)
def test_h11_whatever_comes_is_read_or_refused(value):
    verdict = 200
    try:
        assert NESTED.decode(json.encode(value), id="r", path="/own", headers={}, accepts_stream=True).messages
    except ProxyError as error:
        verdict = error.status
    assert verdict in {200, 400, 422}


@pytest.mark.parametrize(
    "where",
    [
        "{}",
        "prompt: input.question",
        "messages: a.b\nrole: who\ncontent: what.text\nroles: {me: user, user: assistant}",
        "messages: a.0\nrole: '0'\ncontent: '1'",
        "prompt: say\nmessages: before",
    ],
)
def test_the_smallest_body_is_one_that_the_contract_reads(where):
    one = reader(where)
    request = one.decode(one.smallest_body(), id="r", path="/own", headers={}, accepts_stream=False)
    assert request.messages == (said("user", "hi"),)


def test_a_place_names_itself():
    assert Places(["a.b", "c"]).find({"c": 1}) == (1, "c")
    assert Places(["a.b", "c"]).find({"a": 1}) == (None, "a.b")
    assert Places(["a.1.b"]).put("x") == {"a": [None, {"b": "x"}]}
