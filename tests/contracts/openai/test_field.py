"""Answers as upstreams met in the field write them (docs/reliability.md, "Met in the field").

Each case is a stream as one upstream sent it, shortened, and what it means. It is read in one write, byte by byte and
in random pieces, for clients of other dialects and of this one; where it has a whole form, that too.
"""

import itertools
import random

import httpx
import msgspec
import openai
import pytest

from proxy.contracts.openai.stream import StreamDecoder
from proxy.contracts.openai.whole import decode_whole
from proxy.contracts.openai.writer import OpenAIWriter
from proxy.errors import UpstreamError
from proxy.events import (
    Batch,
    Collector,
    Fault,
    Finish,
    ToolCallStart,
    check_order,
)
from proxy.request import Usage

LIMIT = 1 << 20
DONE = b"data: [DONE]\n\n"


class Case(msgspec.Struct, kw_only=True):
    """A stream and its meaning; `error` is a status and a part of the message. `oracle`: the official SDK reads it."""

    id: str
    stream: bytes
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = []
    reason: str | None = "stop"
    usage: Usage | None = None
    sources: list[tuple[str, str]] = []
    images: list[str] = []
    signature: str = ""
    error: tuple[int, str] | None = None
    whole: bytes | None = None
    oracle: bool = True


def event(value, name=""):
    data = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"


def chunk(delta=None, finish=None, index=0, *, choice=None, **more):
    one = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish, **(choice or {})}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [one], **more})


def raw(delta, finish="null"):
    """A chunk whose delta is written as it stands here."""
    return event(
        b'{"id":"c","model":"m","choices":[{"index":0,"delta":%b,"finish_reason":%b}]}' % (delta, finish.encode())
    )


