"""Writing runs of AG-UI, and what clients of several versions make of them."""

import json

import pytest

from proxy.contracts.ag_ui.writer import AGUIWriter, Run
from proxy.errors import BrokenToolCall
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
from proxy.request import Usage
from proxy.wire.sse import PING
from tests.support.ui_events import CUT, EXAMPLES, carried
from tests.support.ui_readers import RunReader

VERSIONS = {
    None: (ReasoningDelta, ReasoningSignature),  # what the client is not told of
    "0.0.40": (ReasoningSignature,),
    "0.0.59": (),
    "1.0": (),
}


def written(events, version="1.0"):
    run = Run(thread_id="thread-1", run_id="run-1", version=version)
    return AGUIWriter(run, message_id="msg-1").feed(Batch(events))


def expected(events, version):
    """What is left of an answer for clients that are told less at the end."""
    *parts, end, usage = carried(events, without=VERSIONS[version])
    if version != "1.0":
        end, usage = ("stop" if isinstance(events[-1], Finish) else end), None
    return [*parts, end, usage]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("size", [1, 2, 7, 64, 0])
def test_the_client_reads_all_of_it_however_it_is_cut(name, size, version):
    stream = written(EXAMPLES[name], version).replace(b"\n\n", b"\n\n" + PING)  # a heartbeat wherever one may stand
    reader = RunReader(version).read(stream, size)
    assert list(carried(reader.events)) == expected(EXAMPLES[name], version)
    assert reader.ended
    assert not reader.unfinished


def test_nothing_follows_the_end_of_a_run():
    writer = AGUIWriter(Run(thread_id="t", run_id="r"), message_id="m")
    assert writer.feed(Batch(EXAMPLES["text"]))
    assert writer.feed(Batch([TextDelta("late")])) == b""


def test_R2_a_run_that_broke_off_never_finishes_nor_ends_a_call():
    reader = RunReader("1.0").read(written(EXAMPLES["cut"]))
    assert reader.types[-1] == "RUN_ERROR"
    assert not {"RUN_FINISHED", "TOOL_CALL_END"} & set(reader.types)
    assert reader.events[-1].error.code == "upstream_truncated"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("before", range(6))
def test_a_call_whose_arguments_are_no_json_is_never_ended(version, before):
    """A client would call the tool without them. What was said before the end is not lost over it."""
    writer = AGUIWriter(Run(thread_id="t", run_id="r", version=version), message_id="m")
    events = [Start("", ""), TextDelta("a"), ToolCallStart(0, "c", "f"), ToolCallDelta(0, '{"x":'), TextDelta("b")]
    stream = writer.feed(Batch(events[:before]))
    with pytest.raises(BrokenToolCall, match="'f'") as broken:
        writer.feed(Batch([*events[before:], Finish("length")]))
    assert not broken.value.trips
    assert "length" in broken.value.message  # else nobody knows what to change
    reader = RunReader(version).read(stream + writer.feed(Batch([Fault(broken.value)])))
    assert [type(event) for event in reader.events[-3:]] == [ToolCallDelta, TextDelta, Fault]
    assert "TOOL_CALL_END" not in reader.types


ASKED = [{"id": "1", "role": "user", "content": "hi"}]
SAID_THEN_CALLED = [
    Start("", ""),
    ReasoningDelta("hm"),
    TextDelta("a"),
    TextDelta("b\ud83d"),
    ToolCallStart(0, "c", "pay"),
]
ANSWER = {"id": "msg-1", "role": "assistant", "content": "ab\ufffd"}


def failed(events, version="1.0", messages=ASKED):
    run = Run(thread_id="t", run_id="r", version=version, messages=json.dumps(messages).encode() if messages else b"")
    return RunReader(version).read(AGUIWriter(run, message_id="msg-1").feed(Batch([*events, Fault(CUT)])))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("arguments", [["{}"], ['{"a":', "1}"], ['{"a":'], []])
def test_C3_a_failed_run_takes_its_calls_back_before_it_says_so(version, arguments):
    """Clients run a call of a run that has ended once its arguments are JSON, `TOOL_CALL_END` or not."""
    reader = failed([*SAID_THEN_CALLED, *[ToolCallDelta(0, piece) for piece in arguments]], version)
    thought = {"id": "msg-1-reasoning-1", "role": "reasoning", "content": "hm"}
    assert reader.messages == [*ASKED, *([thought] if version in ("1.0", "0.0.59") else []), ANSWER]
    assert reader.types[-2:] == ["MESSAGES_SNAPSHOT", "RUN_ERROR"]
    assert "TOOL_CALL_END" not in reader.types


