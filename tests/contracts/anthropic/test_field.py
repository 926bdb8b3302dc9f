"""Odd answers of Anthropic-wire upstreams, as they were met in the field: what they mean, whatever their form.

Each is read in one write, byte by byte and cut at random; its bytes for a client of the same dialect are read as an
official SDK reads them; and that SDK reads it asked directly, where it can.
"""

import itertools
from random import Random
from typing import Any

import anthropic
import msgspec
import pytest

from proxy.contracts.anthropic.stream import StreamDecoder, decode_whole
from proxy.contracts.anthropic.writer import AnthropicWriter
from proxy.errors import UpstreamFailed, UpstreamMalformed, UpstreamRefused, UpstreamTruncated
from proxy.events import Collector, Fault, Finish
from proxy.testing.script import LAST_CHUNK, Send, chunked, sse_head
from proxy.testing.upstream import ScriptedUpstream
from proxy.wire.sse import SSEDecoder


def event(type_: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), msgspec.json.encode({"type": type_, **fields}))


def start(**usage: int) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    return event("message_start", message={**message, "usage": usage or {"input_tokens": 11, "output_tokens": 1}})


def opened(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def text_block(index: int, *texts: str) -> bytes:
    deltas = [event("content_block_delta", index=index, delta={"type": "text_delta", "text": text}) for text in texts]
    return opened(index, type="text", text="") + b"".join(deltas) + stop(index)


def call(index: int, input_: Any = None, *, id_: str = "toolu_1") -> bytes:
    return opened(index, type="tool_use", id=id_, name="weather", input={} if input_ is None else input_)


def args(index: int, *pieces: str) -> bytes:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return b"".join([event("content_block_delta", index=index, delta=delta) for delta in deltas])


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def reason(name: Any = "end_turn", **more: Any) -> bytes:
    return event(
        "message_delta", delta={"stop_reason": name, "stop_sequence": None}, usage={"output_tokens": 7}, **more
    )


END = event("message_stop")
DONE = reason() + END
CALLED = reason("tool_use") + END
OSLO = '{"city":"Oslo"}'


def data(text: str, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + text.encode() + b"\n\n"


class Case(msgspec.Struct, frozen=True):
    """A stream and what it means. `sdk`: the official SDK, asked directly, reads the same."""

    stream: bytes
    text: str = ""
    calls: tuple[str, ...] = ()
    reasoning: str = ""
    end: str = "stop"
    error: type | None = None
    status: int = 0
    says: str = ""
    sdk: bool = True


def means(stream: bytes, text: str = "", *calls: str, **more: Any) -> Case:
    return Case(stream, text, calls, end=more.pop("end", "tool_calls" if calls else "stop"), **more)


def fails(stream: bytes, error: type = UpstreamMalformed, status: int = 502, says: str = "", text: str = "") -> Case:
    return Case(stream, text, error=error, status=status, says=says, sdk=False)


def delta(written: str, index: str = "0", extra: str = "") -> bytes:
    return data(f'{{"type":"content_block_delta","index":{index}{extra},"delta":{written}}}', "content_block_delta")


TEXT = opened(0, type="text", text="")
HI = text_block(0, "Hi ", "there")
OVERLOADED = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
PRETTY = '{\n  "type": "error",\n  "error": {\n    "type": "rate_limit_error",\n    "message": "Slow down"\n  }\n}'

U2 = {
    "a limit that only the last event tells": means(
        start() + HI + event("message_stop", stop_reason="max_tokens", usage={"output_tokens": 7}),
        "Hi there",
        end="length",
        sdk=False,
    ),
    "a text block after a stop reason": means(
        start() + text_block(0, "one ") + reason() + text_block(1, "two") + DONE, "one two"
    ),
    "a call after a stop reason": means(
        start() + text_block(0, "Look. ") + reason() + call(1) + args(1, OSLO) + stop(1) + CALLED, "Look. ", OSLO
    ),
    "a call after its own stop reason": means(
        start() + reason("tool_use") + call(0) + args(0, OSLO) + stop(0) + END, "", OSLO
    ),
    "text of a block that was open": means(
        start()
        + TEXT
        + delta('{"type":"text_delta","text":"a"}')
        + reason()
        + delta('{"type":"text_delta","text":"b"}')
        + DONE,
        "ab",
    ),
    "the string null as a reason": means(start() + reason("null") + HI + DONE, "Hi there", sdk=False),
    "the string None, then a cut": fails(start() + HI + reason("None"), UpstreamTruncated, text="Hi there"),
    "content after a reason, then a cut": fails(
        start() + HI + reason() + text_block(1, "more"), UpstreamTruncated, text="Hi theremore"
    ),
    "a reason, then an error": fails(
        start() + HI + reason() + data(OVERLOADED, "error"), UpstreamFailed, 529, "Overloaded", "Hi there"
    ),
    "an error, then the end": fails(start() + data(OVERLOADED, "error") + DONE, UpstreamFailed, 529, "Overloaded"),
    **{
        f"an error in an event {name}, then the end": fails(
            start() + HI + data(words, name) + DONE, UpstreamFailed, 502, "gone", "Hi there"
        )
        for name, words in (
            ("Error", "gone"),
            ("exception", '{"message":"gone"}'),
            ("modelStreamErrorException", '{"message":"gone","code":5}'),
        )
    },
    "a limit, then an end": means(start() + HI + reason("max_tokens") + DONE, "Hi there", end="length", sdk=False),
    "a reason beside the delta": means(
        start() + HI + event("message_delta", stop_reason="max_tokens") + END, "Hi there", end="length", sdk=False
    ),
}

U5 = {
    "nulls in the last delta": means(
        start()
        + HI
        + data(
            '{"type":"message_delta","index":null,"delta":{"type":null,"text":null,"thinking":null,"stop_reason":"end_turn"},"usage":{"output_tokens":7}}',
            "message_delta",
        )
        + END,
        "Hi there",
    ),
    "nulls in a delta": means(
        start()
        + TEXT
        + delta(
            '{"type":"text_delta","text":"Hi","thinking":null,"partial_json":null,"citation":null}',
            extra=',"usage":null',
        )
        + stop(0)
        + DONE,
        "Hi",
    ),
    "text null": means(
        start()
        + TEXT
        + delta('{"type":"text_delta","text":null}')
        + delta('{"type":"text_delta","text":"a"}')
        + stop(0)
        + DONE,
        "a",
        sdk=False,
    ),
    "numbers and booleans as text": means(
        start()
        + TEXT
        + b"".join(delta(f'{{"type":"text_delta","text":{one}}}') for one in ("0.50", "1", '" "', "true", "1e3"))
        + stop(0)
        + DONE,
        "0.501 true1e3",
        sdk=False,
    ),
    "indexes as text": means(
        start()
        + data(
            '{"type":"content_block_start","index":"0","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}',
            "content_block_start",
        )
        + delta('{"type":"input_json_delta","partial_json":"{\\"a\\":1}"}', '"0"')
        + data('{"type":"content_block_stop","index":"0"}', "content_block_stop")
        + CALLED,
        "",
        '{"a":1}',
        sdk=False,
    ),
    "a block without its text, with odd fields": means(
        start() + opened(0, type="text", citations="") + delta('{"type":"text_delta","text":"a"}') + stop(0) + DONE,
        "a",
        sdk=False,
    ),
    "usage that is no object": means(
        start()
        + HI
        + data('{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":""}', "message_delta")
        + END,
        "Hi there",
        sdk=False,
    ),
    "an odd message_start": means(
        data('{"type":"message_start","message":{"id":7,"model":null,"content":"","usage":[]}}', "message_start")
        + HI
        + DONE,
        "Hi there",
        sdk=False,
    ),
    "an empty list as a delta": means(
        start() + TEXT + delta("[]") + delta('{"type":"text_delta","text":"a"}') + stop(0) + DONE, "a", sdk=False
    ),
    "surrogate halves in two deltas": means(
        start()
        + TEXT
        + delta('{"type":"text_delta","text":"a\\ud83d"}')
        + delta('{"type":"text_delta","text":"\\ude00b"}')
        + delta('{"type":"text_delta","text":"c"}')
        + stop(0)
        + DONE,
        "a😀bc",
        sdk=False,
    ),
    "half a pair that stays alone": means(
        start() + TEXT + delta('{"type":"text_delta","text":"a\\ud83d"}') + event("ping") + stop(0) + DONE,
        "a\ufffd",
        sdk=False,
    ),
    "half a pair before other text": means(
        start()
        + TEXT
        + delta('{"type":"text_delta","text":"a\\ud83d"}')
        + delta('{"type":"text_delta","text":"b"}')
        + stop(0)
        + DONE,
        "a\ufffdb",
        sdk=False,
    ),
    "a delta without its type": means(start() + TEXT + delta('{"text":"Hi"}') + stop(0) + DONE, "Hi", sdk=False),
    "a block without its start": means(
        start() + delta('{"type":"text_delta","text":"Hi"}') + stop(0) + DONE, "Hi", sdk=False
    ),
    "a source without an address": means(
        start()
        + TEXT
        + delta('{"type":"citations_delta","citation":{"type":"char_location","url":null,"title":7}}')
        + delta('{"type":"text_delta","text":"a"}')
        + stop(0)
        + DONE,
        "a",
        sdk=False,
    ),
    "a control character in a string": means(
        start() + TEXT + delta('{"type":"text_delta","text":"a\tb"}') + stop(0) + DONE, "a\tb", sdk=False
    ),
}

U6 = {
    "keep-alives of every form": means(
        start()
        + TEXT
        + delta('{"type":"text_delta","text":"Hi "}')
        + data("{}", "keepalive")
        + data('{"type":"keepalive","sequence_number":3}')
        + data('{"type":"ping"}', "ping")
        + data("{}")
        + data('{"message":"still here"}', "keep-alive")
        + data('{"type":"ping","message":"x","index":"south"}', "ping")
        + b": ping\n\n"
        + b"event: ping\n\n"
        + delta('{"type":"text_delta","text":"there"}')
        + stop(0)
        + DONE,
        "Hi there",
    ),
    "blocks and deltas of types to come": means(
        start()
        + opened(0, type="hologram", text=7, input="x")
        + delta('{"type":"hum_delta","text":{"a":1}}')
        + stop(0)
        + text_block(1, "Hi")
        + DONE,
        "Hi",
        sdk=False,
    ),
    "keep-alives that are no objects": means(
        start()
        + HI
        + data("2026-11-29T10:00:00Z", "heartbeat")
        + data("null")
        + data("[]", "heartbeat")
        + data("[]")
        + data('"ping"', "heartbeat")
        + DONE,
        "Hi there",
        sdk=False,
    ),
    "nothing but keep-alives is a cut": fails(data("{}", "keepalive") * 3, UpstreamTruncated),
}

U8 = {
    "a bare error, first": fails(OVERLOADED.encode() + b"\n", UpstreamFailed, 529, "Overloaded"),
    "a bare error without a line end": fails(OVERLOADED.encode(), UpstreamFailed, 529, "Overloaded"),
    "a bare error over several lines": fails(PRETTY.encode() + b"\n", UpstreamFailed, 429, "Slow down"),
    "a bare error in the middle": fails(
        start() + HI + OVERLOADED.encode() + b"\n", UpstreamFailed, 529, "Overloaded", "Hi there"
    ),
    "a bare error with its blank line, then the end": fails(
        start() + HI + OVERLOADED.encode() + b"\n\n" + DONE, UpstreamFailed, 529, "Overloaded", "Hi there"
    ),
    "a bare error over several lines, then the end": fails(
        start() + HI + PRETTY.encode() + b"\n\n" + DONE, UpstreamFailed, 429, "Slow down", "Hi there"
    ),
    "an error without its name": fails(start() + data(OVERLOADED), UpstreamFailed, 529, "Overloaded"),
    "an error as text": fails(start() + data("The lamp is out", "error"), UpstreamFailed, 502, "The lamp is out"),
    "an error as a field of its own": fails(
        start() + HI + b'error: {"message":"no slot","code":503}\n\n', UpstreamFailed, 503, "no slot", "Hi there"
    ),
    "OpenAI's error object": fails(
        start() + data('{"error":{"message":"Too long","type":"invalid_request_error","code":"invalid_value"}}'),
        UpstreamRefused,
        400,
        "Too long",
    ),
    "an error in message_start": fails(
        data(
            '{"type":"message_start","message":{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}}',
            "message_start",
        ),
        UpstreamFailed,
        529,
        "Overloaded",
    ),
    "a chunk of OpenAI's": fails(start() + data('{"choices":[{"index":0,"delta":{"content":"a"}}]}')),
}

FIRST = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "stop_reason": None,
    "usage": {"input_tokens": 11, "output_tokens": 1},
}
U5["text in the first event"] = means(
    event("message_start", message={**FIRST, "content": [{"type": "text", "text": "Hi there"}]}) + DONE, "Hi there"
)

U13 = {
    "an empty input and then another": fails(
        start() + call(0) + args(0, "{}", OSLO) + stop(0) + CALLED, says="several inputs for one tool call"
    ),
    "two inputs of a call that never ends": fails(
        start() + call(0) + args(0, OSLO, OSLO) + reason("tool_use"), says="several inputs for one tool call"
    ),
    "arguments in the start, without an end of the block": means(
        start() + call(0, {"city": "Oslo"}) + CALLED, "", OSLO
    ),
    "two such calls": means(
        start() + call(0, {"a": 1}) + call(1, {"b": 2}, id_="toolu_2") + CALLED, "", '{"a":1}', '{"b":2}'
    ),
    "a call without arguments or end": means(start() + call(0) + CALLED, "", "{}"),
    "arguments in the start and in deltas": means(
        start() + call(0, {"city": "Oslo"}) + args(0, '{"city":', '"Oslo"}') + stop(0) + CALLED, "", OSLO
    ),
    "deltas with the index of a text that ended": means(
        start() + text_block(0, "Look. ") + call(1) + args(0, '{"city":', '"Oslo"}') + stop(0) + CALLED,
        "Look. ",
        OSLO,
        sdk=False,
    ),
    "deltas with an index that is not there": means(
        start() + call(0) + args(3, OSLO) + stop(3) + CALLED, "", OSLO, sdk=False
    ),
    "two calls whose deltas all have index 0": means(
        start()
        + text_block(0, "x")
        + call(1)
        + args(0, '{"a":1}')
        + stop(0)
        + call(2, id_="toolu_2")
        + args(0, '{"b":2}')
        + stop(0)
        + CALLED,
        "x",
        '{"a":1}',
        '{"b":2}',
        sdk=False,
    ),
    "arguments as a JSON text": means(start() + call(0, OSLO) + stop(0) + CALLED, "", OSLO, sdk=False),
    "arguments as a JSON text, without an end": means(start() + call(0, OSLO) + CALLED, "", OSLO, sdk=False),
    "an empty text, then deltas": means(start() + call(0, "") + args(0, OSLO) + stop(0) + CALLED, "", OSLO, sdk=False),
    "a piece that is the object itself": means(
        start()
        + call(0)
        + delta('{"type":"input_json_delta","partial_json":{"city":"Oslo","n":0.5}}')
        + stop(0)
        + CALLED,
        "",
        '{"city":"Oslo","n":0.5}',
        sdk=False,
    ),
    "deltas between two open calls": fails(start() + call(0) + call(1, id_="toolu_2") + args(5, OSLO) + CALLED),
    "arguments after the end of their block": fails(start() + call(0) + stop(0) + args(0, OSLO) + CALLED),
    "arguments without any call": fails(start() + text_block(0, "x") + args(1, OSLO) + CALLED, text="x"),
    "a call cut before its end": fails(start() + call(0, {"city": "Oslo"}), UpstreamTruncated),
}

U14 = {
    "tools that the upstream runs": means(
        start()
        + opened(0, type="server_tool_use", id="srv_1", name="web_search", input={})
        + args(0, '{"query":"x"}')
        + stop(0)
        + opened(1, type="web_search_tool_result", tool_use_id="srv_1", content=[])
        + stop(1)
        + text_block(2, "Found.")
        + DONE,
        "Found.",
    ),
    "such a tool with its input at the start, beside a call": means(
        start()
        + opened(0, type="mcp_tool_use", id="m", name="f", input={"a": 1})
        + stop(0)
        + call(1)
        + args(1, OSLO)
        + stop(1)
        + CALLED,
        "",
        OSLO,
    ),
    "arguments of such a tool under a wrong index": means(
        start()
        + opened(1, type="server_tool_use", id="s", name="web_search", input={})
        + args(0, "{}")
        + stop(0)
        + text_block(2, "x")
        + DONE,
        "x",
        sdk=False,
    ),
}

CASES = {
    f"{row}: {name}": case
    for row, cases in (("U2", U2), ("U5", U5), ("U6", U6), ("U8", U8), ("U13", U13), ("U14", U14))
    for name, case in cases.items()
}


def check(case: Case, *pieces: bytes, keep: bool = False) -> bytes:
    """That a stream that comes in `pieces` means this. Returns the bytes for a client of the same dialect."""
    decoder = StreamDecoder(1_000_000, keep=keep)
    writer = AnthropicWriter(id="msg_7", request_id="r7", model="m", input_tokens=lambda: 9)
    collector, end, written = Collector(), None, b""
    for piece in (*pieces, None):
        batch = decoder.feed(piece) if piece is not None else decoder.finish()
        written += writer.feed(batch)
        end = end or collector.add(batch)
    answer = collector.answer()
    assert answer.text == case.text
    if case.error is None:
        assert isinstance(end, Finish), end
        assert end.reason == case.end
        assert tuple(one.arguments for one in answer.tool_calls) == case.calls
    else:
        assert isinstance(end, Fault), end
        assert (type(end.error), end.error.status) == (case.error, case.status)
        assert case.says in end.error.message
    return written


async def sdk_reads(upstream: ScriptedUpstream, stream: bytes) -> tuple[str, list[Any]]:
    """The text and the calls that the official SDK makes of these bytes."""
    upstream.play(Send(sse_head()), Send(chunked(stream)), Send(LAST_CHUNK))
    http = anthropic.DefaultAsyncHttpxClient(verify=False)  # reading all certificates takes 50 ms
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=upstream.origin, max_retries=0, http_client=http
    ) as client:
        asked = client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
        async with asked as answer:
            message = await answer.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    return text, [block.input for block in message.content if block.type == "tool_use"]