def whole(message, finish="stop", **more):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return msgspec.json.encode(
        {"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [choice], **more}
    )


def text(*pieces):
    return b"".join(chunk({"content": piece}) for piece in pieces)


def call(name=None, arguments=None, id=None, index=0, **more):
    function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
    piece = {"index": index, "id": id, "type": "function", "function": function}
    return chunk({"tool_calls": [{k: v for k, v in piece.items() if v is not None and v != {}}]}, **more)


STOP = chunk(finish="stop") + DONE
CALLS = chunk(finish="tool_calls") + DONE


def read(stream, pieces, **options):
    decoder = StreamDecoder(LIMIT, **options)
    batches = [decoder.feed(piece) for piece in pieces] + [decoder.finish()]
    events = [event for batch in batches for event in batch.events]
    check_order(events)
    ids = [event.id for event in events if isinstance(event, ToolCallStart)]
    assert len(set(ids)) == len(ids)
    return events, batches


def told(events):
    """What events add up to, in the words of a `Case`."""
    collector = Collector()
    end = collector.add(Batch(events))
    answer = collector.answer()
    found = {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "calls": [(call.name, call.arguments) for call in answer.tool_calls],
        "sources": list(answer.sources),
        "images": [url for _, url in answer.media],
        "signature": answer.reasoning_signature,
    }
    if isinstance(end, Fault):
        return found | {"error": (end.error.status, end.error.message), "reason": None, "usage": None}
    return found | {"error": None, "reason": end.upstream_reason or end.reason, "usage": end.usage}


def cuts(stream, seed):
    at = sorted(random.Random(seed).sample(range(len(stream)), min(9, len(stream))))
    return [stream[a:b] for a, b in itertools.pairwise([0, *at, len(stream)])]


def ways(stream):
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    yield from (cuts(stream, seed) for seed in range(12))


def check(case):
    expected = {name: getattr(case, name) for name in ("text", "reasoning", "calls", "sources", "images", "signature")}
    for pieces in ways(case.stream):
        found = told(read(case.stream, pieces, keep=False)[0])
        error = found.pop("error")
        if case.error is None:
            assert error is None, error
            assert found == expected | {"reason": case.reason, "usage": case.usage}
        else:
            assert error is not None
            assert error[0] == case.error[0], error
            assert case.error[1] in error[1]
            assert found["text"] == case.text
    if case.whole is not None:
        check_whole(case, expected)
    check_same_dialect(case)


def check_whole(case, expected):
    if case.error is None:
        found = told(decode_whole(case.whole, keep=False).events)
        assert found == expected | {"reason": case.reason, "usage": case.usage, "error": None}
        return
    with pytest.raises(UpstreamError) as caught:
        decode_whole(case.whole, keep=False)
    assert caught.value.status == case.error[0]
    assert case.error[1] in caught.value.message


def check_same_dialect(case):
    """A client of this dialect gets the bytes; only the end is ours to tell."""
    for pieces in ways(case.stream):
        events, batches = read(case.stream, pieces, keep=True)
        writer = OpenAIWriter(id="c", model="m", created=1)
        out = b"".join(writer.feed(batch) for batch in batches)
        if isinstance(events[-1], Finish):
            assert out.endswith(DONE)
        else:
            assert DONE not in out
            assert case.error is not None
        written = [frame.removeprefix(b"data: ") for frame in out.split(b"\n\n") if b'"content"' in frame]
        made = [data for data in written if data not in case.stream.replace(b"\n ", b" ")]
        assert len(made) <= (case.error is not None), made  # only the words that stood beside an error


# U1: what came earlier is not made good by what comes later

TWO = [("get_weather", '{"city":"Oslo"}'), ("get_time", '{"tz":"CET"}')]
SAME = [("get_weather", '{"city":"Oslo"}'), ("get_weather", '{"city":"Rome"}')]

U1 = [
    Case(id="error-then-done", stream=text("Half ") + event({"error": {"message": "gone", "code": 503}}) + DONE,
         text="Half ", error=(503, "gone")),
    Case(id="flat-error-then-done", text="Half ", error=(500, "engine"), oracle=False,
         stream=text("Half ") + event({"object": "error", "message": "engine", "type": "InternalServerError", "code": 500}) + DONE),
    Case(id="error-after-finish", text="Half", error=(429, "slow down"),
         stream=text("Half") + chunk(finish="stop") + event({"error": {"message": "slow down", "code": 429}}) + DONE),
    Case(id="words-beside-an-error", text="Half more", error=(502, "gone"), oracle=False,
         stream=text("Half") + event({"choices": [{"delta": {"content": " more"}, "finish_reason": "error"}], "error": {"message": "gone"}}) + DONE),
    Case(id="error-first", stream=event({"error": "overloaded"}) + STOP, error=(503, "overloaded")),
    Case(id="error-in-the-choice", text="Half ", error=(504, "idle"), oracle=False,
         stream=text("Half ") + chunk({"content": ""}, choice={"error": {"code": 504, "message": "idle"}}) + STOP,
         whole=whole({"content": "Half"}).replace(b'"finish_reason"', b'"error":{"code":504,"message":"idle"},"finish_reason"')),
    Case(id="error-of-groq", text="Half ", error=(502, "gone"), oracle=False,
         stream=text("Half ") + chunk(finish="stop", x_groq={"id": "x", "error": "gone"}) + DONE),
    Case(id="base_resp-beside-a-finish-reason", text="Half ", error=(400, "sensitive"), oracle=False,
         stream=text("Half ") + chunk(finish="stop", base_resp={"status_code": 1027, "status_msg": "sensitive"}) + DONE),
    *[Case(id=f"event-{name}", stream=text("Half ") + event(b"gone", name) + STOP, text="Half ", error=(502, "gone"), oracle=False)
      for name in ("Error", "exception", "failed", "internal_error", "response.failed")],
    Case(id="cut-at-a-limit-then-stop", stream=text("Half") + chunk(finish="length") + STOP, text="Half", reason="length"),
    Case(id="filtered-then-stop", stream=text("Half") + chunk(finish="content_filter") + STOP, text="Half", reason="content_filter"),
]  # fmt: skip

# U2: one field is not trusted against the stream

U2 = [
    Case(id="more-after-a-plain-reason", stream=text("wait. ") + chunk(finish="stop") + text("42") + STOP, text="wait. 42"),
    Case(id="more-after-a-reason-with-content", text="one two three", reason="length",
         stream=chunk({"content": "one "}, "stop") + text("two ") + text("three") + chunk(finish="length") + DONE),
    Case(id="call-after-a-reason", text="Look. ", calls=[("f", "{}")], reason="tool_calls",
         stream=chunk({"content": "Look. "}, "stop") + call("f", "{}", "a", finish="tool_calls") + DONE),
    Case(id="call-after-a-reason-without-its-own", text="Look. ", calls=[("f", "{}")], reason="tool_calls",
         stream=chunk({"content": "Look. "}, "stop") + call("f", "{}", "a") + DONE),
    Case(id="answer-after-the-reasoning-ended", reasoning="hm", text="4",
         stream=chunk({"reasoning_content": "hm"}, "stop") + text("4") + STOP),
    Case(id="null-as-text", stream=chunk({"content": "a"}, "null") + chunk({"content": "b"}, "None") + STOP, text="ab"),
    Case(id="null-as-text-then-cut", text="one two", error=(502, "cut off"), oracle=False,
         stream=chunk({"content": "one "}, "null") + chunk({"content": "two"}, "null")),
    Case(id="reason-in-every-chunk-then-cut", text="one two", error=(502, "cut off"), oracle=False,
         stream=chunk({"content": "one "}, "stop") + chunk({"content": "two"}, "stop")),
    Case(id="more-after-a-reason-then-cut", text="one two", error=(502, "cut off"), oracle=False,
         stream=text("one ") + chunk(finish="stop") + text("two")),
    Case(id="no-sentinel", stream=text("one") + chunk(finish="stop"), text="one"),
    Case(id="no-sentinel-and-content", stream=chunk({"content": "one"}, "stop"), text="one"),
]  # fmt: skip

# U3: what is repeated is told once

MESSAGE = {"role": "assistant", "content": "It is so."}
U3 = [
    Case(id="final-message", stream=text("It is ", "so.") + chunk(choice={"delta": None, "message": MESSAGE}, finish="stop") + DONE,
         text="It is so."),
    Case(id="message-in-every-chunk", text="It is so.",
         stream=chunk({"content": "It is"}, choice={"message": {"content": "It is"}})
         + chunk({"content": " so."}, choice={"message": MESSAGE}) + chunk(choice={"delta": None, "message": MESSAGE}, finish="stop") + DONE),
    Case(id="final-message-repeats-reasoning", reasoning="think more", text="Hello 世界",
         stream=chunk({"reasoning_content": "think "}) + chunk({"reasoning_content": "more"}) + text("Hello 世界") + chunk(finish="stop")
         + chunk(choice={"delta": None, "message": {"content": "Hello 世界", "reasoning_content": "think more"}}, finish="stop") + DONE),
    Case(id="final-message-repeats-call", calls=[("f", '{"a":1}')], reason="tool_calls",
         stream=call("f", '{"a":1}', "c1") + chunk(choice={"delta": None, "message": {"content": "", "tool_calls": [
             {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]}}, finish="tool_calls") + DONE),
    Case(id="final-message-completes", reasoning="hm", text="4", calls=[("f", '{"a":1}'), ("g", "{}")], reason="tool_calls", oracle=False,
         stream=chunk({"reasoning_content": "hm"}) + call("f", '{"a":', "c1") + chunk(choice={"delta": None, "message": {
             "content": "4", "reasoning_content": "hm", "tool_calls": [
                 {"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}}, {"id": "c2", "function": {"name": "g", "arguments": "{}"}}]}},
             finish="tool_calls") + DONE),
    Case(id="growing-messages-alone", text="It is so.", oracle=False,
         stream=b"".join(chunk(choice={"delta": None, "message": {"content": so_far}}) for so_far in ("It", "It is", "It is", "It is so.")) + STOP),
    Case(id="messages-in-place-of-deltas", text="ha ha! So", oracle=False,
         stream=b"".join(chunk(choice={"delta": None, "message": {"content": piece}}) for piece in ("ha ", "ha", "! ", "So")) + STOP),
    Case(id="call-repeated-with-its-id", calls=[("f", '{"a":1}')], reason="tool_calls", oracle=False,
         stream=call("f", '{"a":1}', "c1") + call("f", '{"a":1}', "c1") + CALLS),
]  # fmt: skip

# U4: finish reasons

U4 = [
    *[Case(id=f"{word}", stream=text("a") + chunk(finish=word) + DONE, text="a", reason=means, whole=whole({"content": "a"}, word))
      for word, means in [("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
                          ("content_filter: hate", "content_filter"), ("sensitive", "content_filter"),
                          ("model_context_window_exceeded", "length"), ("STOP", "stop"), ("repetition", "repetition")]],
    *[Case(id=f"{word}", stream=text("a") + chunk(finish=word) + DONE, text="a", error=(502, word), whole=whole({"content": "a"}, word))
      for word in ("network_error", "MALFORMED_FUNCTION_CALL", "error", "engine_failure", "deadline_exceeded", "rate_limited", "evicted")],
    Case(id="network_error-and-nothing", stream=chunk({"content": ""}, "network_error") + DONE, error=(502, "network_error"),
         whole=whole({"content": ""}, "network_error")),
    Case(id="unknown-and-nothing", stream=chunk(finish="OTHER") + DONE, error=(502, "OTHER"), whole=whole({"content": None}, "OTHER")),
    Case(id="words-beside-an-error-reason", stream=text("a") + chunk({"content": "b"}, "error") + DONE, text="ab", error=(502, "error")),
    Case(id="stop-where-the-vendor-gave-up", error=(502, "MALFORMED_FUNCTION_CALL"), oracle=False,
         stream=chunk({"content": ""}, "stop", choice={"native_finish_reason": "MALFORMED_FUNCTION_CALL"}) + DONE,
         whole=whole({"content": ""}).replace(b'"finish_reason"', b'"native_finish_reason":"MALFORMED_FUNCTION_CALL","finish_reason"')),
    Case(id="stop-in-the-vendors-word", text="a", stream=text("a") + chunk(finish="stop", choice={"native_finish_reason": "end_turn"}) + DONE,
         whole=whole({"content": "a"}).replace(b'"finish_reason"', b'"native_finish_reason":"end_turn","finish_reason"')),
    Case(id="stop-with-a-call", stream=call(*SAME[0]) + STOP, calls=SAME[:1], reason="tool_calls",
         whole=whole({"tool_calls": [{"id": "a", "function": {"name": SAME[0][0], "arguments": SAME[0][1]}}]})),
]  # fmt: skip

# U5: fields that are not needed may have any type; text is text as it was written

U5 = [
    Case(id="number", stream=raw(b'{"content":"a "}') + raw(b'{"content":0.50}') + raw(b'{"content":1}') + raw(b'{"content":-1E3}') + STOP,
         text="a 0.501-1E3", whole=whole({"content": 0.5}).replace(b"0.5", b"a 0.501-1E3".join([b'"', b'"'])), oracle=False),
    Case(id="boolean", stream=raw(b'{"content":true}') + raw(b'{"content":false}') + STOP, text="truefalse", oracle=False),
    Case(id="number-in-reasoning", stream=raw(b'{"reasoning_content":1.0}') + text("a") + STOP, reasoning="1.0", text="a", oracle=False),
    Case(id="halves-of-a-character", stream=raw(b'{"content":"a\\ud83d"}') + raw(b'{"content":""}') + raw(b'{"content":"\\ude00b"}') + text("c") + STOP,
         text="a😀bc", oracle=False),
    Case(id="a-half-that-stays-alone", stream=text("x", "y") + raw(b'{"content":"a\\ud83d"}') + text("b") + raw(b'{"content":"\\ude00"}') + STOP,
         text="xya\ufffdb\ufffd", oracle=False),
    Case(id="a-half-at-the-end", stream=raw(b'{"content":"a\\ud83d"}') + STOP, text="a\ufffd", oracle=False),
    Case(id="halves-in-arguments", calls=[("f", '{"a":"😀"}')], reason="tool_calls", oracle=False,
         stream=call("f", '{"a":"', "c") + raw(b'{"tool_calls":[{"index":0,"function":{"arguments":"\\ud83d"}}]}')
         + raw(b'{"tool_calls":[{"index":0,"function":{"arguments":"\\ude00\\"}"}}]}') + CALLS),
    Case(id="nulls-in-parts", text="Answer is 4", images=["https://x.example/i.png"], oracle=False,
         stream=chunk({"content": [{"type": "text", "text": "Answer", "thinking": None, "annotations": None}]})
         + chunk({"content": [{"type": "image_url", "text": None, "image_url": {"url": "https://x.example/i.png"}}]})
         + chunk({"content": [{"type": "text", "text": " is "}, None, {"type": "text", "text": None}, 4]}) + STOP),
    Case(id="usage-of-another-type", stream=chunk({"content": "a"}, usage="") + chunk(finish="stop", usage=[]) + DONE, text="a"),
    Case(id="empty-list-for-delta", stream=text("a") + chunk(choice={"delta": []}, finish="stop") + DONE, text="a"),
    Case(id="index-as-text", calls=[("f", "{}")], reason="tool_calls",
         stream=chunk({"tool_calls": [{"index": "0", "id": "a", "function": {"name": "f", "arguments": "{}"}}]}) + CALLS),
    Case(id="arguments-as-object", calls=[("f", '{"price":0.50,"ok":true,"x":null,"l":["é"]}')], reason="tool_calls", oracle=False,
         stream=raw('{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":{"price":0.50,"ok":true,"x":null,"l":["é"]}}}]}'.encode()) + CALLS),
    Case(id="annotation-without-url", text="a", sources=[("https://a.example", "A")],
         stream=chunk({"content": "a", "annotations": [{"type": "url_citation", "url_citation": {"url": None, "title": None}}, {"type": "file"}, 7,
                                                       {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}]}) + STOP),
    Case(id="image-as-text", text="a", images=["https://x.example/i.png", "data:image/png;base64,AA=="],
         stream=chunk({"content": "a", "images": [{"type": "image_url", "image_url": "https://x.example/i.png"}, "data:image/png;base64,AA==", None]}) + STOP),
    Case(id="optional-fields-of-any-type", text="a",
         stream=chunk({"content": "a", "refusal": {}, "audio": 5, "reasoning": {"effort": "low"}, "reasoning_details": "", "thinking_blocks": 0,
                       "provider_specific_fields": [], "annotations": {}, "images": {}, "tool_calls": [], "function_call": {}}, logprobs=7) + STOP),
    Case(id="needed-field-broken", stream=text("a") + chunk({"content": {"x": {}}}) + STOP, text="a", error=(502, "neither a chunk"), oracle=False),
    Case(id="arguments-as-parameters", calls=[("f", '{"price":0.50}')], reason="tool_calls", oracle=False,
         stream=raw(b'{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","parameters":{"price":0.50}}}]}') + CALLS,
         whole=whole({"tool_calls": [{"id": "a", "function": {"name": "f", "parameters": '{"price":0.50}'}}]}, "tool_calls")),
    Case(id="call-without-a-function", calls=[("get_weather", '{"city":"Oslo"}')], reason="tool_calls", oracle=False,
         stream=chunk({"tool_calls": [{"index": 0, "id": "a", "name": "get_weather", "arguments": '{"city":'}]}) + chunk({"tool_calls": [{"index": 0, "arguments": '"Oslo"}'}]}) + CALLS,
         whole=whole({"tool_calls": [{"id": "a", "type": "tool_use", "name": "get_weather", "input": {"city": "Oslo"}}]}, "tool_calls")),
]  # fmt: skip

# U6: what has no choices, usage or error is skipped

U6 = [
    *[Case(id=f"{frame[:30]!r}", stream=frame + text("Hi ") + frame + text("there") + frame + STOP, text="Hi there", oracle=oracle)
      for frame, oracle in [
          (b"data: {}\n\n", False), (b'data: {"type":"keepalive","sequence_number":3}\n\n', False),
          (b'data: {"id":"","object":"","created":0,"model":"","choices":null}\n\n', False), (b"event: ping\ndata: {}\n\n", False),
          (b"event: heartbeat\ndata: 2026-01-01 20:20:50.554328\n\n", False), (b"data:\n\n", False), (b"data: \n\n", False),
          (b'data: {"status":"processing","message":"in the queue"}\n\n', False),
          (b"data: null\n\n", False), (b"data: []\n\n", False), (b"data: ping\n\n", False), (b": ping\n\n", True),
          (b'event: ping\ndata: {"message":"still here"}\n\n', False), (b'data: {"type":"ping","message":"still here"}\n\n', False),
          (b'data: {"choices":[],"usage":null}\n\n', False)]],
    *[Case(id=f"end-mark-{mark!r}", stream=text("Hi") + b"data:" + mark + b"\n\n", text="Hi", oracle=False)
      for mark in (b"\t[DONE]", b" [DONE] ", b'"[DONE]"', b" data: [DONE]")],
    Case(id="keep-alives-then-cut", stream=text("Hi") + b"data: {}\n\n" * 3, text="Hi", error=(502, "cut off"), oracle=False),
    Case(id="nothing-but-text-of-another-dialect", stream=event({"response": "Hel"}) + event({"response": "lo"}) + DONE,
         error=(502, "no chat completion"), oracle=False),
    Case(id="nothing-but-keep-alives-and-the-end-mark", stream=event({"type": "keepalive"}) + DONE, oracle=False),
]  # fmt: skip

# U7: a whole answer inside a stream

U7 = [
    Case(id="completion-as-an-event", stream=event(whole({"content": "Hi"})) + DONE, text="Hi", oracle=False),
    Case(id="completion-without-a-frame", stream=whole({"content": "Hi"}) + b"\n", text="Hi", oracle=False),
    Case(id="chunks-as-json-lines", text="Hi there", oracle=False,
         stream=b"".join(part[6:].replace(b"\n\n", b"\n") for part in (chunk({"content": "Hi "}), chunk({"content": "there"}), chunk(finish="stop")))),
    Case(id="events-without-blank-lines", text="Hi there", oracle=False,
         stream=b"".join(part[:-1] for part in (chunk({"content": "Hi "}), chunk({"content": "there"}), chunk(finish="stop"))) + DONE),
    Case(id="events-in-events", text="Hi there", oracle=False,
         stream=b"".join(b"data:" + part for part in (chunk({"content": "Hi "}), chunk({"content": "there"}), chunk(finish="stop"), DONE))),
    Case(id="texts-of-completions", stream=b"".join(event({"choices": [{"index": 0, "text": piece}]}) for piece in ("Hi ", "there")) + STOP, text="Hi there", oracle=False),
]  # fmt: skip

# U8: the status and the words of an error

PRETTY = b'{\n  "error": {\n    "code": 503,\n    "message": "high demand",\n    "status": "UNAVAILABLE"\n  }\n}\n'
U8 = [
    Case(id="bare-error-first", stream=b'{"error":{"message":"slow down","code":429}}\n', error=(429, "slow down"), oracle=False),
    Case(id="bare-error-midway", stream=text("Half ") + PRETTY, text="Half ", error=(503, "high demand"), oracle=False),
    Case(id="bare-error-midway-in-a-list", stream=text("Half ") + b"[" + PRETTY.strip() + b"]\n\n", text="Half ", error=(503, "high demand"), oracle=False),
    Case(id="bare-error-right-after-data", stream=text("Half ")[:-1] + PRETTY, text="Half ", error=(503, "high demand"), oracle=False),
    Case(id="error-cut-before-its-blank-line", stream=text("Half ") + event({"error": {"message": "gone", "code": 500}})[:-2],
         text="Half ", error=(500, "gone"), oracle=False),
    Case(id="named-error-in-words", stream=text("Half ") + b"event: error\ndata: out of memory\n\n", text="Half ", error=(502, "out of memory"), oracle=False),
    *[Case(id=f"error-field-{end!r}", text="Half ", error=(503, "no slot"), oracle=False,
           stream=text("Half ") + b'error: {"code":503,"message":"no slot","type":"server_error"}' + end) for end in (b"\n\n", b"\n")],
    *[Case(id=f"base_resp-{code}", stream=event({"id": "1", "choices": None, "usage": {"total_tokens": 0}, "base_resp": base}), error=error, oracle=False,
           whole=msgspec.json.encode({"id": "1", "choices": None, "base_resp": base}))
      for code, error in [(1008, (502, "credentials")), (1004, (502, "credentials")), (1002, (429, "m")), (1039, (429, "m")), (2013, (400, "m")),
                          (1013, (500, "m")), (1026, (400, "m")), (7777, (502, "m"))]
      for base in [{"status_code": code, "status_msg": "m"}]],
    Case(id="base_resp-of-success", text="Hi", stream=b"".join(
        chunk({"content": piece}, finish, base_resp={"status_code": 0, "status_msg": ""}) for piece, finish in (("H", None), ("i", None), ("", "stop"))) + DONE),
    *[Case(id=f"other-form-{at}", stream=event(value), error=error, oracle=False, whole=msgspec.json.encode(value)) for at, (value, error) in enumerate([
        ({"error_code": 18, "error_msg": "too many"}, (502, "too many")),
        ({"code": 500, "msg": "down", "success": False}, (500, "down")),
        ({"success": False, "errors": [{"code": 429, "message": "slow"}], "result": None}, (429, "slow")),
        ({"status_code": 503, "detail": "busy"}, (503, "busy")),
        ({"error": 503, "message": "busy"}, (503, "busy")),
        ({"error": True, "reason": "busy"}, (502, "busy")),
        ({"status": 503, "error": "Service Unavailable", "message": "no replica", "path": "/v1"}, (503, "no replica")),
        ({"error": "invalid_request", "error_description": "no such grant"}, (400, "no such grant")),
        ({"error": {"message": "", "detail": "busy"}}, (502, "busy")),
        ({"fault": {"faultstring": "over quota", "detail": {"errorcode": "policies.ratelimit.QuotaViolation"}}}, (502, "over quota")),
        ({"Message": "no such role"}, (502, "no such role")),
        ({"status": "error", "msg": "down"}, (502, "down")),
        ({"throttlingException": {"message": "slow down"}}, (429, "slow down")),
        ({"modelStreamErrorException": {"message": "broken", "originalStatusCode": 500}}, (502, "broken")),
        ({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "over the limit"}, (429, "over the limit")),
        ({"error": "too long", "error_type": "validation"}, (422, "too long")),
        ({"error": {"code": "data_inspection_failed", "message": "inappropriate"}}, (400, "inappropriate")),
        ({"header": {"code": 10013, "message": "not allowed", "sid": "x"}}, (502, "not allowed")),
    ])],
    Case(id="words-in-details-of-the-message", oracle=False, error=(400, "Field required"),
         stream=event({"object": "error", "message": {"detail": [{"loc": ["body", "x"], "msg": "Field required"}]}, "type": "invalid_request_error"})),
    Case(id="an-inner-error-of-words-alone", oracle=False, error=(429, "slow down"),
         stream=event({"error": {"message": '{"error":"slow down"}', "type": "rate_limit_error", "code": "429"}})),
    Case(id="problem-details", oracle=False, error=(429, "Too Many Requests"),
         stream=event({"type": "about:blank", "title": "Too Many Requests", "status": 429, "instance": "/v1/chat"})),
]  # fmt: skip

# U9: reasoning

U9 = [
    Case(id="details", reasoning="let me think", text="4", signature="c2ln",
         stream=chunk({"reasoning_details": [{"type": "reasoning.text", "text": "let me "}]})
         + chunk({"reasoning_details": [{"type": "reasoning.text", "text": "think", "signature": "c2ln"}, {"type": "reasoning.encrypted", "data": "eA=="}]})
         + text("4") + STOP,
         whole=whole({"content": "4", "reasoning_details": [{"type": "reasoning.text", "text": "let me think", "signature": "c2ln"}]})),
    Case(id="details-beside-text", stream=chunk({"reasoning": "hm", "reasoning_details": [{"text": "hm"}]}) + text("4") + STOP, reasoning="hm", text="4"),
    Case(id="summary-details", stream=chunk({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}) + text("4") + STOP, reasoning="hm", text="4"),
    Case(id="parts-with-a-summary", reasoning="let me think", text="Answer is 4", signature="c2ln", oracle=False,
         stream=chunk({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "let me think", "signature": ""}]}]})
         + chunk({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "", "signature": "c2ln"}]}]})
         + chunk({"content": [{"type": "text", "text": "Answer"}]}) + text(" is 4") + STOP,
         whole=whole({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "let me think", "signature": "c2ln"}]},
                                  {"type": "text", "text": "Answer is 4"}]})),
    Case(id="thinking-parts", stream=chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}) + text("4") + STOP,
         reasoning="hm", text="4", oracle=False),
    Case(id="thinking-word", stream=chunk({"thinking": "hm"}) + chunk({"reasoning_text": "m"}) + text("4") + STOP, reasoning="hmm", text="4"),
    Case(id="reasoning-as-list", stream=chunk({"reasoning_content": [{"type": "text", "text": "hm"}]}) + text("4") + STOP, reasoning="hm", text="4"),
    Case(id="thought-of-gemini", reasoning="hm", text="4", oracle=False,
         stream=chunk({"content": "hm", "extra_content": {"google": {"thought": True}}}) + text("4") + STOP),
]  # fmt: skip

