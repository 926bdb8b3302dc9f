"""Requests in OpenAI's form: what is read, what reaches an upstream, and what never does."""

import msgspec
import pytest

from proxy.contracts.openai.request import decode_request
from proxy.contracts.openai.upstream_request import ReasoningReturn, choices_expected, encode_request
from proxy.errors import BadRequest, Unsupported
from proxy.request import Audio, ChatRequest, File, Image, Message, Other, Text, Tool, ToolCall
from proxy.wire.forwarding import NEVER_FORWARDED


def decode(body, **options):
    return decode_request(body if isinstance(body, bytes) else msgspec.json.encode(body), id="r1", **options)


def sent(request, *, model="m", **options):
    return msgspec.json.decode(encode_request(request, model=model, **options))


def with_params(request, **params):
    return msgspec.structs.replace(request, params={**request.params, **params})


HI = [{"role": "user", "content": "hi"}]


def test_a_request_is_read_into_its_parts():
    request = decode(
        {
            "model": "gpt-x",
            "messages": HI,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "stop": ["a"],
            "user": "u",
            "metadata": {"team": "x"},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "brand_new": {"a": 1},
        },
        path="/v1/chat/completions",
        headers={"x-team": "y"},
    )
    assert (request.contract, request.dialect, request.model) == ("openai", "openai-chat", "gpt-x")
    assert request.messages == (Message("user", (Text("hi"),)),)
    assert request.params == {"temperature": 0.5, "stop": ["a"]}
    assert request.tools == (Tool("f", parameters={"type": "object"}),)
    assert (request.user, request.metadata) == ("u", {"team": "x"})
    assert (request.stream, request.wants_usage) == (True, True)
    assert (request.path, request.headers) == ("/v1/chat/completions", {"x-team": "y"})
    assert request.raw_body["brand_new"] == {"a": 1}


@pytest.mark.parametrize(("stream", "expected"), [(True, True), (False, False), (None, False)])
def test_only_true_asks_for_a_stream(stream, expected):
    assert decode({"messages": HI, "stream": stream}).stream is expected
    assert decode({"messages": HI}).stream is False


def test_usage_is_not_wanted_inside_what_is_no_stream():
    assert not decode({"messages": HI, "stream_options": {"include_usage": True}}).wants_usage


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": HI, "model": 5}, "model"),
        ({"messages": HI, "stream": "yes"}, "stream"),
        ({"messages": HI, "stream_options": []}, "stream_options"),
        ({"messages": HI, "stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"messages": HI, "tools": {}}, "tools"),
        ({"messages": HI, "metadata": "x"}, "metadata"),
        (b"[]", None),
        (b"{", None),
        (b'{"messages":[],"messages":[]}', None),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(body, param):
    with pytest.raises(BadRequest) as caught:
        decode(body)
    assert caught.value.param == param
    assert caught.value.status == 400


# the same dialect


def test_unknown_fields_reach_a_upstream_of_the_same_dialect():
    wire = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"x": 1}}]}],
        "tools": [{"type": "custom", "custom": {"name": "c"}}],
        "top_k": 4,
        "modalities": ["text"],
        "logit_bias": {"50256": -100},
        "n": 2,
    }
    assert sent(decode({**wire, "model": "asked"})) == {**wire, "model": "m", "stream": False}


def test_without_a_model_none_is_named():
    assert "model" not in sent(decode({"messages": HI, "model": "asked"}), model="")


def test_a_route_has_the_last_word_on_params():
    request = decode({"messages": HI, "temperature": 0.1, "top_p": 0.9})
    changed = msgspec.structs.replace(request, params={"temperature": 0.7, "top_k": 3, "max_tokens": 5})
    assert sent(changed) == {
        "model": "m", "messages": HI, "temperature": 0.7, "top_k": 3, "max_tokens": 5, "stream": False,
    }  # fmt: skip


def test_usage_is_asked_for_in_streams_beside_what_the_client_chose():
    request = decode({"messages": HI, "stream": True, "stream_options": {"include_obfuscation": False}})
    assert sent(request)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert sent(request, include_usage=False)["stream_options"] == {"include_obfuscation": False}
    plain = decode({"messages": HI, "stream": True})
    assert sent(plain)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(plain, include_usage=False)


def test_an_unstreamed_request_has_no_stream_options():
    assert "stream_options" not in sent(decode({"messages": HI, "stream_options": {"include_usage": True}}))


def test_the_request_itself_is_never_changed():
    body = {
        "messages": HI,
        "stream": True,
        "stream_options": {"x": 1},
        "api_base": "http://evil",
        "metadata": {"api_key": "k"},
    }
    request = decode(body)
    assert encode_request(request, model="m") == encode_request(request, model="m")
    assert request.raw_body == body