@pytest.mark.parametrize("name", CASES)
def test_U2_U5_U6_U8_U13_U14_an_odd_answer_means_what_it_says_however_it_is_cut(name):
    case = CASES[name]
    check(case, case.stream)
    check(case, *[case.stream[at : at + 1] for at in range(len(case.stream))])
    random = Random(name)
    for _ in range(20):
        cuts = sorted(random.choices(range(len(case.stream)), k=6))
        check(case, *[case.stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(case.stream)])])


@pytest.mark.parametrize("name", CASES)
async def test_U2_U5_U6_U13_a_client_of_the_same_dialect_is_not_misled(name, upstream):
    case = CASES[name]
    written = check(case, case.stream, keep=True)
    if case.error is not None:
        assert b"event: error\n" in written
        assert b"message_stop" not in written
        return
    names = [name for name, _ in SSEDecoder().feed(written)]
    assert names.count(b"message_stop") == 1
    if case.sdk:
        assert await sdk_reads(upstream, written) == (case.text, [msgspec.json.decode(one) for one in case.calls])
    calls = written_calls(written)
    assert calls == [msgspec.json.decode(one) for one in case.calls]


def written_calls(stream: bytes) -> list[Any]:
    """The arguments of the calls, as SDKs add them up: by index, deltas over the start of the block."""
    calls: dict[int, Any] = {}
    pieces: dict[int, str] = {}
    for name, value in SSEDecoder().feed(stream):
        try:
            one = msgspec.json.decode(value)
        except ValueError:
            continue
        if name == b"content_block_start" and one["content_block"]["type"] == "tool_use":
            calls[int(one["index"])] = one["content_block"]["input"]
        elif name == b"content_block_delta" and isinstance(one["delta"], dict) and one["delta"].get("partial_json"):
            piece = one["delta"]["partial_json"]
            index = int(one["index"])
            if isinstance(piece, str):
                pieces[index] = pieces.get(index, "") + piece
            elif index in calls:
                calls[index] = piece
        elif (
            name == b"content_block_stop" and (json := pieces.pop(int(one["index"]), "")) and int(one["index"]) in calls
        ):
            calls[int(one["index"])] = msgspec.json.decode(json)
    return [calls[index] for index in sorted(calls)]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.sdk])