def test_C3_a_failed_run_keeps_the_signature_of_its_reasoning():
    events = [Start("", ""), ReasoningDelta("hm"), ReasoningSignature("s"), ToolCallStart(0, "c", "pay")]
    assert failed(events).messages[1:] == [
        {"id": "msg-1-reasoning-1", "role": "reasoning", "content": "hm", "encryptedValue": "s"}
    ]


def test_C3_a_failed_run_of_nothing_but_calls_leaves_what_was_asked():
    assert failed([Start("", ""), ToolCallStart(0, "c", "pay"), ToolCallDelta(0, "{}")]).messages == ASKED


@pytest.mark.parametrize("events", [SAID_THEN_CALLED[:-1], [Start("", "")], []])
def test_C3_a_failed_run_without_calls_has_nothing_to_take_back(events):
    assert failed(events).messages is None


def test_C3_a_call_that_was_no_json_is_taken_back_too():
    run = Run(thread_id="t", run_id="r", messages=json.dumps(ASKED).encode())
    writer = AGUIWriter(run, message_id="msg-1")
    events = [*SAID_THEN_CALLED, ToolCallDelta(0, '{"a":')]
    with pytest.raises(BrokenToolCall) as broken:
        writer.feed(Batch([*events, Finish("length")]))
    assert RunReader().read(writer.feed(Batch([Fault(broken.value)]))).messages == [*ASKED, ANSWER]


def test_C3_a_run_that_ended_well_keeps_its_calls():
    assert b"SNAPSHOT" not in written([*SAID_THEN_CALLED, ToolCallDelta(0, "{}"), Finish("tool_calls")])


def test_U4_a_reason_that_nobody_knows_is_told_as_it_is():
    assert b'"finishReason":"out_of_ideas"' in written([TextDelta("a"), Finish("stop", upstream_reason="out_of_ideas")])


def test_a_message_and_its_calls_are_one_message():
    events = [Start("", ""), ToolCallStart(0, "c", "f"), TextDelta("after"), Finish("tool_calls")]
    frames = [json.loads(frame[6:]) for frame in written(events).decode().split("\n\n") if frame]
    assert {frame["messageId"] for frame in frames if "messageId" in frame} == {"msg-1"}
    assert {frame["parentMessageId"] for frame in frames if "parentMessageId" in frame} == {"msg-1"}


def test_nothing_empty_is_sent():
    events = [Start("", ""), TextDelta(""), ReasoningDelta(""), ToolCallStart(0, "c", "f"), ToolCallDelta(0, "")]
    types = RunReader("1.0").read(written([*events, Finish("tool_calls")])).types
    assert types == ["RUN_STARTED", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "RUN_FINISHED"]


def test_a_run_names_the_run_it_came_from():
    run = Run(thread_id="t", run_id="r", parent_run_id="p")
    first = AGUIWriter(run, message_id="m").feed(Batch([Start("", "")]))
    assert first == b'data: {"type":"RUN_STARTED","threadId":"t","runId":"r","parentRunId":"p"}\n\n'


@pytest.mark.parametrize(
    ("version", "told"),
    [("1.0", True), ("1.1", True), ("2.0", True), ("next", True), ("0.0.59", False), ("0.9", False), (None, False)],
)
def test_a_version_that_cannot_be_read_is_taken_for_a_newer_one(version, told):
    stream = written([Start("", "m"), Finish("stop", Usage(1, 2))], version)
    assert (b"outcome" in stream) is (b"usage" in stream) is (b'"protocolVersion":"1.0"' in stream) is told


def test_usage_of_a_failed_run_is_reported_as_well():
    stream = written([Start("", "m"), Fault(CUT, Usage(5, 6))])
    assert b'"usage":[{"model":"m","inputTokens":5,"outputTokens":6,"totalTokens":11}]' in stream


@pytest.mark.parametrize("text", ["\n\nevent: done\ndata: x", "\r", "[DONE]", "\u2028\x85\x00", '"\\', "\ufeff"])
def test_H01_no_text_and_no_name_can_make_a_frame(text):
    events = [Start(text, text), TextDelta(text), ToolCallStart(0, text, text), Finish("tool_calls")]
    stream = AGUIWriter(Run(thread_id=text, run_id=text, version=text), message_id="m").feed(Batch(events))
    assert list(carried(RunReader("1.0").read(stream).events)) == expected(events, "1.0")
    assert b"\r" not in stream
