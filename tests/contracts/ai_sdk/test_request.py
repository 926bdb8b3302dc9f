"""Requests of the AI SDK: whose a body is, and what a conversation of UI messages says to a model."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.contracts.ai_sdk.request import CERTAIN, LIKELY, decode_request, detects
from proxy.contracts.ai_sdk.writer import AISDKWriter
from proxy.errors import BadRequest
from proxy.events import Batch, Finish, ReasoningDelta, ReasoningSignature, Start, TextDelta
from proxy.request import Audio, File, Image, Message, Text, Tool, ToolCall

HI = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}


def decode(body, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_request(raw, id="r1", contract="ai-sdk", **more)


def messages(*ui_messages):
    return list(decode({"messages": ui_messages}).messages)


def assistant(*parts):
    return {"id": "a1", "role": "assistant", "parts": list(parts)}


def tool(state, **more):
    return {"type": "tool-weather", "toolCallId": "c1", "state": state, "input": {"city": "Oslo"}, **more}


# whose it is


@pytest.mark.parametrize(
    ("body", "sure"),
    [
        ({"id": "c", "messages": [HI], "trigger": "submit-message"}, CERTAIN),
        ({"messages": [], "trigger": "regenerate-message"}, CERTAIN),
        ({"messages": [{"role": "user", "content": "x"}, HI]}, CERTAIN),
        ({"prompt": "Once"}, LIKELY),
        ({"messages": [{"role": "user", "content": "parts"}]}, 0),
        ({"messages": [{"role": "user", "content": '"parts":[1]'}]}, 0),
        ({"messages": [{"role": "user", "parts": "a string"}]}, 0),
        ({"messages": [{"role": "user", "parts": None}], "trigger": "resume"}, 0),
        ({"messages": [], "prompt": "x"}, 0),
        ({"prompt": 7}, 0),
        ({"prompt": None, "trigger": 5}, 0),
        ({"messages": "parts", "trigger": None}, 0),
        ({"messages": [1, {"parts": []}]}, 0),
        ([{"parts": []}], 0),
        ("parts", 0),
    ],
)
def test_a_body_tells_whose_it_is(body, sure):
    assert detects(json.dumps(body).encode()) == sure


@pytest.mark.parametrize(
    "body",
    [b"", b'{"parts"', b'{"messages":[{"parts":[}]', b'"parts" \xff', b'{"trigger":' + b"[" * 100_000, b'\xef\xbb\xbf{"parts":1}'],
)  # fmt: skip
def test_a_body_that_is_no_json_is_claimed_by_nobody_and_breaks_nothing(body):
    assert detects(body) == 0


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: ('{"messages":' + text + '"parts"').encode()))
def test_no_bytes_make_a_claim_raise(body):
    detects(body)


def test_a_claim_on_a_large_body_costs_little():
    """It is made for every request at a shared path: 20 MB must not be parsed twice."""
    texts = [{"role": "user", "content": "x" * 1000, "extra": [{"parts": 1}] * 3} for _ in range(18_000)]
    body = json.dumps({"messages": texts}).encode()
    assert len(body) > 18_000_000
    assert detects(body) == 0
    assert quickest(detects, body) < quickest(json.loads, body) / 2  # measured: 9 ms and 56 ms


def quickest(read, body):
    """CPU time of the best of some tries: others run on this machine as well."""
    times = []
    for _ in range(7):
        began = time.process_time()
        read(body)
        times.append(time.process_time() - began)
    return min(times)


# what it says


def test_what_usechat_sends_is_read():
    request = decode(
        {
            "id": "chat-1",
            "messages": [HI],
            "trigger": "submit-message",
            "model": "m",
            "temperature": 0.5,
            "max_tokens": 9,
            "user": "u",
            "metadata": {"a": 1},
            "somethingElse": [1],
        },
        path="/api/chat",
        headers={"x-team": "a"},
    )
    assert request.messages == (Message("user", (Text("hi"),)),)
    assert (request.id, request.contract, request.dialect) == ("r1", "ai-sdk", "ai-sdk")
    assert (request.model, request.params) == ("m", {"temperature": 0.5, "max_tokens": 9})
    assert (request.user, request.metadata) == ("u", {"a": 1})
    assert (request.path, request.headers) == ("/api/chat", {"x-team": "a"})
    assert request.stream
    assert not request.wants_usage


def test_what_usecompletion_sends_is_read():
    request = decode({"prompt": "Once", "stream": False, "stream_options": {"include_usage": True}})
    assert request.messages == (Message("user", (Text("Once"),)),)
    assert not request.stream
    assert request.wants_usage


def test_what_assistant_ui_sends_besides_is_read():
    request = decode(
        {
            "messages": [HI],
            "system": "Be brief.",
            "tools": {"weather": {"description": "Looks", "parameters": {"type": "object"}}, "now": {}},
            "callSettings": {"maxTokens": 5, "temperature": 1, "topP": 0.5, "headers": {"x": "y"}},
            "config": {"modelName": "m", "apiKey": "sk-theirs", "baseUrl": "https://elsewhere.test"},
            "temperature": 0,
        }
    )
    assert request.messages[0] == Message("system", (Text("Be brief."),))
    assert request.tools == (Tool("weather", "Looks", {"type": "object"}), Tool("now"))
    assert request.params == {"max_tokens": 5, "temperature": 0, "top_p": 0.5}
    assert request.model == "m"
    assert "elsewhere" not in repr(request)


def test_tools_may_come_in_openais_form():
    listed = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert decode({"messages": [HI], "tools": listed}).tools == (Tool("f", None, {}),)


def test_fields_that_the_app_means_otherwise_are_its_own():
    request = decode(
        {"messages": [HI], "user": {"id": 1}, "metadata": "x", "config": 1, "callSettings": [], "stream_options": ""}
    )
    assert (request.user, request.metadata, request.params) == (None, {}, {})


def test_a_system_message_is_its_text():
    said = messages({"role": "system", "parts": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, HI)
    assert said[0] == Message("system", (Text("a"), Text("b")))


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"mediaType": "image/png", "url": "data:image/png;base64,AA"}, Image("data:image/png;base64,AA")),
        ({"mediaType": "image/png", "url": "https://a.test/x"}, Image("https://a.test/x")),
        ({"mediaType": "image/*", "url": "https://a.test/x"}, Image("https://a.test/x")),
        ({"mediaType": "audio/wav", "url": "data:audio/wav;base64,AA"}, Audio("AA", "wav")),
        ({"mediaType": "audio/mpeg", "url": "data:audio/mpeg;base64,AA"}, Audio("AA", "mp3")),
        ({"mediaType": "audio/ogg", "url": "https://a.test/x"}, File(url="https://a.test/x", media_type="audio/ogg")),
        (
            {"mediaType": "application/pdf", "url": "data:application/pdf;base64,AA", "filename": "a.pdf"},
            File(data="AA", name="a.pdf", media_type="application/pdf"),
        ),
        ({"mediaType": "text/plain", "url": "data:text/plain,a%20b"}, File(data="YSBi", media_type="text/plain")),
        ({"url": "data:text/csv;charset=utf-8;base64,AA"}, File(data="AA", media_type="text/csv")),
        ({"url": "https://a.test/x"}, File(url="https://a.test/x")),
    ],
)
def test_files_are_what_their_media_type_says(part, read):
    assert messages({"role": "user", "parts": [{"type": "file", **part}]}) == [Message("user", (read,))]


def test_what_a_model_is_not_to_see_is_left_out():
    parts = [
        {"type": "data-weather", "data": {}},
        {"type": "source-url", "sourceId": "1", "url": "https://a.test"},
        {"type": "source-document", "sourceId": "1", "mediaType": "a/b", "title": "x"},
        {"type": "something-of-next-year", "x": 1},
        {"type": "text", "text": "hi", "state": "done"},
    ]
    assert messages(assistant(*parts), HI)[0] == Message("assistant", (Text("hi"),))
    assert messages(assistant(*parts[:-1]), HI) == [Message("user", (Text("hi"),))]


def test_R6_a_file_that_the_model_made_is_kept():
    made = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA"}
    assert messages(assistant(made), HI)[0] == Message("assistant", (Image("data:image/png;base64,AA"),))


def test_R1_what_is_said_after_a_call_stays_behind_it():
    said = messages(HI, assistant(tool("output-available", output="r"), {"type": "text", "text": "so"}))
    assert [(one.role, one.text, len(one.tool_calls)) for one in said[1:]] == [
        ("assistant", "", 1),
        ("tool", "r", 0),
        ("assistant", "so", 0),
    ]


def test_R1_a_result_of_an_mcp_tool_shows_its_images():
    shown = {"content": [{"type": "text", "text": "x"}, {"type": "image", "data": "AA", "mimeType": "image/png"}]}
    *_, result = messages(HI, assistant(tool("output-available", output={**shown, "isError": True})))
    assert (result.parts, result.failed) == ((Text("x"), Image("data:image/png;base64,AA")), True)
    *_, result = messages(HI, assistant(tool("output-available", output={"content": [{"type": "text", "text": "x"}]})))
    assert json.loads(result.text) == {"content": [{"type": "text", "text": "x"}]}


@pytest.mark.parametrize("form", ["toolInvocations", "parts"])
def test_R6_calls_and_files_of_version_4_are_read(form: str):
    call = {"state": "result", "toolCallId": "c1", "toolName": "f", "args": {"a": 1}, "result": "R"}
    old = {
        "toolInvocations": {"content": "x", "toolInvocations": [call]},
        "parts": {"parts": [{"type": "text", "text": "x"}, {"type": "tool-invocation", "toolInvocation": call}]},
    }
    file = {"url": "data:image/png;base64,AA", "contentType": "image/png"}
    asked = {"role": "user", "content": "hi", "experimental_attachments": [file]}
    said = messages(asked, {"role": "assistant", **old[form]})
    assert said == [
        Message("user", (Text("hi"), Image("data:image/png;base64,AA"))),
        Message("assistant", (Text("x"),), tool_calls=(ToolCall("c1", "f", '{"a":1}'),)),
        Message("tool", (Text("R"),), tool_call_id="c1"),
    ]


def test_a_tool_and_its_outcome_are_a_call_and_a_result():
    call = ToolCall("c1", "weather", '{"city":"Oslo"}')
    said = messages(
        HI,
        assistant(
            {"type": "step-start"},
            {"type": "text", "text": "Let me see."},
            tool("output-available", output={"degrees": 7}),
            {"type": "step-start"},
            {"type": "text", "text": "7 degrees."},
        ),
    )
    assert said[1:] == [
        Message("assistant", (Text("Let me see."),), tool_calls=(call,)),
        Message("tool", (Text('{"degrees":7}'),), tool_call_id="c1"),
        Message("assistant", (Text("7 degrees."),)),
    ]


def test_calls_of_one_step_are_of_one_message():
    parts = [
        {"type": "dynamic-tool", "toolName": "a", "toolCallId": "1", "state": "output-available", "output": "x"},
        {"type": "dynamic-tool", "toolName": "b", "toolCallId": "2", "state": "output-available"},
    ]
    said = messages(HI, assistant(*parts))
    assert [call.name for call in said[1].tool_calls] == ["a", "b"]
    assert [(message.tool_call_id, message.text) for message in said[2:]] == [("1", "x"), ("2", "null")]


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (tool("output-error", errorText="No such city"), "No such city"),
        (tool("output-error"), "The tool failed."),
        (tool("output-denied", approval={"id": "1", "approved": False, "reason": "Not now"}), "Not now"),
        (tool("output-denied"), "The user did not allow this call."),
        (tool("approval-responded", approval={"id": "1", "approved": False}), "The user did not allow this call."),
    ],
)
def test_a_tool_that_did_not_work_says_so(part, text):
    assert messages(HI, assistant(part))[2] == Message("tool", (Text(text),), tool_call_id="c1", failed=True)


@pytest.mark.parametrize(
    "part",
    [
        tool("input-available"),
        tool("approval-requested", approval={"id": "1"}),
        tool("approval-responded", approval={"id": "1", "approved": True}),
        tool("output-available", output="half", preliminary=True),
        tool("next-year"),
        tool(None),
    ],
)
def test_R6_a_call_without_an_outcome_is_read_without_a_result(part):
    """It gets one that says "interrupted" when the request is translated."""
    said = messages(HI, assistant({"type": "text", "text": "a"}, part))
    assert [message.role for message in said] == ["user", "assistant"]
    assert [call.id for call in said[1].tool_calls] == [part["toolCallId"]]


def test_a_call_that_was_still_being_written_is_left_out():
    assert messages(HI, assistant(tool("input-streaming"))) == [Message("user", (Text("hi"),))]


@pytest.mark.parametrize(
    "fields", [{"input": '{"city":'}, {"input": None, "rawInput": '{"city":'}, {"rawInput": '{"city":'}]
)
def test_arguments_that_were_no_json_come_back_as_they_were(fields):
    part = {"type": "tool-weather", "toolCallId": "c1", "state": "output-error", "errorText": "x", **fields}
    assert messages(HI, assistant(part))[1].tool_calls[0].arguments == '{"city":'


def test_a_call_without_arguments_has_the_empty_object():
    part = {"type": "tool-now", "toolCallId": "c1", "state": "output-available", "output": 1}
    assert messages(HI, assistant(part))[1].tool_calls[0].arguments == "{}"


def test_reasoning_comes_back_with_its_seal():
    """What the writer writes, the client sends back, and it is what the upstream wants unchanged."""
    stream = AISDKWriter(id="r").feed(
        Batch([Start("", ""), ReasoningDelta("hm"), ReasoningSignature("seal"), TextDelta("a"), Finish()])
    )
    end = next(json.loads(line[6:]) for line in stream.decode().split("\n") if '"reasoning-end"' in line)
    part = {"type": "reasoning", "text": "hm", "providerMetadata": end["providerMetadata"], "state": "done"}
    said = messages(HI, assistant(part, {"type": "text", "text": "a"}))
    assert said[1] == Message("assistant", (Text("a"),), reasoning="hm", reasoning_signature="seal")


def test_a_seal_holds_for_its_own_reasoning_alone():
    thoughts = [
        {"type": "reasoning", "text": "one"},
        {"type": "reasoning", "text": "two", "providerMetadata": {"chatProxy": {"signature": "s"}}},
    ]
    said = messages(HI, assistant(*thoughts, {"type": "text", "text": "a"}))
    assert (said[1].reasoning, said[1].reasoning_signature) == ("two", "s")
    said = messages(HI, assistant(thoughts[0], {**thoughts[1], "providerMetadata": {"other": 1}}, tool("output-error")))
    assert (said[1].reasoning, said[1].reasoning_signature) == ("onetwo", None)


def test_a_text_without_any_is_no_part():
    """As an answer leaves that was stopped at once; some upstreams refuse such a part."""
    empty = {"type": "text", "text": ""}
    said = messages(
        {"role": "system", "parts": [empty]}, HI, assistant({"type": "step-start"}, empty), {**HI, "parts": [empty]}
    )
    assert said == [Message("user", (Text("hi"),)), Message("user")]


def test_messages_of_older_sdks_have_plain_text():
    assert messages({"role": "user", "content": "hi"}) == [Message("user", (Text("hi"),))]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].parts"),
        ({"messages": [{"parts": []}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "parts": []}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "parts": [{}]}]}, "messages[0].parts[0].type"),
        ({"messages": [{"role": "user", "parts": [{"type": "text"}]}]}, "messages[0].parts[0].text"),
        ({"messages": [{"role": "user", "parts": [{"type": "file"}]}]}, "messages[0].parts[0].url"),
        (
            {"messages": [{"role": "user", "parts": [{"type": "file", "url": "data:x"}]}]},
            "messages[0].parts[0].url",
        ),
        (
            {"messages": [assistant({"type": "tool-x", "state": "output-error"})]},
            "messages[0].parts[0].toolCallId",
        ),
        ({"messages": [HI], "model": 7}, "model"),
        ({"messages": [HI], "stream": "no"}, "stream"),
        ({"messages": [HI], "tools": 7}, "tools"),
        ({"messages": [HI], "tools": {"f": 7}}, "tools.f"),
        ({"prompt": 7}, "prompt"),
        (b"{", None),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body, place):
    with pytest.raises(BadRequest) as caught:
        decode(body)
    assert (caught.value.status, caught.value.param) == (400, place)
