"""Writing UI message streams: what the SDK's own reader makes of them, and whole messages."""

import json

import pytest

from proxy.contracts.ai_sdk.writer import PING, AISDKWriter, failure, whole_message
from proxy.errors import UpstreamFailed
from proxy.events import (
    Batch,
    Fault,
    Finish,
    ReasoningDelta,
    ReasoningSignature,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, ToolCall, Usage
from tests.support.ui_events import CUT, EXAMPLES, carried
from tests.support.ui_readers import UiMessageReader


def written(events, *, usage=True):
    return AISDKWriter(id="req-1", usage=usage).feed(Batch(events))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("size", [1, 2, 7, 64, 0])
def test_the_client_reads_all_of_it_however_it_is_cut(name, size):
    stream = written(EXAMPLES[name]).replace(b"\n\n", b"\n\n" + PING)  # a heartbeat wherever one may stand
    reader = UiMessageReader().read(stream, size)
    assert carried(reader.events) == carried(EXAMPLES[name])
    assert reader.ended
    assert not reader.unfinished


def test_nothing_follows_the_end_of_a_message():
    writer = AISDKWriter(id="req-1")
    assert writer.feed(Batch(EXAMPLES["text"]))
    assert writer.feed(Batch([TextDelta("late")])) == b""


def test_R2_a_stream_that_broke_off_never_ends_in_done_nor_finishes_a_call():
    reader = UiMessageReader().read(written(EXAMPLES["cut"]))
    assert reader.types[-1] == "error"
    assert not {"finish", "finish-step", "tool-input-available", "tool-input-error"} & set(reader.types)


@pytest.mark.parametrize("arguments", ['{"x":', "nonsense", '{"x":1}}', "NaN", '"\\ud800"'])
def test_arguments_that_are_no_json_are_an_error_of_their_call(arguments):
    stream = written([Start("", ""), ToolCallStart(0, "c", "f"), ToolCallDelta(0, arguments), Finish("length")])
    told = next(json.loads(line[6:]) for line in stream.decode().split("\n") if "tool-input-error" in line)
    assert told["input"] == arguments
    assert (told["toolCallId"], told["toolName"]) == ("c", "f")
    assert b"tool-input-available" not in stream


def test_arguments_are_passed_on_as_the_model_wrote_them():
    """A 64-bit number would lose digits on the way through a float."""
    arguments = '{"id": 12345678901234567890, "a": 1.50}'
    stream = written([Start("", ""), ToolCallStart(0, "c", "f"), ToolCallDelta(0, arguments), Finish("tool_calls")])
    assert b'"input":' + arguments.encode() + b"}" in stream


def test_a_seal_holds_for_the_reasoning_before_it():
    events = [Start("", ""), ReasoningDelta("a"), ReasoningSignature("s"), ReasoningDelta("b"), Finish()]
    reader = UiMessageReader().read(written(events))
    assert reader.events[1:4] == [ReasoningDelta("a"), ReasoningSignature("s"), ReasoningDelta("b")]
    assert reader.types.count("reasoning-start") == 2


def test_usage_is_reported_only_where_it_was_asked_for():
    assert b"messageMetadata" not in written(EXAMPLES["text"], usage=False)
    assert b'"messageMetadata":{"model":"m","usage":{' in written(EXAMPLES["text"])
    assert b"usage" not in written([Start("", "m"), Finish()])


def test_another_upstream_goes_on_without_a_second_beginning():
    stream = written([Start("", "one"), TextDelta("a"), Start("", "two"), TextDelta("b"), Finish("stop", Usage(1, 1))])
    assert stream.count(b'"type":"start"') == 1
    assert b'"model":"two"' in stream


def test_a_call_without_an_id_gets_one_of_its_own():
    stream = written([Start("", ""), ToolCallStart(0, "", "f"), ToolCallStart(1, "", "f"), Finish("tool_calls")])
    ids = {json.loads(line[6:])["toolCallId"] for line in stream.decode().split("\n") if "toolCallId" in line}
    assert len(ids) == 2
    assert all(ids)


@pytest.mark.parametrize("text", ["\n\nevent: done\ndata: x", "\r", "[DONE]", "\u2028\x85\x00", '"\\', "\ufeff"])
def test_H01_no_text_and_no_name_can_make_a_frame(text):
    events = [Start(text, text), TextDelta(text), ToolCallStart(0, text, text), Finish("tool_calls")]
    stream = written(events, usage=False)
    assert carried(UiMessageReader().read(stream).events) == carried([*events[:-1], Finish("tool_calls")])
    assert b"\r" not in stream


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert "a\ufffd".encode() in written([Start("", ""), TextDelta("a\ud83d"), Finish()])


def test_U4_a_reason_that_nobody_knows_is_not_told_as_stop():
    events = [Start("", "m"), TextDelta("a"), Finish("stop", upstream_reason="out_of_ideas")]
    assert b'"finishReason":"other"' in written(events)
    answer = Answer(text="a", upstream_reason="out_of_ideas")
    assert json.loads(whole_message(answer, id="r"))["metadata"]["finishReason"] == "other"


def test_a_whole_answer_is_one_ui_message():
    answer = Answer(
        model="m",
        text="hi",
        reasoning="hm",
        reasoning_signature="seal",
        sources=(("https://a.test", "A"), ("https://b.test", "")),
        media=(("image/png", "data:image/png;base64,AA"),),
        tool_calls=(ToolCall("c", "f", '{"a": 1}'), ToolCall("d", "g", '{"a":'), ToolCall("e", "h", "")),
        finish_reason="tool_calls",
        usage=Usage(1, 2),
    )
    assert json.loads(whole_message(answer, id="req-1")) == {
        "id": "req-1",
        "role": "assistant",
        "metadata": {
            "finishReason": "tool-calls",
            "model": "m",
            "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
        },
        "parts": [
            {"type": "step-start"},
            {
                "type": "reasoning",
                "text": "hm",
                "state": "done",
                "providerMetadata": {"chatProxy": {"signature": "seal"}},
            },
            {"type": "text", "text": "hi", "state": "done"},
            {"type": "source-url", "sourceId": "req-1-1", "url": "https://a.test", "title": "A"},
            {"type": "source-url", "sourceId": "req-1-2", "url": "https://b.test"},
            {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA"},
            {"type": "tool-f", "toolCallId": "c", "state": "input-available", "input": {"a": 1}},
            {
                "type": "tool-g",
                "toolCallId": "d",
                "state": "output-error",
                "rawInput": '{"a":',
                "errorText": "The model wrote arguments that are no JSON.",
            },
            {"type": "tool-h", "toolCallId": "e", "state": "input-available", "input": {}},
        ],
    }


def test_an_error_before_the_stream_is_a_sentence():
    assert failure(UpstreamFailed("slow\ndown", status=429)).body == b"slow down"


@pytest.mark.parametrize("pieces", [["{}"], ['{"a":', "1}"], ['{"a":'], []])
def test_C3_an_answer_that_fails_makes_no_call_available(pieces):
    """The client runs a tool at `tool-input-available`; until then its part is one that is still streaming."""
    calls = [ToolCallStart(0, "c", "pay"), *[ToolCallDelta(0, piece) for piece in pieces]]
    reader = UiMessageReader().read(written([Start("", ""), TextDelta("a"), *calls, Fault(CUT)]))
    assert reader.types[-1] == "error"
    assert not {"tool-input-available", "tool-input-error", "finish"} & set(reader.types)
