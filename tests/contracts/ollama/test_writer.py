"""Writing Ollama's answers: golden bytes, the round trip through a reader, and what no line may do."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama import ChatResponse, GenerateResponse

from proxy.contracts.ollama.writer import CHAT, GENERATE, OllamaWriter, error_body
from proxy.errors import BrokenToolCall, NoRoute, UntoldAnswer, UpstreamTruncated
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
from proxy.request import Answer, ChatRequest, Message, Text, ToolCall, Usage
from tests.support.ollama_reader import read

GOLDEN = Path(__file__).parents[1] / "golden"
CUT = UpstreamTruncated("the answer was cut off")
MS = 1_000_000
TEN_O_CLOCK = 1_795_255_200 * 10**9  # 2026-11-21T10:00:00Z

ASKED = ChatRequest(
    id="7",
    contract="ollama",
    dialect="ollama",
    messages=(Message("user", (Text("How many?"),)),),
    model="asked-for",
)

TRANSCRIPTS = {
    "ollama-text": [
        Start("up-1", "m"),
        TextDelta("Hello"),
        TextDelta(" wörld 👩‍💻"),
        TextDelta('\n\n{"done":true}'),
        TextDelta("\u2028\u2029\x85\r"),
        Finish("stop", Usage(3, 4)),
    ],
    "ollama-length": [Start("", ""), TextDelta(" hi"), RefusalDelta(" no"), Finish("length", None)],
    "ollama-thinking": [
        Start("", "m"),
        ReasoningDelta("Hm,"),
        ReasoningSignature("sealed"),
        ReasoningDelta(" well."),
        TextDelta("So be it."),
        Finish("stop", Usage(9, 12, reasoning_tokens=5)),
    ],
    "ollama-tools": [
        Start("", "m"),
        TextDelta("Looking."),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallDelta(0, '{"city":'),
        ToolCallStart(1, "call_b", "time"),
        ToolCallDelta(0, '"Os\u2028lo"}'),
        ToolCallDelta(1, '{\n  "zone": 1\r\n}'),
        ToolCallStart(2, "", "now"),
        Finish("tool_calls", Usage(3, 9)),
    ],
    "ollama-broke-off": [Start("", "m"), TextDelta("Half"), Notice("x", "y"), Fault(CUT)],
}


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self):
        self.now = 5_000 * MS

    def __call__(self):
        return self.now


def writer(form=CHAT, *, clock=None):
    return OllamaWriter(form, ASKED, now_ns=TEN_O_CLOCK, clock=clock or Clock())


def written(events, form=CHAT):
    """The events in one batch each, 100 ms after one another."""
    clock = Clock()
    out = writer(form, clock=clock)
    stream = []
    for event in events:
        clock.now += 100 * MS
        stream.append(out.feed(Batch([event])))
    return b"".join(stream)


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_events_are_written_as_the_transcript_says(name):
    assert written(TRANSCRIPTS[name]) == (GOLDEN / f"{name}.ndjson").read_bytes()


@pytest.mark.parametrize("name", ["ollama-text", "ollama-thinking", "ollama-broke-off"])
def test_generate_writes_the_same_in_its_own_words(name):
    stream = written(TRANSCRIPTS[name], GENERATE)
    assert stream == (GOLDEN / f"{name}-generate.ndjson").read_bytes()
    chat, generated = read(written(TRANSCRIPTS[name])), read(stream, generate=True)
    assert (generated.text, generated.thinking) == (chat.text, chat.thinking)


def test_what_one_read_brought_bears_one_time_and_the_model_that_answers():
    lines = read(writer().feed(Batch(TRANSCRIPTS["ollama-text"]))).lines
    assert len(lines) == 5
    assert {line["created_at"] for line in lines} == {"2026-11-21T10:00:00.000000Z"}
    assert {line["model"] for line in lines} == {"m"}


def test_a_upstream_that_goes_on_with_the_answer_is_named_from_then_on():
    out = writer()
    stream = out.feed(Batch([TextDelta("a"), Start("", "m"), TextDelta("b")]))
    stream += out.feed(Batch([Start("", "n"), TextDelta("c"), Finish()]))
    assert [line["model"] for line in read(stream).lines] == ["asked-for", "m", "n", "n"]


def test_times_go_on_over_a_second_and_are_measured_on_the_clock():
    clock = Clock()
    out = writer(clock=clock)
    clock.now += 250 * MS
    stream = out.feed(Batch([Start("", "m")]))
    clock.now += 1750 * MS
    stream += out.feed(Batch([TextDelta("a")]))
    clock.now += 58_000 * MS + 1
    stream += out.feed(Batch([TextDelta("b"), Finish("stop", Usage(11, 7))]))
    told = read(stream)
    assert [line["created_at"] for line in told.lines] == [
        "2026-11-21T10:00:02.000000Z",
        "2026-11-21T10:01:00.000000Z",
        "2026-11-21T10:01:00.000000Z",
    ]
    assert told.done is not None
    assert told.done["total_duration"] == 60_000 * MS + 1
    assert told.done["load_duration"] == 0
    assert told.done["prompt_eval_duration"] == 2_000 * MS
    assert told.done["eval_duration"] == 58_000 * MS + 1
    assert (told.done["prompt_eval_count"], told.done["eval_count"]) == (11, 7)


def test_counts_that_nobody_tells_are_estimated_and_no_time_is_zero_that_tokens_are_divided_by():
    told = read(writer().feed(Batch([Start("", "m"), ReasoningDelta("a"), TextDelta("b"), TextDelta("c"), Finish()])))
    assert told.done is not None
    assert (told.done["prompt_eval_count"], told.done["eval_count"]) == (3, 3)
    assert told.done["eval_duration"] == 1


@pytest.mark.parametrize("form", [CHAT, GENERATE])
def test_a_heartbeat_is_a_line_without_text(form):
    out = writer(form)
    stream = out.feed(Batch([Start("", "m"), TextDelta("a")])) + out.ping()
    stream += out.feed(Batch([TextDelta("b"), Finish()]))
    told = read(stream, generate=form is GENERATE)
    assert told.text == "ab"
    assert len(told.lines) == 4
    assert told.lines[1]["done"] is False


def test_while_calls_are_gathered_there_is_a_sign_of_life_every_ten_seconds():
    clock = Clock()
    out = writer(clock=clock)
    out.feed(Batch([Start("", "m"), ToolCallStart(0, "c", "f")]))
    signs = []
    for _ in range(50):
        clock.now += 1000 * MS
        signs.append(out.feed(Batch([ToolCallDelta(0, " ")])))
    assert [len(read(sign).lines) for sign in signs if sign] == [1] * 4


def test_R2_a_stream_that_broke_off_is_never_done():
    told = read(written(TRANSCRIPTS["ollama-broke-off"]))
    assert (told.text, told.error, told.done) == ("Half", "the answer was cut off", None)


@pytest.mark.parametrize(
    "text",
    ["\n\nevent: done\ndata: x", "\r", '"}}\n{"done":true}', " ", "\u2028\u2029\x85\x1c\v\f", "\x00", '"\\', "\ufeff", "[DONE]"],
)  # fmt: skip
def test_H01_H02_no_text_can_make_a_line_and_all_of_it_arrives(text):
    events = [Start("", "m"), ReasoningDelta(text), TextDelta(text), Finish()]
    for form in (CHAT, GENERATE):
        told = read(writer(form).feed(Batch(events)), generate=form is GENERATE)
        assert (told.thinking, told.text, len(told.lines)) == (text, text, 3)


def test_H03_names_and_ids_of_the_upstream_cannot_leave_their_string():
    evil = 'x"}]}\n\x85{"done":true}'
    told = read(writer().feed(Batch([Start(evil, evil), ToolCallStart(0, evil, evil), Finish()])))
    assert told.lines[0]["model"] == evil
    assert told.calls == [{"id": evil, "function": {"index": 0, "name": evil, "arguments": {}}}]


def test_half_a_surrogate_pair_becomes_a_replacement_character():
    assert read(writer().feed(Batch([TextDelta("a\ud83d")]))).text == "a\ufffd"


def test_an_error_says_what_happened_or_at_least_its_code():
    assert json.loads(error_body(NoRoute('no "x"\u2028'))) == {"error": 'no "x"\u2028'}
    assert json.loads(error_body(NoRoute(""))) == {"error": "model_not_found"}


# -- tool calls


@pytest.mark.parametrize(
    "arguments", ['{"city":"Os', "[1]", '"x"', "null", "{'a': 1}", '{"a": NaN}', "{} {}", "{" * 10_000]
)
def test_a_call_that_is_no_json_object_is_an_error_after_all_that_was_said(arguments):
    out = writer()
    said = out.feed(Batch([Start("", "m"), TextDelta("One"), ToolCallStart(0, "c", "f")]))
    said += out.feed(Batch([ToolCallDelta(0, arguments)]))
    with pytest.raises(BrokenToolCall, match="'f'") as broken:
        out.feed(Batch([TextDelta(" two"), Finish("tool_calls")]))
    assert not broken.value.trips
    told = read(said + out.feed(Batch([Fault(broken.value)])))
    assert (told.text, told.calls, told.done) == ("One two", [], None)
    assert told.error == broken.value.message
    with pytest.raises(BrokenToolCall):
        writer().whole(Answer(tool_calls=(ToolCall("c", "f", arguments),), finish_reason="tool_calls"))


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_B01_a_call_that_was_cut_short_is_left_out_and_those_before_it_are_not(reason):
    calls = [ToolCallStart(0, "a", "f"), ToolCallDelta(0, "{}"), ToolCallStart(1, "b", "g"), ToolCallDelta(1, '{"x":')]
    told = read(writer().feed(Batch([Start("", "m"), *calls, Finish(reason)])))
    assert [call["id"] for call in told.calls] == ["a"]
    assert told.done is not None
    assert told.done["done_reason"] == reason


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (Finish("tool_calls"), "stop"),
        (Finish("content_filter"), "content_filter"),
        (Finish("stop", upstream_reason="out_of_ideas"), "out_of_ideas"),
    ],
)
def test_U4_only_an_answer_that_ended_by_itself_is_told_as_stop(end, told):
    events = Batch([Start("", "m"), TextDelta("a"), end])
    done = read(writer().feed(events)).done
    collector = Collector()
    collector.add(events)
    assert (done or {})["done_reason"] == told
    assert json.loads(writer().whole(collector.answer()).body)["done_reason"] == told


def test_arguments_stay_as_the_model_wrote_them_but_for_line_ends():
    stream = writer().feed(
        Batch(
            [
                ToolCallStart(0, "a", "f"),
                ToolCallDelta(0, '{"big": 123456789012345678901234567890,\n "x": 1.0}'),
                Finish(),
            ]
        )
    )
    assert b'"arguments":{"big": 123456789012345678901234567890,  "x": 1.0}' in stream


def test_generate_has_no_place_for_calls():
    told = read(
        writer(GENERATE).feed(Batch([ToolCallStart(0, "a", "f"), TextDelta("x"), Finish("stop")])), generate=True
    )
    assert (told.text, told.calls) == ("x", [])


# -- whole answers


def test_a_whole_answer_says_all_at_once():
    clock = Clock()
    out = writer(clock=clock)
    clock.now += 3 * MS
    answer = Answer(
        model="m", text="hi", refusal=" no", reasoning="hm", finish_reason="tool_calls", usage=Usage(3, 4),
        tool_calls=(ToolCall("c", "f", '{"a":1}'), ToolCall("", "g", "")),
    )  # fmt: skip
    assert json.loads(out.whole(answer).body) == {
        "model": "m",
        "created_at": "2026-11-21T10:00:00.003000Z",
        "message": {
            "role": "assistant",
            "content": "hi no",
            "thinking": "hm",
            "tool_calls": [
                {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}},
                {"function": {"index": 1, "name": "g", "arguments": {}}},
            ],
        },
        "done": True,
        "done_reason": "stop",
        "total_duration": 3 * MS,
        "load_duration": 0,
        "prompt_eval_count": 3,
        "prompt_eval_duration": 0,
        "eval_count": 4,
        "eval_duration": 3 * MS,
    }


def test_whole_answers_and_lines_are_what_the_official_client_takes():
    answer = Answer(text="x" * 9, reasoning="hm", tool_calls=(ToolCall("c", "f", "{}"),))
    told = ChatResponse.model_validate_json(writer().whole(answer).body)
    assert told.message.tool_calls is not None
    assert (told.model, told.message.tool_calls[0].function.name, told.eval_count) == ("asked-for", "f", 3)
    generated = GenerateResponse.model_validate_json(writer(GENERATE).whole(answer).body)
    assert (generated.response, generated.thinking, generated.done) == ("x" * 9, "hm", True)
    for events in TRANSCRIPTS.values():
        for line in read(written(events)).lines:
            assert "error" in line or ChatResponse.model_validate(line).message.role == "assistant"


@pytest.mark.parametrize(
    ("form", "said"), [(CHAT, {"message": {"role": "assistant", "content": ""}}), (GENERATE, {"response": ""})]
)
def test_a_model_that_was_only_to_be_loaded_is(form, said):
    assert json.loads(writer(form).loaded("load")) == {
        "model": "asked-for", "created_at": "2026-11-21T10:00:00.000000Z", **said, "done": True, "done_reason": "load",
    }  # fmt: skip


# -- there and back


TEXTS = st.text(min_size=1)
CONTENT = st.lists(
    st.builds(TextDelta, TEXTS)
    | st.builds(ReasoningDelta, TEXTS)
    | st.builds(RefusalDelta, TEXTS)
    | st.builds(Source, TEXTS, TEXTS)
    | st.builds(Media, TEXTS, TEXTS)
    | st.builds(Notice, TEXTS, TEXTS),
    max_size=8,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.text(), VALUES, max_size=3)
CALLS = st.lists(st.tuples(TEXTS, TEXTS, ARGUMENTS, st.integers(1, 9), st.sampled_from([None, 2])), max_size=3)
REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
USAGE = st.none() | st.builds(Usage, *[st.integers(0, 10**9)] * 4)


@given(CONTENT, CALLS, REASONS, USAGE, st.integers(1, 40), st.booleans())
def test_what_is_written_is_read_as_the_same_answer(content, calls, reason, usage, size, generate):
    events = [Start("", "m"), *content]
    for index, (id_, name, arguments, step, indent) in enumerate(() if generate else calls):
        text = json.dumps(arguments, ensure_ascii=False, indent=indent)
        events.append(ToolCallStart(index, id_, name))
        events += [ToolCallDelta(index, text[at : at + step]) for at in range(0, len(text), step)]
    only_media = any(isinstance(event, Media) for event in content) and not any(
        isinstance(event, TextDelta | RefusalDelta | ToolCallStart) for event in events
    )
    out, last = writer(GENERATE if generate else CHAT), Batch([*events, Finish(reason, usage)])
    if only_media:
        with pytest.raises(UntoldAnswer):
            out.feed(last)
        return
    stream = out.feed(last)
    told = read(stream, generate=generate, size=size)
    assert told.texts == [event.text for event in content if isinstance(event, TextDelta | RefusalDelta)]
    assert told.thoughts == [event.text for event in content if isinstance(event, ReasoningDelta)]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in told.calls] == (
        [] if generate else [(id_, name, arguments) for id_, name, arguments, _, _ in calls]
    )
    assert told.done is not None
    assert told.done["done_reason"] == ("stop" if reason == "tool_calls" else reason)
    if usage is not None:
        assert (told.done["prompt_eval_count"], told.done["eval_count"]) == (usage.input_tokens, usage.output_tokens)


@given(CONTENT, st.text())
def test_what_broke_off_is_read_as_that(content, message):
    told = read(writer().feed(Batch([Start("", "m"), *content, Fault(UpstreamTruncated(message))])), size=1)
    assert (told.done, told.error) == (None, message or "upstream_truncated")


def test_what_lines_have_in_common_is_encoded_once_a_second():
    out = writer()
    out.feed(Batch([Start("", "m"), TextDelta("a")]))
    common = out._until_second
    for _ in range(100):
        out.feed(Batch([TextDelta("a")]))
    assert out._until_second is common


@pytest.mark.parametrize("pieces", [["{}"], ['{"a":', "1}"], ['{"a":'], []])
def test_C3_an_answer_that_fails_tells_no_call(pieces):
    calls = [ToolCallStart(0, "c", "pay"), *[ToolCallDelta(0, piece) for piece in pieces]]
    stream = written([Start("", "m"), TextDelta("a"), *calls, Fault(CUT)])
    assert b"tool_calls" not in stream
    assert stream.splitlines()[-1].startswith(b'{"error":')