# U10: sources

PAGES = [("https://a.example/1", "A"), ("https://b.example/2", "")]
CITED = {
    "citations": [url for url, _ in PAGES],
    "search_results": [{"title": "A", "url": PAGES[0][0], "date": "2026-01-01"}],
}
U10 = [
    Case(id="of-the-chunk", stream=b"".join(chunk({"content": piece}, **CITED) for piece in ("It is", " so", " [1].")) + chunk(finish="stop", **CITED) + DONE,
         text="It is so [1].", sources=PAGES, whole=whole({"content": "It is so [1]."}, **CITED)),
    Case(id="of-the-last-chunk", stream=text("It is so.") + chunk(finish="stop", **CITED) + DONE, text="It is so.", sources=PAGES),
    Case(id="of-a-chunk-alone", stream=text("It is so.") + event({"id": "1", **CITED}) + STOP, text="It is so.", sources=PAGES, oracle=False),
    Case(id="of-the-delta", stream=chunk({"content": "a", "citations": CITED["search_results"]}) + STOP, text="a", sources=PAGES[:1]),
]  # fmt: skip

# U11: several choices where one was asked for

U11 = [
    Case(id="call-in-the-second", text="Look. ", calls=[("f", "{}")], reason="tool_calls", oracle=False,
         stream=text("Look. ") + chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]}, index=1)
         + chunk(finish="stop") + chunk(finish="tool_calls", index=1) + DONE,
         whole=msgspec.json.encode({"id": "1", "model": "m", "choices": [
             {"index": 0, "message": {"content": "Look. "}, "finish_reason": "stop"},
             {"index": 1, "message": {"content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}]})),
    Case(id="calls-in-both", calls=[("f", '{"a":1}'), ("g", "{}")], reason="tool_calls", oracle=False,
         stream=call("f", '{"a":', "a") + call("g", "{}", "b").replace(b'"index":0,"delta"', b'"index":1,"delta"') + call(arguments="1}")
         + chunk(finish="tool_calls") + chunk(finish="tool_calls", index=1) + DONE),
    Case(id="only-index-1", stream=chunk({"content": "Hi there"}, index=1) + chunk(finish="stop", index=1) + DONE, text="Hi there"),
    Case(id="only-index-1-without-sentinel", stream=chunk({"content": "Hi"}, index=1) + chunk(finish="stop", index=1), text="Hi"),
]  # fmt: skip

# U12: tool calls told apart

U12 = [
    Case(id="named-at-index-0", stream=call(*TWO[0]) + call(*TWO[1]) + CALLS, calls=TWO, reason="tool_calls"),
    Case(id="named-at-index-0-in-pieces", calls=TWO, reason="tool_calls",
         stream=call("get_weather", '{"city":') + call(arguments='"Oslo"}') + call("get_time", "") + call(arguments='{"tz":"CET"}') + CALLS),
    Case(id="same-name-at-index-0", stream=call(*SAME[0]) + call(*SAME[1]) + CALLS, calls=SAME, reason="tool_calls"),
    Case(id="same-name-at-index-0-in-one-chunk", calls=SAME, reason="tool_calls",
         stream=chunk({"tool_calls": [{"index": 0, "function": {"name": n, "arguments": a}} for n, a in SAME]}) + CALLS),
    Case(id="id-before-name", calls=TWO, reason="tool_calls",
         stream=call("get_weather", "", "a") + call(arguments='{"city":"Oslo"}') + call(id="b") + call("get_time", "") + call(arguments='{"tz":"CET"}') + CALLS),
    Case(id="arguments-before-name", calls=TWO[:1], reason="tool_calls", stream=call(arguments='{"city":', id="a") + call("get_weather", '"Oslo"}') + CALLS),
    Case(id="name-repeated-in-every-piece", calls=TWO[:1], reason="tool_calls", stream=call("get_weather", '{"city":') + call("get_weather", '"Oslo"}') + CALLS),
    Case(id="id-changes-with-every-piece", calls=TWO[:1], reason="tool_calls", stream=call("get_weather", '{"city":', "a") + call(arguments='"Oslo"}', id="b") + CALLS),
    Case(id="brace-in-a-string", calls=[("f", '{"a":"}{"}')], reason="tool_calls", stream=call("f", '{"a":"}', "a") + call(arguments='{"}') + CALLS),
    Case(id="arguments-alone", stream=call("f", "", "a") + call("", '{"q":"a"}') + call("", '{"q":"b"}') + CALLS, error=(502, "told apart"), oracle=False),
    Case(id="in-turns-at-index-0-by-id", calls=[("f", '{"a":1}'), ("g", '{"b":2}')], reason="tool_calls", oracle=False,
         stream=call("f", '{"a":', "a") + call("g", '{"b":', "b") + call(arguments="1}", id="a") + call(arguments="2}", id="b") + CALLS),
    Case(id="two-in-one-piece", stream=call("f", '{"q":"a"}{"q":"b"}', "a") + CALLS, error=(502, "as those of one"), oracle=False,
         whole=whole({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": '{"q":"a"} {"q":"b"}'}}]}, "tool_calls")),
    Case(id="without-a-name", stream=call(None, '{"q":"a"}', "a") + CALLS, error=(502, "without naming it"), oracle=False),
    *[Case(id=f"name-in-pieces-{id}-{rest!r}", calls=TWO[:1], reason="tool_calls",
           stream=call("get_wea", "", "a") + call(rest, "", id) + call(arguments='{"city":"Oslo"}') + CALLS)
      for id in (None, "a") for rest in ("ther", "get_weather")],
    Case(id="calls-without-arguments", calls=[("f", ""), ("g", "")], reason="tool_calls", stream=call("f", "", "a") + call("g", "", "b") + CALLS),
    Case(id="arguments-so-far-in-every-piece", stream=call("f", '{"q"', "a") + call(arguments='{"q":"a"}') + CALLS, calls=[], error=(502, "repeats"), oracle=False),
    Case(id="one-id-for-all", calls=SAME, reason="tool_calls", stream=call(*SAME[0], id="a") + call(*SAME[1], id="a", index=1) + CALLS,
         whole=whole({"tool_calls": [{"id": "a", "function": {"name": n, "arguments": a}} for n, a in SAME]}, "tool_calls")),
    Case(id="calls-announced-and-none-made", stream=CALLS, error=(502, "gave the answer up"), oracle=False, whole=whole({"content": None}, "tool_calls")),
]  # fmt: skip

# U15: usage

COUNTS = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
U15 = [
    Case(id="in-the-choice", stream=text("Hi") + chunk(finish="stop", choice={"usage": {**COUNTS, "cached_tokens": 4}}) + DONE, text="Hi",
         usage=Usage(11, 7, cached_tokens=4)),
    Case(id="of-groq", stream=text("Hi") + chunk(finish="stop", x_groq={"id": "x", "usage": COUNTS}) + DONE, text="Hi", usage=Usage(11, 7)),
    Case(id="reasoning-outside", text="81", usage=Usage(21, 60, reasoning_tokens=60),
         stream=text("81") + chunk(finish="stop", usage={"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81,
                                                         "completion_tokens_details": {"reasoning_tokens": 60}}) + DONE),
    Case(id="reasoning-beside-the-output", text="81", usage=Usage(21, 65, reasoning_tokens=60),
         stream=text("81") + chunk(finish="stop", usage={"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 86,
                                                         "completion_tokens_details": {"reasoning_tokens": 60}}) + DONE),
    Case(id="numbers-as-text", stream=text("Hi") + chunk(finish="stop", usage={"prompt_tokens": "11", "completion_tokens": "7"}) + DONE, text="Hi", usage=Usage(11, 7)),
    Case(id="names-of-responses", stream=text("Hi") + chunk(finish="stop", usage={"input_tokens": 11, "output_tokens": 7}) + DONE, text="Hi", usage=Usage(11, 7)),
    Case(id="nothing-for-an-answer", text="Hi", usage=None,
         stream=text("Hi") + chunk(finish="stop", usage={"prompt_tokens": 11, "completion_tokens": 0, "total_tokens": 11}) + DONE),
    Case(id="zeros-after-counts", text="Hi", usage=Usage(11, 7),
         stream=chunk({"content": "Hi"}, usage=COUNTS) + chunk(finish="stop", usage=dict.fromkeys(COUNTS, 0)) + DONE),
]  # fmt: skip


def of(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.id for case in cases])


@of(U1)
def test_U1_an_error_before_the_end_mark_is_an_error(case):
    check(case)


@of(U2)
def test_U2_a_finish_reason_is_not_trusted_against_the_stream(case):
    check(case)


@of(U3)
def test_U3_repeated_content_is_passed_on_once(case):
    check(case)


@of(U4)
def test_U4_a_finish_reason_is_reported_as_what_it_means(case):
    check(case)


@of(U5)
def test_U5_odd_types_do_not_break_an_answer_and_text_is_reported_as_written(case):
    check(case)


@of(U6)
def test_U6_what_has_no_choices_usage_or_error_is_skipped(case):
    check(case)


@of(U7)
def test_U7_a_whole_answer_inside_a_stream_is_read(case):
    check(case)


@of(U8)
def test_U8_an_error_keeps_its_status_and_its_words(case):
    check(case)


@of(U9)
def test_U9_reasoning_is_read_in_every_form(case):
    check(case)


@of(U10)
def test_U10_sources_are_read_in_every_form_and_passed_on_once(case):
    check(case)


@of(U11)
def test_U11_several_choices_are_one_answer_where_one_was_asked_for(case):
    check(case)


@of(U12)
def test_U12_tool_calls_are_distinguished_or_are_an_error(case):
    check(case)


@of(U15)
def test_U15_usage_is_read_wherever_it_stands(case):
    check(case)


@of([case for case in U12 if case.error is None])
def test_U12_a_client_of_this_dialect_gets_indexes_that_tell_the_calls_apart(case):
    calls = {}
    writer = OpenAIWriter(id="c", model="m", created=1)
    out = b"".join(writer.feed(batch) for batch in read(case.stream, [case.stream], keep=True)[1])
    for frame in out.split(b"\n\n")[:-2]:
        for piece in msgspec.json.decode(frame[6:])["choices"][0]["delta"].get("tool_calls") or ():
            name, arguments = calls.get(piece["index"], ("", ""))
            function = piece.get("function") or {}
            more = function.get("name", "")
            name = name if name.startswith(more) else more if more.startswith(name) else name + more
            calls[piece["index"]] = (name, arguments + function.get("arguments", ""))
    assert list(calls.values()) == case.calls


def test_U2_a_reason_with_content_waits_for_more_and_a_plain_one_does_not():
    for pieces, finished in [
        ((chunk({"content": "a"}, "stop"),), False),
        ((text("a"), chunk({"content": ""}, "stop")), False),
        ((text("a"), chunk(finish="stop")), True),
        ((text("a"), chunk({"role": "assistant", "content": None}, "stop")), True),
        ((text("a"), chunk(finish="stop"), text("b")), False),
        ((text("a", "b", "c"), chunk(finish="stop"), text("d")), False),
        ((chunk({"content": "a"}, "stop"), event({"choices": [], "usage": COUNTS})), True),
    ]:
        decoder = StreamDecoder(LIMIT)
        for piece in pieces:
            decoder.feed(piece)
        assert decoder.finished is finished, pieces


def by_the_sdk(stream):
    """What the official SDK reads of a stream: the text and the calls of the first choice it sees."""
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=stream)
    )
    with openai.OpenAI(
        api_key="k", base_url="http://upstream.test", http_client=httpx.Client(transport=transport), max_retries=0
    ) as client:
        words, calls, failed = [], {}, False
        try:
            for part in client.chat.completions.create(model="m", messages=[], stream=True):
                for choice in part.choices or ():
                    delta = choice.delta or None
                    words.append(delta.content if delta and isinstance(delta.content, str) else "")
                    for piece in (delta and delta.tool_calls) or ():
                        calls.setdefault(str(piece.index), []).append(
                            (piece.function.arguments if piece.function else "") or ""
                        )
        except openai.APIError:
            failed = True
    return "".join(words), "".join(itertools.chain(*calls.values())), failed


ORACLE = [case for row in (U1, U2, U3, U4, U5, U6, U9, U10, U11, U12, U15) for case in row if case.oracle]


@of(ORACLE)
def test_the_official_sdk_asked_directly_reads_the_same(case):
    words, arguments, failed = by_the_sdk(case.stream)
    assert words == case.text
    assert arguments == "".join(arguments for _, arguments in case.calls)
    assert failed <= (case.error is not None)
