"""Reading Ollama's requests, and writing its lists of models."""

import contextlib
import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama import ListResponse, ShowResponse

from proxy.contracts.ollama.models import decode_show, show_body, tags_body
from proxy.contracts.ollama.request import decode_chat, decode_generate, loads, model_name
from proxy.contracts.openai.upstream_request import encode_request
from proxy.errors import BadRequest
from proxy.request import Image, Message, Text, Tool, ToolCall
from proxy.wire.conversation import arranged
from proxy.wire.translation import translated
from proxy.wire.vocabulary import Vocabulary

HI = [{"role": "user", "content": "hi"}]
PNG = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


def chat(models=(), **fields):
    return decode_chat(json.dumps({"model": "m", "messages": HI, **fields}).encode(), id="7", models=models)


def generate(**fields):
    return decode_generate(json.dumps({"model": "m", **fields}).encode(), id="7")


def messages(*turns):
    return chat(messages=list(turns)).messages


# -- /api/chat


def test_a_request_is_read():
    body = b'{"model":"llama3:8b","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}]}'
    request = decode_chat(body, id="7", path="/ollama/api/chat", headers={"x-team": "a"})
    assert (request.id, request.contract, request.model) == ("7", "ollama", "llama3:8b")
    assert (request.path, request.headers) == ("/ollama/api/chat", {"x-team": "a"})
    assert request.messages == (Message("system", (Text("be brief"),)), Message("user", (Text("hi"),)))
    assert (request.params, request.tools, request.raw_body) == ({}, (), None)


@pytest.mark.parametrize(
    ("stream", "streams"), [({}, True), ({"stream": None}, True), ({"stream": True}, True), ({"stream": False}, False)]
)
def test_streaming_is_what_happens_unless_told_otherwise(stream, streams):
    assert chat(**stream).stream is streams
    assert generate(prompt="x", **stream).stream is streams


def test_a_request_without_a_model_leaves_it_to_the_route():
    assert chat(model=None).model is None
    assert chat(model="").model is None


def test_options_become_parameters_under_their_openai_names():
    options = {
        "temperature": 0, "top_p": 0.9, "seed": 7, "stop": ["x", "y"], "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "num_predict": 99, "num_ctx": 4096, "mirostat": 2, "num_gpu": 1, "unheard_of": {},
        "top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1,
    }  # fmt: skip
    request = chat(options=options)
    assert request.params == {
        "temperature": 0, "top_p": 0.9, "seed": 7, "stop": ["x", "y"], "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "max_tokens": 99, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
    }  # fmt: skip
    assert request.hints == {"top_k", "min_p", "repetition_penalty"}, "not every upstream takes these"


def test_a_bad_stop_is_not_passed_on():
    assert chat(options={"stop": []}).params == chat(options={"stop": ""}).params == {}
    assert chat(options={"stop": "x"}).params == {"stop": "x"}


@pytest.mark.parametrize("limit", [-1, -2, 0, None, "-1", -1.0])
def test_a_bad_limit_is_not_passed_on(limit):
    assert chat(options={"num_predict": limit, "stop": None, "seed": None}).params == {}


@pytest.mark.parametrize("limit", ["nine", True, 1.5, [9], {}, ""])
def test_A6_a_limit_of_a_wrong_type_is_refused_and_named(limit):
    with pytest.raises(BadRequest, match=r"^options\.num_predict: ") as caught:
        chat(options={"num_predict": limit})
    assert caught.value.param == "options.num_predict"


@pytest.mark.parametrize(
    ("format_", "params"),
    [
        (None, {}),
        ("", {}),
        ("json", {"response_format": {"type": "json_object"}}),
        (
            {"type": "object"},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
        ),
    ],
)
def test_a_format_is_json_or_a_schema(format_, params):
    assert chat(format=format_).params == params
    assert generate(prompt="x", format=format_).params == params


@pytest.mark.parametrize(
    ("think", "params"),
    [
        (None, {}),
        ("", {}),
        (True, {"reasoning_effort": "medium"}),
        (False, {"reasoning_effort": "none"}),
        ("low", {"reasoning_effort": "low"}),
        ("high", {"reasoning_effort": "high"}),
    ],
)
def test_thinking_is_a_yes_a_no_or_a_level(think, params):
    assert chat(think=think).params == params
    assert chat(think=think).hints == params.keys(), "no reason to refuse a request"


