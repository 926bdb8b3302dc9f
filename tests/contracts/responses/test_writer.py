"""Writing OpenAI Responses: golden bytes, what the official SDK's types say of them, and the way there and back."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from proxy.contracts.responses.objects import ResponseObject
from proxy.contracts.responses.request import decode_request
from proxy.contracts.responses.tools import read_tools
from proxy.contracts.responses.writer import ResponsesWriter
from proxy.errors import RateLimited, UpstreamFailed, UpstreamIdle, UpstreamRefused, UpstreamTruncated
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, Message, Text, ToolCall, Usage
from proxy.wire.custom_tools import custom_arguments
from tests.support.responses_reader import ResponsesReader, read_responses

GOLDEN = Path(__file__).parents[1] / "golden"
CUT = UpstreamTruncated("the answer was cut off")
SDK_EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
WIRE = {
    "model": "asked-for",
    "instructions": "Be brief.",
    "temperature": 0.5,
    "metadata": {"a": "b"},
    "reasoning": {"effort": "low"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "tools": [
        {"type": "function", "name": "weather", "parameters": {"type": "object"}},
        {"type": "custom", "name": "apply_patch", "description": "Change files."},
        {"type": "namespace", "name": "crm", "description": "Customers.", "tools": [{"type": "function", "name": "find"}]},
        {"type": "web_search"},
    ],
}  # fmt: skip

TRANSCRIPTS = {
    "responses-text": [
        Start("up-1", "m"),
        TextDelta("Hello"),
        TextDelta(" wörld 👩‍💻"),
        TextDelta("\n\n- data: x"),
        Finish("stop", Usage(3, 3, cached_tokens=2, reasoning_tokens=1)),
    ],
    "responses-tools": [
        Start("", "m"),
        ReasoningDelta("Two"),
        ReasoningDelta(" cities."),
        ReasoningSignature("c2VhbA=="),
        TextDelta("Let me see."),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallStart(1, "call_b", "weather"),
        ToolCallDelta(1, '{"city":"Rome"}'),
        ToolCallDelta(0, '"Oslo"}'),
        ToolCallStart(2, "call_c", "apply_patch"),
        ToolCallDelta(2, '{"input":"*** Begin'),
        ToolCallDelta(2, ' Patch\\n"}'),
        ToolCallStart(3, "call_d", "crm__find"),
        Finish("tool_calls"),
    ],
    "responses-rich": [
        Start("", "m"),
        TextDelta("See é"),
        Source("https://example.org/a", "A"),
        TextDelta(" and this"),
        Source("https://example.org/b"),
        RefusalDelta("I will not"),
        RefusalDelta(" draw it."),
        Media("image/png", "data:image/png;base64,iVBORw0KGgo="),
        Media("image/png", "https://example.org/c.png"),
        Finish("content_filter", Usage(1, 2)),
    ],
    "responses-cut-short": [
        Start("", "m"),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":"Oslo"}'),
        ToolCallStart(1, "call_b", "weather"),
        ToolCallDelta(1, '{"city":"Ro'),
        Finish("length"),
    ],
    "responses-broke-off": [
        Start("", "m"),
        ReasoningDelta("Hm."),
        TextDelta("Half"),
        Notice("x", "y"),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        TextDelta("More"),
        Fault(CUT, Usage(3, 2)),
    ],
}  # fmt: skip


def writer(wire=None, *, model="asked-for"):
    wire = WIRE if wire is None else wire
    tools = read_tools(wire)
    response = ResponseObject(wire, tools, id="resp_7", created=1793000000)
    return ResponsesWriter(response, tools, id="7", model=model, clock=lambda: 1793000002.5)


def sdk_reads(reader: ResponsesReader):
    """Every event passes the SDK's types, which the SDK itself never checks."""
    return [SDK_EVENT.validate_python(told) for told in reader.told]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_events_are_written_as_the_transcript_says(name):
    expected = (GOLDEN / f"{name}.sse").read_bytes()
    events = TRANSCRIPTS[name]
    assert writer().feed(Batch(events)) == expected
    one_by_one = writer()
    assert b"".join(one_by_one.feed(Batch([event])) for event in events) == expected


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_the_official_sdks_types_accept_every_event(name):
    stream = writer().feed(Batch(TRANSCRIPTS[name]))
    events = sdk_reads(read_responses(stream, size=7))
    last = [event.response for event in events if event.type.startswith("response.") and hasattr(event, "response")][-1]
    assert isinstance(last, Response)
    assert last.tools[0].name == "weather"


