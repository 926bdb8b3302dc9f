"""Custom tools, whose input is free text, for upstreams that know only functions: offered, called, answered."""

import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageCustomToolCall

from proxy.contracts.base import Head
from proxy.contracts.openai.frontend import FRONTEND
from proxy.errors import BadRequest, UpstreamMalformed
from proxy.events import Batch, Fault, Finish, Start, ToolCallDelta, ToolCallStart
from proxy.request import Answer, ToolCall
from tests.matrix.vendors import VENDORS, Asker

PATCH = '*** Begin Patch\n*** Add File: a.txt\n+„quoted“ \\ "text"\n*** End Patch'
GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: begin_patch"}}
APPLY_PATCH = {
    "type": "custom",
    "custom": {"name": "apply_patch", "description": "Edits files.", "format": GRAMMAR},
}
SHELL = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "custom", "custom": {"name": "apply_patch", "input": PATCH}}
TALK = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "done"},
]
HEAD = Head("1", "POST", "/v1/chat/completions", {}, {})
OTHERS = [name for name, (row, _, _) in VENDORS.items() if row["kind"] == "anthropic"]
ARGUMENTS = json.dumps({"input": PATCH})


def body(**more):
    return json.dumps({"model": "m", "messages": TALK, "tools": [SHELL, APPLY_PATCH], **more}).encode()


def writer():
    return FRONTEND.encoder(FRONTEND.decode(body(stream=True), HEAD), HEAD)


@pytest.mark.parametrize("vendor", OTHERS)
def test_it_is_offered_as_a_function_with_one_text(vendor):
    sent, notices = Asker.of(vendor).written("openai", body())
    shell, patch = sent["tools"]
    assert (shell["name"], patch["name"]) == ("shell", "apply_patch")
    assert patch["description"].startswith("Edits files.")
    assert "lark:\nstart: begin_patch" in patch["description"]
    assert [*patch["input_schema"]["properties"]] == ["input"]
    assert patch["input_schema"]["required"] == ["input"]
    assert notices == []


@pytest.mark.parametrize("vendor", OTHERS)
def test_its_earlier_call_and_result_cross(vendor):
    _, asked, told = Asker.of(vendor).written("openai", body())[0]["messages"]
    assert asked["content"][-1] == {"type": "tool_use", "id": "c1", "name": "apply_patch", "input": {"input": PATCH}}
    assert (told["content"][0]["tool_use_id"], told["content"][0]["content"]) == ("c1", "done")


@pytest.mark.parametrize("vendor", OTHERS)
def test_a_choice_of_it_is_a_choice_of_the_function(vendor):
    choice = {"type": "custom", "custom": {"name": "apply_patch"}}
    assert Asker.of(vendor).written("openai", body(tool_choice=choice))[0]["tool_choice"]["name"] == "apply_patch"
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [choice]}}
    sent, _ = Asker.of(vendor).written("openai", body(tool_choice=allowed))
    assert [tool["name"] for tool in sent["tools"]] == ["apply_patch"]
    with pytest.raises(BadRequest) as refused:
        Asker.of(vendor).written("openai", body(tool_choice={"type": "custom", "custom": {"name": "other"}}))
    assert refused.value.param == "tool_choice"


def test_the_same_dialect_gets_it_as_it_came():
    sent, _ = Asker.of("OpenAI").written("openai", body())
    assert (sent["tools"], sent["messages"]) == ([SHELL, APPLY_PATCH], TALK)


def test_a_whole_answer_has_a_custom_call():
    calls = (ToolCall("c2", "apply_patch", ARGUMENTS), ToolCall("c3", "shell", "{}"))
    reply = writer().whole(Answer(tool_calls=calls, finish_reason="tool_calls"))
    custom, function = ChatCompletion.model_validate_json(reply.body).choices[0].message.tool_calls
    assert isinstance(custom, ChatCompletionMessageCustomToolCall)
    assert (custom.id, custom.custom.name, custom.custom.input) == ("c2", "apply_patch", PATCH)
    assert (function.type, function.function.arguments) == ("function", "{}")


def streamed(*events):
    """The calls of a stream, as a client adds them up: OpenAI's SDK has types for the chunks around them alone."""
    one_writer = writer()
    written = b"".join([one_writer.feed(Batch([event])) for event in (Start("a", "m"), *events)]).decode()
    calls = {}
    for frame in written.split("\n\n"):
        data = frame.removeprefix("data: ")
        if not data or data == "[DONE]" or '"error"' in data:
            continue
        chunk = ChatCompletionChunk.construct(**json.loads(data))
        for choice in chunk.choices:
            for piece in choice.delta.tool_calls or []:
                one = piece.model_dump(exclude_none=True)
                known = calls.setdefault(one["index"], {"id": one.get("id"), "type": one.get("type"), "text": ""})
                part = one.get("custom") or one.get("function")
                known["name"] = known.get("name") or part.get("name")
                known["text"] += part.get("input") or part.get("arguments") or ""
    return [*calls.values()]


STARTED = (
    ToolCallStart(0, "c2", "apply_patch"),
    ToolCallStart(1, "c3", "shell"),
    *[ToolCallDelta(0, piece) for piece in (ARGUMENTS[:9], ARGUMENTS[9:30], ARGUMENTS[30:])],
    ToolCallDelta(1, "{}"),
)


def test_a_stream_has_a_custom_call():
    assert streamed(*STARTED, Finish("tool_calls")) == [
        {"id": "c2", "type": "custom", "name": "apply_patch", "text": PATCH},
        {"id": "c3", "type": "function", "name": "shell", "text": "{}"},
    ]


@pytest.mark.parametrize("end", [Finish("length"), Fault(UpstreamMalformed("cut"))])
def test_half_an_input_is_never_told(end):
    call, *_ = streamed(STARTED[0], ToolCallDelta(0, ARGUMENTS[:30]), end)
    assert call == {"id": "c2", "type": "custom", "name": "apply_patch", "text": ""}


def test_a_model_that_ignores_the_form_is_passed_on():
    (call,) = streamed(STARTED[0], ToolCallDelta(0, PATCH), Finish("tool_calls"))
    assert call["text"] == PATCH
