"""Inputs of AG-UI runs: what a conversation of either version of the protocol says to a model."""

import json

import pytest

from proxy.contracts.ag_ui.request import decode_request
from proxy.contracts.ag_ui.writer import AGUIWriter, Run
from proxy.errors import BadRequest
from proxy.events import Batch, Finish, ReasoningDelta, ReasoningSignature, Start, TextDelta
from proxy.request import Audio, File, Image, Message, Text, Tool, ToolCall

HI = {"id": "u1", "role": "user", "content": "hi"}
SAID = Message("user", (Text("hi"),))


def decode(body, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_request(raw, id="r1", **more)


def messages(*values):
    return list(decode({"messages": values}).messages)


def call(id, name="f", arguments="{}"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(id, content="x", **more):
    return {"id": f"t-{id}", "role": "tool", "toolCallId": id, "content": content, **more}


def test_what_an_http_agent_sends_is_read():
    request = decode(
        {
            "threadId": "t",
            "runId": "r",
            "parentRunId": "p",
            "protocolVersion": "1.0",
            "state": {"a": 1},
            "messages": [HI],
            "tools": [{"name": "f", "description": "d", "parameters": {"type": "object"}}, {"name": "g"}],
            "context": [],
            "forwardedProps": {"model": "m", "temperature": 0.5, "tool_choice": "auto", "user": "u", "metadata": {"b": 2}},
            "resume": [],
        },
        path="/agui",
        headers={"x-team": "a"},
    )  # fmt: skip
    assert request.messages == (SAID,)
    assert (request.id, request.contract, request.dialect, request.path) == ("r1", "ag-ui", "ag-ui", "/agui")
    assert (request.model, request.params) == ("m", {"temperature": 0.5, "tool_choice": "auto"})
    assert (request.user, request.metadata, request.headers) == ("u", {"b": 2}, {"x-team": "a"})
    assert request.tools == (Tool("f", "d", {"type": "object"}), Tool("g"))
    names = {"threadId": "t", "runId": "r", "parentRunId": "p", "protocolVersion": "1.0"}
    assert request.raw_body == {**names, "messages": [HI]}
    assert request.stream


def test_messages_alone_are_enough():
    assert decode({"messages": [HI], "forwardedProps": None, "state": None}).messages == (SAID,)
    assert decode({"messages": [HI], "forwardedProps": "x"}).params == {}


def test_instructions_keep_their_roles_and_names():
    said = messages({"id": "1", "role": "system", "content": "a"}, {"id": "2", "role": "developer", "content": "b"}, HI)
    assert said == [Message("system", (Text("a"),)), Message("developer", (Text("b"),)), SAID]
    assert messages({**HI, "name": "Ada"})[0].name == "Ada"


def test_the_applications_context_stands_after_its_instructions():
    context = [{"description": "The page", "value": "Cart"}, {"description": "User", "value": '{"name":"Ada"}'}]
    said = decode({"messages": [{"id": "1", "role": "system", "content": "a"}, HI], "context": context}).messages
    assert [message.role for message in said] == ["system", "system", "user"]
    assert said[1].text == 'Context from the application:\n\nThe page:\nCart\n\nUser:\n{"name":"Ada"}'
    assert decode({"messages": [HI], "context": context}).messages[0].role == "system"


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"type": "text", "text": "a"}, Text("a")),
        (
            {"type": "image", "source": {"type": "data", "value": "AA", "mimeType": "image/png"}},
            Image("data:image/png;base64,AA"),
        ),
        ({"type": "image", "source": {"type": "url", "value": "https://a.test/x"}}, Image("https://a.test/x")),
        (
            {"type": "image", "source": {"type": "file", "value": "file-1", "mimeType": "image/png"}},
            File(id="file-1", media_type="image/png"),
        ),
        ({"type": "audio", "source": {"type": "data", "value": "AA", "mimeType": "audio/mpeg"}}, Audio("AA", "mp3")),
        (
            {"type": "audio", "source": {"type": "url", "value": "https://a.test/x"}},
            File(url="https://a.test/x", media_type="audio/*"),
        ),
        (
            {"type": "video", "source": {"type": "data", "value": "AA", "mimeType": "video/mp4"}},
            File(data="AA", media_type="video/mp4"),
        ),
        (
            {
                "type": "document",
                "source": {"type": "data", "value": "AA", "mimeType": "application/pdf"},
                "metadata": {"filename": "a.pdf"},
            },
            File(data="AA", name="a.pdf", media_type="application/pdf"),
        ),
        ({"type": "document", "source": {"type": "url", "value": "https://a.test/x"}}, File(url="https://a.test/x")),
        ({"type": "binary", "mimeType": "image/png", "data": "AA"}, Image("data:image/png;base64,AA")),
        ({"type": "binary", "mimeType": "image/png", "url": "https://a.test/x"}, Image("https://a.test/x")),
        (
            {"type": "binary", "mimeType": "text/csv", "id": "file-1", "filename": "a.csv"},
            File(id="file-1", name="a.csv", media_type="text/csv"),
        ),
    ],
)
def test_parts_of_both_versions_are_read(part, read):
    assert messages({**HI, "content": [part]}) == [Message("user", (read,))]


def test_parts_of_unknown_kinds_are_dropped_as_the_protocol_says():
    parts = [
        {"type": "hologram", "x": 1},
        {"type": "image", "source": {"type": "quantum", "value": "x"}},
        {"type": "text", "text": "a"},
    ]
    assert messages({**HI, "content": parts}) == [Message("user", (Text("a"),))]