@pytest.mark.parametrize(
    ("start", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(4), "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(8), "image/jpeg"),
        (b"GIF89a" + bytes(6), "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (b"BM" + bytes(10), "image/bmp"),
    ],
)
def test_images_come_in_base64_and_say_themselves_what_they_are(start, media_type):
    data = b64encode(start + bytes(range(50))).decode()
    [message] = messages({"role": "user", "content": "what is this?", "images": [data, data]})
    image = Image(f"data:{media_type};base64,{data}")
    assert message.parts == (Text("what is this?"), image, image)
    assert messages({"role": "user", "images": [data]})[0].parts == (image,)


def test_calls_and_their_answers_keep_their_ids():
    call = {"id": "call_x", "function": {"index": 0, "name": "weather", "arguments": {"city": "Ulm 😀"}}}
    asked, answered = messages(
        {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
        {"role": "tool", "content": "11 °C", "tool_call_id": "call_x", "tool_name": "weather"},
    )
    assert asked.tool_calls == (ToolCall("call_x", "weather", '{"city":"Ulm 😀"}'),)
    assert asked.reasoning == "Hm."
    assert answered == Message("tool", (Text("11 °C"),), tool_call_id="call_x", name="weather")


def call(name):
    return {"function": {"name": name, "arguments": {}}}


def test_calls_without_ids_are_distinguished_and_matched_by_name_then_by_order():
    """Most clients send back no ids, and upstreams insist on them."""
    asked = messages(
        {"role": "user", "content": "go"},
        {"role": "assistant", "tool_calls": [call("a"), call("b"), call("a")]},
        {"role": "tool", "content": "b", "tool_name": "b"},
        {"role": "tool", "content": "first a", "tool_name": "a"},
        {"role": "tool", "content": "second a"},
        {"role": "assistant", "tool_calls": [call("a")]},
        {"role": "tool", "content": "third a", "name": "a"},
        {"role": "tool", "content": "to nothing", "tool_name": "a"},
    )
    told = arranged(asked, Vocabulary()).messages
    ids = [one.id for message in told for one in message.tool_calls]
    assert len({*ids}) == 4
    assert all(ids)
    assert [(message.tool_call_id, message.text) for message in told if message.role == "tool"] == [
        *zip(ids, ["first a", "b", "second a", "third a"], strict=True)
    ]
    assert told[-1].text.endswith("to nothing")


def test_tools_are_read_also_without_a_type():
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    request = chat(tools=[{"type": "function", "function": function}, {"function": {"name": "g"}}, {"type": "new"}])
    assert request.tools == (Tool("f", "d", {"type": "object"}), Tool("g"))


def test_a_upstream_of_another_dialect_is_asked_the_same():
    request = chat(
        messages=[
            {"role": "user", "content": "see", "images": [PNG]},
            {"role": "assistant", "content": "", "tool_calls": [call("f")]},
            {"role": "tool", "content": "1", "tool_name": "f"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        options={"num_predict": 9},
        keep_alive="5m",
    )
    request = translated(request, Vocabulary()).request
    (id_,) = [call.id for message in request.messages for call in message.tool_calls]
    assert json.loads(encode_request(request, model="far")) == {
        "model": "far",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            },
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "1", "tool_call_id": id_},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content"),
        ({"messages": [*HI, {"role": "user", "images": "x"}]}, "messages[1].images"),
        ({"messages": [{"role": "user", "images": [7]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": ["https://x.test/a.png"]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": [b64encode(b"%PDF-1.7 1234").decode()]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "user", "images": [""]}]}, "messages[0].images[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"options": [1]}, "options"),
        ({"format": "xml"}, "format"),
        ({"format": 7}, "format"),
        ({"think": 7}, "think"),
        ({"stream": "no"}, "stream"),
        ({"model": 7}, "model"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(fields, place):
    with pytest.raises(BadRequest) as refused:
        chat(**fields)
    assert (refused.value.status, refused.value.param) == (400, place)


# -- /api/generate


def test_a_prompt_is_a_conversation_of_one_turn():
    request = generate(
        prompt="why?", system="be brief", images=[PNG], options={"seed": 1}, context=[1, 2], template="x"
    )
    assert request.messages == (
        Message("system", (Text("be brief"),)),
        Message("user", (Text("why?"), Image(f"data:image/png;base64,{PNG}"))),
    )
    assert (request.params, request.contract) == ({"seed": 1}, "ollama")


def test_a_raw_prompt_has_its_system_in_it():
    assert generate(prompt="[INST] why? [/INST]", system="be brief", raw=True).messages == (
        Message("user", (Text("[INST] why? [/INST]"),)),
    )


def test_a_suffix_asks_for_the_text_between():
    request = decode_generate(b'{"model": "m", "prompt": "a", "suffix": "c", "options": {"top_k": 3}}', id="r")
    assert (request.task, request.contract, request.dialect) == ("completion", "completions", "openai-completions")
    assert request.raw_body == {"prompt": "a", "suffix": "c", "stream": True}
    assert request.params == {"top_k": 3}


# -- loading


@pytest.mark.parametrize("nothing", [{}, {"messages": []}, {"messages": None}])
@pytest.mark.parametrize(
    ("keep_alive", "reason"),
    [({}, "load"), ({"keep_alive": 0}, "unload"), ({"keep_alive": "0"}, "unload"), ({"keep_alive": "0s"}, "unload"),
     ({"keep_alive": -1}, "load"), ({"keep_alive": "10m"}, "load"), ({"keep_alive": []}, "load")],
)  # fmt: skip
def test_a_request_without_messages_or_prompt_asks_for_the_model_to_be_loaded(nothing, keep_alive, reason):
    body = json.dumps({"model": "m", **nothing, **keep_alive}).encode()
    assert loads(decode_chat(body, id="7")) == reason
    assert loads(decode_generate(body, id="7")) == reason
    assert loads(generate(prompt="", system="be brief", **keep_alive)) == reason


def test_all_others_do_not():
    assert loads(chat(keep_alive=0)) is None
    assert loads(generate(prompt="x", keep_alive=0)) is None


# -- names


@pytest.mark.parametrize(
    ("asked", "named", "model"),
    [
        ("gpt-4o-mini:latest", (), "gpt-4o-mini"),
        ("gpt-4o-mini:latest", ("gpt-4o-mini",), "gpt-4o-mini"),
        ("llama3:latest", ("llama3:latest", "llama3"), "llama3:latest"),
        ("openai/gpt-4o-mini:latest", ("openai/gpt-4o-mini",), "openai/gpt-4o-mini"),
        ("llama3:8b", (), "llama3:8b"),
        ("latest", (), "latest"),
    ],
)
def test_the_tag_that_goes_without_saying_goes_unless_the_config_says_it(asked, named, model):
    assert model_name(asked, named) == model
    assert chat(named, model=asked).model == model


# -- lists


def test_models_are_listed_with_a_tag_and_as_the_official_client_takes_them():
    body = tags_body(["gpt-4o-mini", "llama3:8b", "openai/gpt-4o-mini", "or/deepseek/r1:free", "http://x:80/m"], 0)
    listed = ListResponse.model_validate_json(body)
    names = [
        "gpt-4o-mini:latest",
        "llama3:8b",
        "openai/gpt-4o-mini:latest",
        "or/deepseek/r1:free",
        "http://x:80/m:latest",
    ]
    assert [row.model for row in listed.models] == names
    rows = json.loads(body)["models"]
    assert [row["name"] for row in rows] == names
    assert len({row["digest"] for row in rows}) == len(rows)
    assert {len(row["digest"]) for row in rows} == {64}
    assert rows[0]["modified_at"] == "1970-01-01T00:00:00Z"
    assert rows[0]["details"].keys() == {
        "parent_model", "format", "family", "families", "parameter_size", "quantization_level",
    }  # fmt: skip
    assert tags_body([], 0) == b'{"models":[]}'


def test_what_is_shown_of_a_model_is_what_the_official_client_takes():
    shown = ShowResponse.model_validate_json(show_body("m", 0))
    assert shown.capabilities == ["completion", "tools", "vision", "thinking"]
    assert shown.modelinfo == {"general.architecture": "unknown", "general.basename": "m"}
    sized = ShowResponse.model_validate_json(show_body("m", 0, 8192))
    assert sized.modelinfo["unknown.context_length"] == 8192


def test_a_model_is_asked_about_by_either_name():
    assert decode_show(b'{"model":"m","verbose":true}') == "m"
    assert decode_show(b'{"name":"m"}') == "m"
    for body in (b"{}", b'{"model":""}'):
        with pytest.raises(BadRequest, match=r"^model: "):
            decode_show(body)


# -- anything


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["model", "messages", "stream", "options", "format", "think", "tools", "images", "prompt", "system", "raw", "suffix",
     "keep_alive", "role", "content", "tool_calls", "function", "name", "arguments", "tool_name", "num_predict", "stop"]
)  # fmt: skip
BODIES = st.dictionaries(
    NAMES, st.recursive(JSON, lambda inside: st.lists(inside, max_size=2) | st.dictionaries(NAMES, inside, max_size=4), max_leaves=8),
    max_size=6,
)  # fmt: skip


@given(BODIES)
def test_H11_whatever_is_sent_is_read_or_refused_with_a_reason(body):
    for decode in (decode_chat, decode_generate):
        with contextlib.suppress(BadRequest):
            encode_request(decode(json.dumps(body).encode(), id="7"), model="far")