async def test_U2_U5_U6_U13_the_official_sdk_asked_directly_reads_the_same(name, upstream):
    case = CASES[name]
    assert await sdk_reads(upstream, case.stream) == (case.text, [msgspec.json.decode(one) for one in case.calls])


# usage, whole answers


@pytest.mark.parametrize(
    ("stream", "output", "estimated"),
    [
        (start() + HI + event("message_delta", delta={"stop_reason": "end_turn"}) + END, 2, True),
        (
            start() + HI + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 0}) + END,
            2,
            True,
        ),
        (start() + HI + event("message_delta", delta={"stop_reason": "end_turn"}, usage=None) + END, 2, True),
        (start() + HI + DONE, 7, False),
        (
            start()
            + HI
            + event(
                "message_delta",
                delta={"stop_reason": "end_turn"},
                usage={"output_tokens": 3, "output_tokens_details": {"thinking_tokens": 9}},
            )
            + END,
            9,
            True,
        ),
    ],
)
def test_U15_output_that_was_not_counted_is_estimated_and_marked(stream, output, estimated):
    decoder = StreamDecoder(1_000_000)
    usage = decoder.feed(stream).events[-1].usage
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (11, output, estimated)


def whole(**fields: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    return msgspec.json.encode({**message, "usage": {"input_tokens": 11, "output_tokens": 7}, **fields})


@pytest.mark.parametrize(
    ("body", "text", "calls"),
    [
        (whole(content=[{"type": "text", "text": 0.5, "citations": ""}]), "0.5", []),
        (whole(content=[None, {"type": "text", "text": None}, {"text": "a"}]), "a", []),
        (whole(content="a"), "a", []),
        (whole(content=None), "", []),
        (whole(content=[{"type": "text", "text": "a"}], usage="", stop_reason=7), "a", []),
        (whole(content=[{"type": "tool_use", "id": 7, "name": "f", "input": OSLO}]), "", [OSLO]),
        (whole(content=[{"type": "tool_use", "id": "t", "name": "f", "input": ""}]), "", ["{}"]),
        (whole(content=[{"type": "tool_use", "id": "t", "name": "f", "input": None, "text": 1}]), "", ["{}"]),
        (whole(content=[{"type": "server_tool_use", "id": "s", "name": "f", "input": {"a": 1}}]), "", []),
        (b'{"type":"message","content":[{"type":"text","text":"a\\ud83d"}]}', "a\ufffd", []),
    ],
)
def test_U5_U13_an_odd_whole_answer_means_what_it_says(body, text, calls):
    collector = Collector()
    batch = decode_whole(body, keep=True)
    assert isinstance(collector.add(batch), Finish)
    assert (collector.answer().text, [one.arguments for one in collector.answer().tool_calls]) == (text, calls)
    inputs = (
        [
            block["input"]
            for block in msgspec.json.decode(batch.whole).get("content") or ()
            if isinstance(block, dict) and block.get("type") == "tool_use"
        ]
        if b"\\ud8" not in body
        else []
    )
    assert inputs in ([msgspec.json.decode(one) for one in calls], [None])


def test_U15_a_whole_answer_without_a_count_is_estimated():
    usage = (
        decode_whole(whole(content=[{"type": "text", "text": "12345"}], usage={"input_tokens": 11}), keep=False)
        .events[-1]
        .usage
    )
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (11, 2, True)


REASONS = [
    *[("END_TURN", "stop"), ("pause_turn", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter")],
    *[
        ("model_context_window_exceeded", "length"),
        ("content_filter: hate", "content_filter"),
        ("TOOL_USE", "tool_calls"),
    ],
    *[("sensitive", "content_filter"), ("out_of_ideas", "stop"), ("null", "stop")],
]
BROKEN = ["network_error", "MALFORMED_FUNCTION_CALL", "error", "abort"]


@pytest.mark.parametrize(("word", "meaning"), REASONS)
def test_U4_a_stop_reason_means_the_same_in_every_form(word, meaning):
    streamed = StreamDecoder(1_000_000).feed(start() + HI + reason(word) + END).events[-1]
    one = decode_whole(whole(content=[{"type": "text", "text": "a"}], stop_reason=word), keep=False).events[-1]
    for end in (streamed, one):
        assert (end.reason, end.has_finish_reason) == (meaning, word != "null")
        assert end.upstream_reason == ("out_of_ideas" if word == "out_of_ideas" else "")


@pytest.mark.parametrize("word", BROKEN)
def test_U4_an_upstream_that_gave_up_is_an_error(word):
    end = StreamDecoder(1_000_000).feed(start() + HI + reason(word) + END).events[-1]
    assert isinstance(end, Fault)
    assert word in end.error.message
    decoder = StreamDecoder(1_000_000)
    decoder.feed(start() + HI + reason(word))
    assert isinstance(decoder.finish().events[-1], Fault)
    with pytest.raises(UpstreamFailed, match=word):
        decode_whole(whole(content=[{"type": "text", "text": "a"}], stop_reason=word), keep=True)


def test_U4_an_empty_answer_for_an_unknown_reason_is_an_error():
    end = StreamDecoder(1_000_000).feed(start() + reason("out_of_ideas") + END).events[-1]
    assert isinstance(end, Fault)