@pytest.mark.parametrize("name", sorted(NEVER_FORWARDED))
def test_H08_no_client_says_where_to_go_or_what_to_answer(name):
    body = encode_request(decode({"messages": HI, name: {"canary": "http://evil.test"}}), model="m")
    assert b"canary" not in body


@pytest.mark.parametrize(
    "name", ["aws_secret_access_key", "vertex_credentials", "azure_ad_token", "litellm_params", "langfuse_host"]
)
def test_H08_nor_with_whose_credentials(name):
    assert b"canary" not in encode_request(decode({"messages": HI, name: "canary"}), model="m")


def test_H08_metadata_is_searched_as_well():
    metadata = {
        "team": "x",
        "project": "p",
        "api_base": "http://evil",
        "langfuse_host": "http://evil",
        "callbacks": ["y"],
    }
    assert sent(decode({"messages": HI, "metadata": metadata}))["metadata"] == {"team": "x", "project": "p"}


def test_what_a_route_sets_is_trusted():
    assert sent(with_params(decode({"messages": HI, "models": ["evil"]}), models=["a", "b"]))["models"] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({"max_tokens": 5}, "max_completion_tokens", {"max_completion_tokens": 5}),
        ({"max_completion_tokens": 5}, "max_tokens", {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 9}, "max_tokens", {"max_tokens": 9}),
        ({"max_tokens": 5}, None, {"max_tokens": 5}),
        ({}, "max_tokens", {}),
    ],
)
def test_the_length_limit_takes_the_name_the_upstream_knows(given, name, expected):
    body = sent(decode({"messages": HI, **given}), max_tokens_name=name)
    assert {key: value for key, value in body.items() if key.startswith("max_")} == expected


@pytest.mark.parametrize(("n", "expected"), [(2, 2), (1, 1), (0, 1), ("2", 1), (True, 1), (None, 1)])
def test_as_many_choices_are_expected_as_were_asked_for(n, expected):
    assert choices_expected(decode({"messages": HI, "n": n})) == expected


# other dialects


def chat(*messages, **more):
    return ChatRequest(id="r1", contract="chat", dialect="chat", messages=messages, **more)


def test_a_chat_request_is_sent_with_nothing_added():
    request = chat(Message("user", (Text("hi"),)), params={"temperature": 0.7})
    assert encode_request(request, model="gpt-4o-mini") == (
        b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"temperature":0.7,"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )


def test_every_kind_of_message_is_written_and_read_back():
    messages = (
        Message("system", (Text("be brief"),)),
        Message("developer", (Text("a"), Text("b")), name="dev"),
        Message(
            "user",
            (
                Text("look"),
                Image("data:image/png;base64,AA=="),
                Image("https://x.test/i.png", "low"),
                Audio("UklG", "wav"),
                File(data="JVBE", name="a.pdf", media_type="application/pdf"),
                File(id="file-1"),
                File(data="JVBE", name="document.pdf"),
            ),
        ),
        Message("assistant", tool_calls=(ToolCall("c1", "f", '{"a":1}'),)),
        Message("tool", (Text("42"),), tool_call_id="c1"),
        Message("assistant", (Text("done"),)),
    )
    tools = (Tool("f", "does f", {"type": "object"}, strict=True), Tool("g"))
    body = encode_request(chat(*messages, tools=tools, user="u"), model="m")
    read = decode_request(body, id="r2")
    assert (read.messages, read.tools, read.user) == (messages, tools, "u")
    assert read.raw_body["messages"][3]["content"] is None


def test_an_empty_message_stays_one():
    assert sent(chat(Message("user")))["messages"] == [{"role": "user", "content": ""}]


def test_a_file_by_address_is_refused_rather_than_dropped():
    with pytest.raises(Unsupported):
        encode_request(chat(Message("user", (File(url="https://x.test/a.pdf"),))), model="m")


def test_fields_of_another_dialect_are_not_taken_for_ours():
    request = chat(Message("user", (Text("hi"),)), raw_body={"trigger": "x", "api_base": "y"}, metadata={"team": "x"})
    assert sent(request).keys() == {"model", "messages", "stream", "stream_options"}


def test_a_content_part_of_a_new_type_passes_to_the_same_dialect_and_is_refused_by_others():
    new = {"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}}
    request = decode({"model": "m", "messages": [{"role": "user", "content": [new]}]})
    assert sent(request)["messages"][0]["content"] == [new]
    chat = msgspec.structs.replace(request, raw_body=None, dialect="chat")
    with pytest.raises(Unsupported, match=r"^messages\[0\]\.content\[0\]: .*video_url"):
        sent(chat)


def test_what_is_our_reading_of_other_words_goes_only_to_who_takes_it():
    request = chat(
        Message("user", (Text("hi"),)),
        params={"top_k": 4, "reasoning_effort": "low", "top_p": 1},
        hints=frozenset({"top_k", "reasoning_effort"}),
    )
    assert "top_k" not in sent(request)
    assert "reasoning_effort" not in sent(request)
    assert sent(request, hints={"reasoning_effort"})["reasoning_effort"] == "low"
    assert sent(request)["top_p"] == 1
    said = msgspec.structs.replace(request, hints=frozenset())  # a client's or a route's own words
    assert (sent(said)["top_k"], sent(said)["reasoning_effort"]) == (4, "low")


def test_a_users_name_is_never_longer_than_openai_takes():
    assert sent(chat(Message("user", (Text("hi"),)), user="u" * 64))["user"] == "u" * 64
    assert len(sent(chat(Message("user", (Text("hi"),)), user="u" * 65))["user"]) == 64


def test_sealed_reasoning_goes_only_to_who_has_a_form_for_it():
    sealed = Message("assistant", (Text("t"),), reasoning="hm", reasoning_signature="s")
    bare = Message("assistant", (Text("t"),), reasoning="hm")
    assert sent(chat(sealed))["messages"] == [{"role": "assistant", "content": "t"}]
    assert sent(chat(bare), reasoning=ReasoningReturn("thinking_blocks"))["messages"] == [
        {"role": "assistant", "content": "t"}
    ]
    assert sent(chat(sealed), reasoning=ReasoningReturn("thinking_blocks"))["messages"][0]["thinking_blocks"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"}
    ]


NOTHING = {"type": "object", "properties": {}}
MARK = {"type": "ephemeral"}


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "name": "f", "description": "d", "parameters": NOTHING},
        {"name": "f", "description": "d", "input_schema": NOTHING},
    ],
)
def test_R6_tools_in_the_form_of_other_contracts_are_read(tool):
    request = decode({"messages": HI, "tools": [tool]})
    assert request.tools == (Tool("f", "d", NOTHING),)
    assert request.raw_body["tools"] == [tool]  # an upstream of this dialect gets them as they came