def test_a_text_answer_comes_in_the_order_of_the_contract():
    reader = read_responses(writer().feed(Batch(TRANSCRIPTS["responses-text"])))
    assert reader.types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_the_response_repeats_what_was_asked_and_only_the_tools_that_were_offered():
    response = read_responses(writer().feed(Batch(TRANSCRIPTS["responses-text"]))).response
    for name in ("instructions", "temperature", "metadata"):
        assert response[name] == WIRE[name]
    assert response["reasoning"] == {"effort": "low", "summary": None}
    assert response["text"] == WIRE["text"]
    assert (response["store"], response["model"]) == (False, "m")
    assert (response["created_at"], response["completed_at"]) == (1793000000, 1793000002)
    assert [tool["type"] for tool in response["tools"]] == ["function", "custom", "namespace"]


def test_calls_come_back_as_the_client_named_them():
    output = read_responses(writer().feed(Batch(TRANSCRIPTS["responses-tools"]))).response["output"]
    calls = [
        {name: item.get(name) for name in ("type", "name", "namespace", "arguments", "input")} for item in output[2:]
    ]
    assert calls == [
        {"type": "function_call", "name": "weather", "namespace": None, "arguments": '{"city":"Oslo"}', "input": None},
        {"type": "function_call", "name": "weather", "namespace": None, "arguments": '{"city":"Rome"}', "input": None},
        {"type": "custom_tool_call", "name": "apply_patch", "namespace": None, "arguments": None, "input": "*** Begin Patch\n"},
        {"type": "function_call", "name": "find", "namespace": "crm", "arguments": "{}", "input": None},
    ]  # fmt: skip


def test_R2_an_answer_that_broke_off_fails_and_nothing_open_is_called_done():
    reader = read_responses(writer().feed(Batch(TRANSCRIPTS["responses-broke-off"])))
    assert reader.types[-2:] == ["response.failed", "error"]
    done = [told["item"]["type"] for told in reader.told if told["type"] == "response.output_item.done"]
    assert done == ["reasoning", "message"]
    assert reader.response["error"] == {"code": "server_error", "message": "the answer was cut off"}
    texts = [item["content"][0]["text"] for item in reader.response["output"] if item["type"] == "message"]
    assert texts == ["Half", "More"]
    assert reader.response["output"][-1]["status"] == "incomplete"
    assert reader.response["usage"]["output_tokens"] == 2
    assert reader.response["completed_at"] is None


def test_a_call_that_was_cut_short_is_listed_but_never_done():
    reader = read_responses(writer().feed(Batch(TRANSCRIPTS["responses-cut-short"])))
    assert reader.response["incomplete_details"] == {"reason": "max_output_tokens"}
    done = [told["item"]["call_id"] for told in reader.told if told["type"] == "response.output_item.done"]
    assert done == ["call_a"]
    assert [item["status"] for item in reader.response["output"]] == ["completed", "incomplete"]


def test_a_fault_before_anything_else_is_still_a_stream_of_the_contract():
    reader = read_responses(writer().feed(Batch([Fault(CUT)])))
    assert reader.types == ["response.created", "response.in_progress", "response.failed", "error"]
    assert reader.response["model"] == "asked-for"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamTruncated("x"), "server_error"),
        (UpstreamIdle("x"), "server_error"),
        (UpstreamFailed("x", status=429, code="rate_limit_exceeded"), "rate_limit_exceeded"),
        (UpstreamFailed("x", status=429, code="insufficient_quota"), "insufficient_quota"),
        (RateLimited("x"), "rate_limit_exceeded"),
        (UpstreamRefused("x"), "invalid_prompt"),
        (UpstreamRefused("x", code="context_length_exceeded"), "context_length_exceeded"),
    ],
)
def test_a_failure_is_reported_in_codes_that_clients_act_on(error, code):
    response = read_responses(writer().feed(Batch([Start("", "m"), Fault(error)]))).response
    assert response["error"] == {"code": code, "message": "x"}


def test_usage_that_is_not_known_is_null_rather_than_zero():
    assert read_responses(writer().feed(Batch([Start("", "m"), Finish()]))).response["usage"] is None