def test_calls_and_results_are_read():
    said = messages(
        HI, {"id": "a", "role": "assistant", "content": "Let me see.", "toolCalls": [call("1")]}, result("1")
    )
    assert said[1:] == [
        Message("assistant", (Text("Let me see."),), tool_calls=(ToolCall("1", "f", "{}"),)),
        Message("tool", (Text("x"),), tool_call_id="1"),
    ]


def test_a_tool_that_failed_says_so():
    calls = {"id": "a", "role": "assistant", "toolCalls": [call("1"), call("2")]}
    said = messages(HI, calls, result("1", "", error="No such city"), result("2", "It broke", error="E7"))
    assert said[2] == Message("tool", (Text("No such city"),), tool_call_id="1", failed=True)
    assert said[3] == Message("tool", (Text("It broke"),), tool_call_id="2", failed=True)


def test_a_result_may_have_parts():
    source = {"type": "url", "value": "https://a.test/x"}
    said = messages(
        {"id": "a", "role": "assistant", "toolCalls": [call("1")]},
        result("1", [{"type": "text", "text": "a"}, {"type": "image", "source": source}]),
    )
    assert said[1].parts == (Text("a"), Image("https://a.test/x"))


def test_a_text_without_any_is_no_part():
    """As an answer leaves that was stopped at once; some upstreams refuse such a part."""
    said = messages({**HI, "content": ""}, {**HI, "content": [{"type": "text", "text": ""}]})
    assert said == [Message("user"), Message("user")]


def test_R1_messages_are_read_as_they_stand():
    """Calls and results are paired when the request is translated, by one rule for all contracts."""
    said = messages(
        HI,
        {"id": "a", "role": "assistant", "content": "Hm", "toolCalls": [call("1"), call("2")]},
        result("2"),
        {"id": "b", "role": "assistant", "content": ""},
        HI,
    )
    assert [message.role for message in said] == ["user", "assistant", "tool", "user"]
    assert [one.id for one in said[1].tool_calls] == ["1", "2"]


def test_reasoning_comes_back_with_its_seal():
    """What the writer writes, the client sends back, and it is what the upstream wants unchanged."""
    stream = AGUIWriter(Run(thread_id="t", run_id="r", version="1.0"), message_id="m").feed(
        Batch([Start("", ""), ReasoningDelta("hm"), ReasoningSignature("seal"), TextDelta("a"), Finish()])
    )
    events = [json.loads(frame[6:]) for frame in stream.decode().split("\n\n") if frame]
    seal = next(event for event in events if event["type"] == "REASONING_ENCRYPTED_VALUE")
    thought = {"id": seal["entityId"], "role": "reasoning", "content": "hm", "encryptedValue": seal["encryptedValue"]}
    said = messages(HI, thought, {"id": "m", "role": "assistant", "content": "a"})
    assert said[1] == Message("assistant", (Text("a"),), reasoning="hm", reasoning_signature="seal")


def test_reasoning_belongs_to_the_message_after_it():
    thoughts = [{"id": "1", "role": "reasoning", "content": "one"}, {"id": "2", "role": "reasoning", "content": "two"}]
    said = messages(HI, *thoughts, {"id": "a", "role": "assistant", "content": "a"}, HI)
    assert said[1].reasoning == "onetwo"
    sealed = [thoughts[0], {**thoughts[1], "encryptedValue": "s"}]
    said = messages(HI, *sealed, {"id": "a", "role": "assistant", "content": "a"})
    assert (said[1].reasoning, said[1].reasoning_signature) == ("two", "s")
    said = messages(HI, *thoughts, HI, {"id": "a", "role": "assistant", "content": "a"})
    assert [message.reasoning for message in said] == [None, None, None], "nothing came of it"


def test_progress_is_no_part_of_the_conversation():
    assert messages(HI, {"id": "p", "role": "activity", "activityType": "plan", "content": {}}) == [SAID]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [HI], "threadId": 7}, "threadId"),
        ({"messages": [HI], "protocolVersion": 1.0}, "protocolVersion"),
        ({"messages": [{**HI, "role": "robot"}]}, "messages[0].role"),
        ({"messages": [{**HI, "content": 7}]}, "messages[0].content"),
        ({"messages": [{**HI, "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        (
            {"messages": [{**HI, "content": [{"type": "image", "source": {"type": "data", "value": "AA"}}]}]},
            "messages[0].content[0].source.mimeType",
        ),
        (
            {"messages": [{**HI, "content": [{"type": "binary", "mimeType": "a/b"}]}]},
            "messages[0].content[0].id",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].toolCallId"),
        (
            {"messages": [{"role": "assistant", "toolCalls": [{"id": "1"}]}]},
            "messages[0].toolCalls[0].function",
        ),
        ({"messages": [HI], "tools": [{}]}, "tools[0].name"),
        ({"messages": [HI], "context": [{"value": "x"}]}, "context[0].description"),
        ({"messages": [HI], "forwardedProps": {"model": 7}}, "forwardedProps.model"),
        ({"messages": [HI], "resume": [{"interruptId": "1"}]}, "resume"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body, place):
    with pytest.raises(BadRequest) as caught:
        decode(body)
    assert (caught.value.status, caught.value.param) == (400, place)