def test_R5_system_text_beside_the_messages_is_read_as_anthropic_has_it():
    plain = decode({"messages": HI, "system": "be brief"})
    assert plain.messages == (Message("system", (Text("be brief"),)), Message("user", (Text("hi"),)))
    assert plain.unread == ()
    assert sent(plain)["system"] == "be brief"  # an upstream of this dialect gets it as it came
    blocks = [{"type": "text", "text": "a", "cache_control": MARK}, {"type": "text", "text": "b"}]
    assert decode({"messages": HI, "system": blocks}).messages[0].parts == (Text("a", MARK), Text("b"))
    assert decode({"messages": HI, "system": {"x": 1}}).unread == ("system",)


def test_a_body_of_responses_is_told_where_it_is_read():
    with pytest.raises(BadRequest, match="/v1/responses"):
        decode({"input": HI})


def test_R5_the_mark_of_a_tool_in_the_form_of_anthropic_is_kept():
    (tool,) = decode({"messages": HI, "tools": [{"name": "f", "input_schema": NOTHING, "cache_control": MARK}]}).tools
    assert tool.cache == MARK


def test_R5_the_mark_of_a_result_is_written():
    result = Message("tool", (Text("a"), Text("b", MARK)), tool_call_id="c")
    assert sent(chat(result))["messages"][0]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": MARK},
    ]


def test_R6_parts_of_responses_arguments_as_objects_and_results_of_nothing_are_read():
    function = {"name": "f", "arguments": {"x": 1}}
    request = decode(
        {"messages": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "input_image", "image_url": "data:image/png;base64,AA"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "a", "content": None},
        ]}
    )  # fmt: skip
    asked, answered, result = request.messages
    assert asked.parts == (Text("hi"), Image("data:image/png;base64,AA"))
    assert answered.tool_calls == (ToolCall("a", "f", '{"x":1}'),)
    assert result.parts == ()


def test_R5_what_an_earlier_answer_holds_beside_its_content_is_read():
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "Yes."}]
    request = decode(
        {
            "messages": [
                {"role": "assistant", "content": "here", "images": [shown, "nonsense"]},
                {"role": "assistant", "content": thought},
                {"role": "assistant", "audio": {"id": "audio_1"}},
            ]
        }
    )
    drawn, thinking, spoken = request.messages
    assert drawn.parts == (Text("here"), Image("data:image/png;base64,AA"))
    assert (thinking.parts, thinking.reasoning) == ((Text("Yes."),), "Hm.")
    assert spoken.parts == (Other("audio", "messages[2].audio"),)