def test_another_upstream_may_go_on_without_a_second_beginning():
    out = writer()
    stream = out.feed(Batch([Start("", "m"), TextDelta("One")]))
    stream += out.feed(Batch([Start("", "other"), TextDelta(" two"), Finish()]))
    reader = read_responses(stream)
    assert reader.response["model"] == "other"
    assert reader.response["output"][0]["content"][0]["text"] == "One two"


def test_a_call_that_takes_anothers_place_leaves_it_done():
    events = [Start("", "m"), ToolCallStart(0, "a", "f"), ToolCallDelta(0, "{}"), ToolCallStart(0, "b", "g"), Finish()]
    output = read_responses(writer().feed(Batch(events))).response["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("a", "{}"), ("b", "{}")]


def test_pieces_of_a_call_that_never_began_are_dropped():
    reader = read_responses(writer().feed(Batch([Start("", "m"), ToolCallDelta(5, "{}"), Finish()])))
    assert reader.response["output"] == []


@pytest.mark.parametrize(
    ("media", "output"),
    [
        (Media("image/webp", "data:image/webp;base64,QUJD"), ["image_generation_call"]),
        (Media("audio/wav", "data:audio/wav;base64,QUJD"), []),
        (Media("image/svg+xml", "data:image/svg+xml,<svg/>"), []),
        (Media("application/pdf", "https://example.org/a.pdf"), ["message"]),
    ],
)
def test_files_the_model_made_are_items_links_or_left_out(media, output):
    response = read_responses(writer().feed(Batch([Start("", "m"), media, Finish()]))).response
    assert [item["type"] for item in response["output"]] == output


@pytest.mark.parametrize(
    "text",
    ["\n\nevent: done\ndata: x", "\r", "data: [DONE]", "[DONE]", " ", "\u2028\u2029\x85\x1c", "\x00", '"\\', "\ufeff"],
)
def test_H01_H02_no_text_can_make_a_frame_and_all_of_it_arrives(text):
    stream = writer().feed(Batch([Start("", "m"), TextDelta(text), Finish()]))
    reader = ResponsesReader()
    assert TextDelta(text) in reader.feed(stream)
    assert reader.response["output"][0]["content"][0]["text"] == text
    assert b"\r" not in stream


def test_H03_names_and_ids_of_the_upstream_cannot_leave_their_string():
    evil = 'x"}]}\n\nevent: response.completed\ndata: "'
    stream = writer().feed(Batch([Start(evil, evil), ToolCallStart(0, evil, evil), Source(evil, evil), Finish()]))
    reader = read_responses(stream)
    assert reader.response["model"] == evil
    assert reader.response["output"][0]["call_id"] == reader.response["output"][0]["name"] == evil


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    stream = writer().feed(Batch([Start("", "m"), TextDelta("a\ud83d"), Finish()]))
    assert read_responses(stream).response["output"][0]["content"][0]["text"] == "a\ufffd"


TEXTS = st.text(min_size=1)
CONTENT = (
    st.builds(TextDelta, TEXTS)
    | st.builds(ReasoningDelta, TEXTS)
    | st.builds(ReasoningSignature, TEXTS)
    | st.builds(RefusalDelta, TEXTS)
    | st.builds(Source, TEXTS, st.text())
    | st.builds(Media, st.just("image/png"), st.just("data:image/png;base64,QUJD"))
)
CALL_PIECES = st.tuples(st.integers(0, 2), TEXTS)  # which call, and a piece of its arguments
USAGE = st.none() | st.builds(Usage, *[st.integers(0, 10**9)] * 4)


@st.composite
def answers(draw):
    """Any answer the contract can carry, calls interleaved with each other and with everything else."""
    events, calls = [Start("", draw(TEXTS))], {}
    for one in draw(st.lists(CONTENT | CALL_PIECES, max_size=14)):
        if not isinstance(one, tuple):
            events.append(one)
            continue
        name, piece = one
        if name in calls:
            events.append(ToolCallDelta(calls[name], piece))
        else:
            calls[name] = len(calls)
            events.append(ToolCallStart(calls[name], f"call_{piece}_{name}", piece))
    reasons = ["length", "content_filter", "tool_calls" if calls else "stop"]
    return [*events, Finish(draw(st.sampled_from(reasons)), draw(USAGE))]


@given(answers(), st.integers(1, 60))
def test_what_is_written_is_read_as_the_same_events(events, size):
    stream = writer({}).feed(Batch(events))
    reader = ResponsesReader()
    assert [event for at in range(0, len(stream), size) for event in reader.feed(stream[at : at + size])] == events
    assert reader.ended


@given(answers(), st.data())
def test_where_batches_are_cut_changes_nothing(events, data):
    cut = data.draw(st.integers(0, len(events)))
    halves = writer()
    assert halves.feed(Batch(events[:cut])) + halves.feed(Batch(events[cut:])) == writer().feed(Batch(events))


@given(answers(), st.data())
def test_wherever_it_breaks_off_the_stream_ends_as_failed(events, data):
    cut = data.draw(st.integers(0, len(events) - 1))
    reader = ResponsesReader()
    read = reader.feed(writer({}).feed(Batch([*events[:cut], Fault(CUT)])))
    assert read[max(cut, 1) :][0].error.message == "the answer was cut off"
    assert reader.types[-2:] == ["response.failed", "error"]


# whole answers


@given(answers())
def test_a_whole_answer_says_what_its_stream_would_have_ended_with(events):
    collector = Collector()
    collector.add(Batch(events))
    whole = msgspec.json.decode(writer({}).whole(collector.answer()).body)
    streamed = read_responses(writer({}).feed(Batch(events))).response
    assert output_text(whole) == output_text(streamed)
    for name in ("status", "incomplete_details", "usage", "model", "created_at", "completed_at", "tools"):
        assert whole[name] == streamed[name]
    calls = [
        [item["call_id"] for item in one["output"] if item["type"] == "function_call"] for one in (whole, streamed)
    ]
    assert calls[0] == calls[1]


def output_text(response):
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


def test_a_whole_answer_is_read_by_the_official_sdk():
    answer = Answer(
        id="up-1", model="m", text="hi", reasoning="hm", reasoning_signature="seal", sources=(("https://a", "A"),),
        media=(("image/png", "data:image/png;base64,QUJD"),), tool_calls=(ToolCall("c", "apply_patch", '{"input":"p"}'),),
        finish_reason="tool_calls", usage=Usage(3, 4, 1, 2),
    )  # fmt: skip
    response = Response.model_validate_json(writer().whole(answer).body)
    assert (response.id, response.model, response.status, response.output_text) == ("resp_7", "m", "completed", "hi")
    reasoning, message, image, call = response.output
    assert (reasoning.summary[0].text, reasoning.encrypted_content) == ("hm", "chat-proxy:seal")
    assert message.content[0].annotations[0].url == "https://a"
    assert image.result == "QUJD"
    assert (call.type, call.input) == ("custom_tool_call", "p")
    assert response.usage.total_tokens == 7


def test_a_whole_answer_that_was_cut_short_says_so():
    response = Response.model_validate_json(writer().whole(Answer(text="hi", finish_reason="length")).body)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output[0].status == "incomplete"


# an answer comes back as the next request's input

ARGUMENTS = st.dictionaries(TEXTS, TEXTS, max_size=2).map(lambda value: msgspec.json.encode(value).decode())
TOOL_CALLS = st.lists(
    st.builds(ToolCall, TEXTS, st.just("weather") | st.just("crm__find"), ARGUMENTS)
    | st.builds(ToolCall, TEXTS, st.just("apply_patch"), st.text().map(custom_arguments)),
    max_size=3,
)


@given(TEXTS, st.text(), st.text(), TOOL_CALLS)
def test_a_client_that_sends_an_answer_back_says_what_the_model_said(text, reasoning, signature, calls):
    answer = Answer(text=text, reasoning=reasoning, reasoning_signature=signature, tool_calls=tuple(calls))
    output = msgspec.json.decode(writer().whole(answer).body)["output"]
    results = [{"type": "function_call_output", "call_id": call.id, "output": "done"} for call in calls]
    body = {"tools": WIRE["tools"], "input": [{"role": "user", "content": "hi"}, *output, *results]}
    said = decode_request(msgspec.json.encode(body), id="r1").messages
    assert said[1] == Message(
        "assistant",
        (Text(text),),
        tuple(calls),
        reasoning=reasoning or None,
        reasoning_signature=signature or None,
    )
    assert [message.tool_call_id for message in said[2:]] == [call.id for call in calls]
