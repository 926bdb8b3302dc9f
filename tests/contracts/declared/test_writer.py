"""Answers of declared contracts: the bytes each template makes, what no text can break, and ends that are true."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.frontends import FrontendSettings
from proxy.config.templates import STREAM_TEMPLATES
from proxy.contracts.ai_sdk.text_writer import AITextWriter
from proxy.contracts.chat.writer import ChatWriter
from proxy.contracts.declared.contract import Contract
from proxy.contracts.declared.writer import DeclaredWriter
from proxy.errors import (
    BadRequest,
    ProxyError,
    RateLimited,
    Unauthorized,
    UntoldAnswer,
    UpstreamTimeout,
    UpstreamTruncated,
)
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    RefusalDelta,
    Source,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, ToolCall, Usage
from tests.support.answers import HOSTILE_PIECES, split_bytes, with_lf
from tests.support.declared import CHAT_JSON, contract, response, writer, written
from tests.support.readers import ConformantReader, FetchEventSourceReader, event_text, read, seed_text
from tests.support.ui_events import EXAMPLES, answers
from tests.wire.test_token_frames import GOLDEN, TOKENS

ERROR = UpstreamTruncated("far: the answer broke off")
TEXTS = st.sampled_from(HOSTILE_PIECES) | st.text(min_size=1)
EVENTS = st.one_of(
    st.builds(TextDelta, TEXTS),
    st.builds(ReasoningDelta, TEXTS),
    st.builds(RefusalDelta, TEXTS),
    st.builds(Notice, st.just("x"), st.text()),
    st.builds(Source, st.text(), st.text()),
)
ENDS = st.sampled_from([Finish(), Finish("length", Usage(3, 4)), Fault(ERROR), Fault(RateLimited("a\r\n\r\nb"))])


def fed(one, *events):
    return b"".join([one.feed(Batch([event])) for event in events])


# The dialect `json` of `/chat`, declared


def test_the_json_dialect_of_chat_declared_is_golden():
    assert written(contract(CHAT_JSON), *map(TextDelta, TOKENS), Finish()) == (GOLDEN / "chat-json.txt").read_bytes()


CHAT_JSON_CONTRACT = contract(CHAT_JSON)


@given(st.lists(EVENTS), ENDS, st.lists(st.integers(1, 4)))
def test_the_json_dialect_of_chat_declared_is_the_built_in_one_byte_for_byte(events, end, sizes):
    events = [event for event in events if not isinstance(event, Notice | Media)]  # a field of it may be missing
    events = [Start("1", "far-1"), *events, end]
    batches, start = [], 0
    for size in sizes:
        batches.append(Batch(events[start : start + size]))
        start += size
    batches.append(Batch(events[start:]))
    declared, built_in = writer(CHAT_JSON_CONTRACT), ChatWriter("json", request_id="req-1")
    assert [declared.feed(batch) for batch in batches] == [built_in.feed(batch) for batch in batches]
    assert declared.ping() == b": ping\n\n"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_text_streams_of_the_ai_sdk_declared_are_the_built_in_ones(name):
    declared, built_in = response("framing: raw\ntoken: $text"), AITextWriter()
    assert written(declared, *EXAMPLES[name]) == b"".join(built_in.feed(Batch([event])) for event in EXAMPLES[name])
    assert (declared.content_type, declared.response.cuts) == ("text/plain; charset=utf-8", True)
    assert writer(declared).ping() == b""


# What templates write

TOOLS = (
    Start("1", "far-1"),
    ToolCallStart(0, "call_a", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallStart(1, "call_b", "now"),
    ToolCallDelta(0, '\n "Rome"}'),
    Finish("tool_calls"),
)


@pytest.mark.parametrize(
    ("text", "events", "wire"),
    [
        ("token: {text: $text}", [TextDelta('a"\n')], 'data: {"text":"a\\"\\n"}\n\n'),
        ("token: [$text, 1, null, true, 1.5, {}]", [TextDelta("a")], 'data: ["a",1,null,true,1.5,{}]\n\n'),
        ('token: {t: "<$text|$id>"}', [TextDelta('"')], 'data: {"t":"<\\"|req-1>"}\n\n'),
        ("token: {t: $text.json}", [TextDelta('"')], 'data: {"t":"\\"\\\\\\"\\""}\n\n'),
        ("token: $text.json", [TextDelta("a\nb")], 'data: "a\\nb"\n\n'),
        ('token: "0:$text.json"', [TextDelta("a\nb")], 'data: 0:"a\\nb"\n\n'),
        ('token: "<$text>"', [TextDelta("a\n\nb")], "data: <a\ndata: \ndata: b>\n\n"),
        ('token: "<$text>"', [TextDelta("a\r"), TextDelta("\nb")], "data: <a>\n\ndata: <\ndata: b>\n\n"),
        ('token: {t: $text}\ndata_prefix: "data:"', [TextDelta("a")], 'data:{"t":"a"}\n\n'),
        ('token: " $text"\ndata_prefix: "data:"', [TextDelta("a\n b")], "data:  a\ndata:  b\n\n"),
        ("token: {t: $text}\nevents: {token: tok}", [TextDelta("a")], 'event: tok\ndata: {"t":"a"}\n\n'),
        ("token: {t: $text}\nline_ends: lf", [TextDelta("a\r"), TextDelta("\nb"), Finish()], 'data: {"t":"a"}\n\ndata: {"t":"\\nb"}\n\n'),
        ("token: {t: $text}\nline_ends: lf", [TextDelta("a\r"), Finish()], 'data: {"t":"a"}\n\ndata: {"t":"\\n"}\n\n'),
        ("token: {t: $text}", [TextDelta("a\r")], 'data: {"t":"a\\r"}\n\n'),
        ("token: {t: $text}", [TextDelta("\ud83d")], 'data: {"t":"\ufffd"}\n\n'),
        ('token: {t: "$text."}', [TextDelta("\ud83d")], 'data: {"t":"\ufffd."}\n\n'),
        ("token: {t: $text}", [RefusalDelta("No.")], 'data: {"t":"No."}\n\n'),
        ("token: {t: $text}", [ReasoningDelta("Hm"), Notice("a", "b"), Source("u"), Media("m", "u"), *TOOLS[:-1]], ""),
        ("token: {t: $text}\nnotice: {n: $message, c: $code, p: $param}", [Notice("a", "b", "c")], 'data: {"n":"b","c":"a","p":"c"}\n\n'),
        ("framing: ndjson\ntoken: {t: $text}", [TextDelta("a\n")], '{"t":"a\\n"}\n'),
        ("framing: ndjson\ntoken: {t: $text}", [TextDelta("é\x85\u2028\u2029")], '{"t":"é\\u0085\\u2028\\u2029"}\n'),
        ("framing: raw\ntoken: $text", [TextDelta("a\r\n"), TextDelta("é")], "a\r\né"),
        ('framing: raw\ntoken: "$text "', [TextDelta("a")], "a "),
        ("token: {t: $text}\nreasoning: {r: $text}", [ReasoningDelta("Hm"), TextDelta("a")], 'data: {"r":"Hm"}\n\ndata: {"t":"a"}\n\n'),
        ("token: {t: $text}\nstart: {id: $id, at: $created}", [Start("1", "m"), TextDelta("a"), Start("2", "n")], 'data: {"id":"req-1","at":1700000000}\n\ndata: {"t":"a"}\n\n'),
        ("token: {t: $text}\nsource: {u: $url, n: $title}", [Source("http://a", "A")], 'data: {"u":"http://a","n":"A"}\n\n'),
        ("token: {t: $text}\nmedia: {u: $url, m: $media_type}", [Media("image/png", "http://a")], 'data: {"u":"http://a","m":"image/png"}\n\n'),
        ("token: {t: $text}\ntool_call: {i: $call_index, id: $call_id, n: $name, a: $arguments}", TOOLS, 'data: {"i":0,"id":"call_a","n":"weather","a":{"city":"Rome"}}\n\ndata: {"i":1,"id":"call_b","n":"now","a":{}}\n\n'),
        ("token: {t: $text}\ntool_call: {a: $arguments_text, j: $arguments.json}", TOOLS[:-3] + TOOLS[-1:], 'data: {"a":"{\\"city\\":","j":"\\"{\\\\\\"city\\\\\\":\\""}\n\n'),
        ("token: {t: $text}\ntool_call_start: {id: $call_id, n: $name}\ntool_call_delta: {i: $call_index, a: $arguments_text}", TOOLS[:3], 'data: {"id":"call_a","n":"weather"}\n\ndata: {"i":0,"a":"{\\"city\\":"}\n\n'),
        ("token: {t: $text}\nusage: {in: $input_tokens, all: $total_tokens}\ndone: {why: $finish_reason}", [Finish("length", Usage(3, 4))], 'data: {"in":3,"all":7}\n\ndata: {"why":"length"}\n\n'),
        ("token: {t: $text}\nusage: {in: $input_tokens}\ndone: {in: $input_tokens, end: 1}", [Finish()], 'data: {"in":null,"end":1}\n\n'),
        ("token: {t: $text}\ndone: {why: $finish_reason}\nfinish_reasons: {length: cut}", [Finish("length")], 'data: {"why":"cut"}\n\n'),
        ("token: {t: $text}\ndone: {all: $answer, d: 1}", [TextDelta("a"), RefusalDelta("b"), Finish()], 'data: {"t":"a"}\n\ndata: {"t":"b"}\n\ndata: {"all":"ab","d":1}\n\n'),
        ("token: {t: $text}\ndone: '[DONE]'", [TextDelta("[DONE]"), Finish()], 'data: {"t":"[DONE]"}\n\ndata: [DONE]\n\n'),
        ("token: $text\ndone: '[DONE]'", [TextDelta("[DONE]"), Finish()], "data: [DONE\n\ndata: ]\n\ndata: [DONE]\n\n"),
        ("token: $text\nreasoning: $text\nevents: {reasoning: hm}", [ReasoningDelta("Let me"), TextDelta("A b"), Finish()], "event: hm\ndata: Let m\n\nevent: hm\ndata: e\n\ndata: A b\n\n"),
        ("token: $text\nsource: {u: $url}", [TextDelta("ab"), Source("u"), TextDelta("c"), Finish()], 'data: a\n\ndata: b\n\ndata: {"u":"u"}\n\ndata: c\n\n'),
        ("token: $text\nbare_text: text\ndone: '[DONE]'", [TextDelta(" a"), TextDelta("b "), Finish()], "data: a\n\ndata:b\n\ndata: [DONE]\n\n"),
        ("token: $text\nbare_text: both", [TextDelta("ab"), Finish()], " data:ab\n\n:\ndata:a\n\n:\ndata:b\n\n"),
        ("token: {t: $text}\nerror: {e: $message, c: $code, s: $status, r: $retryable, a: $retry_after, p: $param, y: $type}", [Fault(RateLimited("slow\r\ndown", retry_after=1.5))], 'data: {"e":"slow down","c":"rate_limited","s":429,"r":true,"a":1.5,"p":null,"y":"rate_limit_error"}\n\n'),
        ("token: {t: $text}\nerror: 'Sorry: $message'\nevents: {error: error}", [Fault(ERROR)], "event: error\ndata: Sorry: far: the answer broke off\n\n"),
        ("token: {t: $text}", [TextDelta("a"), Fault(ERROR)], 'data: {"t":"a"}\n\n'),
    ],
)  # fmt: skip
def test_a_template_writes_these_bytes(text, events, wire):
    assert written(response(text), *events) == wire.encode()


def test_what_the_upstream_calls_its_model_is_said_from_then_on():
    declared = response("token: {t: $text, m: $model}\nstart: {m: $model}\nreasoning: {r: $text, m: $model}")
    one = writer(declared, model="asked")
    assert one.feed(Batch([TextDelta("a")])) == b'data: {"t":"a","m":"asked"}\n\n'
    assert one.feed(Batch([Start("1", "far")])) == b'data: {"m":"far"}\n\n'
    assert one.feed(Batch([TextDelta("a"), ReasoningDelta("b")])) == (
        b'data: {"t":"a","m":"far"}\n\ndata: {"r":"b","m":"far"}\n\n'
    )
    assert written(declared, Start("1", ""), model="asked") == b'data: {"m":"asked"}\n\n'


def test_a_upstream_that_takes_over_in_the_middle_loses_nothing_that_was_held_back():
    declared = response('token: "$text"\nreasoning: "<$text@$model>"\nevents: {reasoning: r}')
    wire = written(declared, Start("1", "a"), TextDelta("ab\r"), Start("2", "b"), TextDelta("\nc"), Finish())
    assert event_text(wire) == "ab\nc"


def test_fields_of_the_request_are_repeated():
    declared = response('token: {t: $text, c: $request.chat.id, n: $request.n}\nerror: {e: $message, c: "#$request.n"}')
    assert declared.echoed == {"request.chat.id": ("chat", "id"), "request.n": ("n",)}
    wire = written(declared, TextDelta("a"), Fault(ERROR), **{"chat.id": 'x"\n', "n": None})
    assert wire == b'data: {"t":"a","c":"x\\"\\n","n":null}\n\ndata: {"e":"far: the answer broke off","c":"#"}\n\n'


def test_frames_of_two_answers_have_nothing_to_do_with_each_other():
    declared = response("token: {t: $text, id: $id, m: $model}")
    one = DeclaredWriter(declared, id="a", model="m", created=0, echoed={})
    other = DeclaredWriter(declared, id="b", model="n", created=0, echoed={})
    assert fed(one, Start("", "far"), TextDelta("x")) == b'data: {"t":"x","id":"a","m":"far"}\n\n'
    assert fed(other, TextDelta("x")) == b'data: {"t":"x","id":"b","m":"n"}\n\n'


def test_tokens_that_come_together_may_be_joined():
    batch = Batch([TextDelta("a"), TextDelta("b"), ReasoningDelta("c"), TextDelta("d"), RefusalDelta("e"), Finish()])
    text = "token: {t: $text}\nreasoning: {r: $text}\ndone: {d: $answer}\njoin: true"
    wire = writer(response(text)).feed(batch).decode()
    assert wire.split("\n\n")[:-1] == [
        'data: {"t":"ab"}', 'data: {"r":"c"}', 'data: {"t":"d"}', 'data: {"t":"e"}', 'data: {"d":"abde"}'
    ]  # fmt: skip


# Heartbeats


@pytest.mark.parametrize(
    ("text", "ping"),
    [
        ("token: {t: $text}", b": ping\n\n"),
        ("token: $text\nbare_text: both", b": ping\n\n"),
        ("token: {t: $text}\nheartbeat: false", b""),
        ("token: {t: $text}\nheartbeat: {t: ''}", b'data: {"t":""}\n\n'),
        (
            "token: {t: $text}\nheartbeat: {ping: $id}\nevents: {heartbeat: ping}",
            b'event: ping\ndata: {"ping":"req-1"}\n\n',
        ),
        ("framing: ndjson\ntoken: {t: $text}", b""),
        ("framing: ndjson\ntoken: {t: $text}\nheartbeat: {ping: 1}", b'{"ping":1}\n'),
        ("framing: raw\ntoken: $text", b""),
    ],
)
def test_a_heartbeat_is_the_framings_own_or_what_is_declared(text, ping):
    assert writer(response(text)).ping() == ping


def test_a_heartbeat_that_is_a_frame_does_not_come_before_the_beginning():
    one = writer(response("token: {t: $text}\nstart: {s: 1}\nheartbeat: {h: 1}"))
    assert one.ping() == b""
    one.feed(Batch([Start("1", "m")]))
    assert one.ping() == b'data: {"h":1}\n\n'


# Whatever the model writes: read back by standard readers, and compared with what the template says

CONTRACTS = {
    "events": response(
        """
        start: {type: start, id: $id}
        token: {type: token, data: {text: $text}, in: "<$text>"}
        reasoning: {type: thought, text: $text}
        tool_call_start: {type: call, id: $call_id, name: $name}
        tool_call_delta: {type: arguments, id: $call_id, text: $arguments_text}
        tool_call: {type: called, id: $call_id, arguments: $arguments}
        source: {type: source, url: $url, title: $title}
        media: {type: media, url: $url, of: $media_type}
        notice: {type: notice, code: $code, text: $message, of: $param}
        usage: {type: usage, out: $output_tokens}
        done: {type: done, why: $finish_reason, all: $answer}
        error: {type: error, message: $message}
        heartbeat: {type: ping}
        events: {start: start, done: done, error: error, heartbeat: ping}
        """
    ),
    "lines": response(
        """
        framing: ndjson
        start: {type: start, id: $id}
        token: {type: token, text: $text}
        reasoning: {type: thought, text: $text}
        tool_call: {type: called, id: $call_id, name: $name, arguments: $arguments, text: $arguments_text}
        source: {type: source, url: $url, title: $title}
        usage: {type: usage, out: $output_tokens}
        done: {type: done, why: $finish_reason}
        error: {type: error, message: $message}
        heartbeat: {type: ping}
        """
    ),
    "text lines": response(
        """
        framing: ndjson
        token: '["token",$text.json]'
        reasoning: '["thought",$text.json]'
        tool_call: '["called",$call_id.json,$arguments.json]'
        done: '["done",$finish_reason.json]'
        error: '["error",$message.json]'
        """
    ),
}  # fmt: skip


def lines(wire):
    """A reader of JSON lines, and one that takes for a line end whatever Python's `splitlines` does, as httpx does."""
    assert wire == b"" or wire.endswith(b"\n")
    text = wire.decode()
    assert text.split("\n")[:-1] == text.splitlines()
    return [("message", line) for line in text.split("\n")[:-1]]


def filled(template, values):
    """What a template stands for, found in another way than by compiling it."""
    match template:
        case dict():
            return {key: filled(inner, values) for key, inner in template.items()}
        case list():
            return [filled(inner, values) for inner in template]
        case str() if template.startswith("$") and template[1:] in values:
            return values[template[1:]]
        case str():

            def text(found):
                value = values[found[1]]
                return json.dumps(value, ensure_ascii=False) if found[2] else str(value)

            return re.sub(r"\$([a-z_]+)(\.json)?", text, template)
        case _:
            return template


def expected(declared, events):
    """(template, payload) of each frame that these events are."""
    templates, calls, frames, said = declared.response, {}, [], ""

    def frame(kind, **values):
        template = getattr(templates, kind)
        if template is not None:
            payload = filled(template, {"id": "req-1", "model": "m", "created": 1_700_000_000, **values})
            frames.append((kind, json.loads(payload) if isinstance(payload, str) else payload))

    for event in events:
        match event:
            case Start():
                frame("start")
            case TextDelta(text) | RefusalDelta(text):
                said += text
                frame("token", text=text)
            case ReasoningDelta(text):
                frame("reasoning", text=text)
            case ToolCallStart(index, id_, name):
                calls[index] = [id_, name, ""]
                frame("tool_call_start", call_id=id_, call_index=index, name=name)
            case ToolCallDelta(index, arguments):
                calls[index][2] += arguments
                id_, name, _ = calls[index]
                frame("tool_call_delta", call_id=id_, call_index=index, name=name, arguments_text=arguments)
            case Source(url, title):
                frame("source", url=url, title=title)
            case Media(media_type, url):
                frame("media", url=url, media_type=media_type)
            case Notice(code, message, param):
                frame("notice", code=code, message=message, param=param)
            case Finish(reason, usage):
                for index, (id_, name, text) in sorted(calls.items()):
                    value = json.loads(text or "{}")
                    frame("tool_call", call_id=id_, call_index=index, name=name, arguments=value, arguments_text=text)
                if usage:
                    frame("usage", output_tokens=usage.output_tokens)
                frame("done", finish_reason=reason, answer=said)
            case Fault(error):
                frame("error", message=error.message)
            case _:
                pass
    return frames


@pytest.mark.parametrize("name", CONTRACTS)
@given(answers(), st.lists(TEXTS), st.randoms(use_true_random=False), st.integers(0, 20))
def test_h01_what_is_written_is_read_back_and_nothing_else(name, events, tokens, random, ping_at):
    declared = CONTRACTS[name]
    told = Media if "media" in declared.frames else ()
    events = [event for event in events if isinstance(event, told) or not isinstance(event, Media)]
    events = [events[0], *map(TextDelta, tokens), *events[1:]]
    one = writer(declared, model="m")
    wire = b""
    pings = 0
    for number, event in enumerate(events):
        if number == ping_at:
            wire += (ping := one.ping())
            pings += bool(ping)
        wire += one.feed(Batch([event]))
    if declared.response.framing == "sse":
        got = read(ConformantReader, split_bytes(wire, random))
        assert [data for _, data in got] == [data for _, data in read(FetchEventSourceReader, wire)]
    else:
        got = lines(wire)
    frames = expected(declared, events)
    names = declared.response.events
    assert [(event, json.loads(data)) for event, data in got if json.loads(data) != {"type": "ping"}] == [
        (names.get(template, "message"), payload) for template, payload in frames
    ]
    assert len(got) - len(frames) == pings
    assert [template for template, _ in frames].count("done") + [template for template, _ in frames].count("error") == 1
    assert one.feed(Batch([TextDelta("late"), Finish(), Fault(ERROR)])) == b"", "nothing follows the end (R2)"


LITERALS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text().filter(lambda text: "$" not in text)
TEMPLATES = st.recursive(
    LITERALS | st.sampled_from(["$text", "$id", "$model", "$created", "a $text b", "$text$id", "$text.json"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
).filter(lambda template: isinstance(template, (dict, list)))


@given(TEMPLATES, st.lists(TEXTS, max_size=5), st.sampled_from(["sse", "ndjson"]), st.sampled_from(["data: ", "data:"]))
def test_any_template_writes_what_it_says(template, tokens, framing, prefix):
    declared = Contract(
        FrontendSettings.model_validate(
            {"path": "/own", "response": {"framing": framing, "token": template, "data_prefix": prefix}}
        )
    )
    wire = written(declared, *map(TextDelta, tokens), model="m")
    got = read(ConformantReader, wire) if framing == "sse" else lines(wire)
    known = {"id": "req-1", "model": "m", "created": 1_700_000_000}
    assert [json.loads(data) for _, data in got] == [filled(template, {**known, "text": token}) for token in tokens]


BARE = {
    "sse": response("token: $text\ndone: '[DONE]'\nerror: $message\nevents: {error: error}"),
    "named": response("token: $text\ndone: {}\nerror: $message\nevents: {token: t, done: done, error: error}"),
    "wrapped": response("token: '<$text>'\ndone: {}\nerror: $message\nevents: {done: done, error: error}"),
}


@pytest.mark.parametrize("name", BARE)
@given(st.lists(TEXTS), ENDS, st.randoms(use_true_random=False))
def test_h02_bare_text_in_events_is_read_back_exactly(name, tokens, end, random):
    wire = written(BARE[name], *map(TextDelta, tokens), end)
    got = read(ConformantReader, split_bytes(wire, random))
    *texts, (last, _) = got if isinstance(end, Fault) or name != "sse" else [*got[:-1], ("done", got[-1][1])]
    assert last == ("error" if isinstance(end, Fault) else "done")
    assert {event for event, _ in texts} <= {"t" if name == "named" else "message"}
    said = "".join(data.removeprefix("<").removesuffix(">") if name == "wrapped" else data for _, data in texts)
    assert said == with_lf("".join(tokens))
    assert all(data != "[DONE]" for _, data in texts)


@given(st.lists(TEXTS))
def test_bare_text_for_the_chat_hook_is_what_the_chat_contract_writes(tokens):
    for dialect in ("text", "both"):
        declared = response(
            f"token: $text\nbare_text: {dialect}\ndone: '[DONE]'\nevents: {{done: done}}\ndata_prefix: 'data:'"
        )
        built_in = ChatWriter(dialect)
        wire = written(declared, *map(TextDelta, tokens), Finish())
        assert wire == fed(built_in, *map(TextDelta, tokens), Finish())
        assert seed_text(wire) == seed_text(wire)


@given(st.lists(TEXTS))
def test_raw_text_is_the_text(tokens):
    assert written(RAW, *map(TextDelta, tokens), Finish()).decode() == "".join(tokens)


RAW = response("framing: raw\ntoken: $text")


@pytest.mark.parametrize(
    "message", ["x\n\nevent: done\ndata: y", "x\rdata: y\r\r", "\r\n", "", "\ud83d", '"}\n{"done":1}']
)
@pytest.mark.parametrize(
    "text",
    [
        "token: {t: $text}\nerror: {e: $message}\ndone: {done: 1}",
        "token: {t: $text}\nerror: $message\nevents: {error: error}",
        "framing: ndjson\ntoken: {t: $text}\nerror: {e: $message}\ndone: {done: 1}",
    ],
)
def test_h01_an_error_message_cannot_make_a_frame(text, message):
    declared = response(text)
    wire = written(declared, Fault(ProxyError(message)))
    got = read(ConformantReader, wire) if declared.response.framing == "sse" else lines(wire)
    assert len(got) == 1
    assert "done" not in json.loads(got[0][1]) if got[0][1].startswith("{") else got[0][0] == "error"


@given(st.text())
def test_h01_what_a_client_sent_and_is_repeated_cannot_make_a_frame(echoed):
    declared = ECHOING
    wire = written(declared, TextDelta("a"), chat=echoed)
    ((event, data),) = read(ConformantReader, wire)
    assert (event, json.loads(data)) == ("message", {"t": "a", "c": echoed, "in": f"<{echoed}>"})


ECHOING = response('token: {t: $text, c: $request.chat, in: "<$request.chat>"}')


@given(st.text() | st.text().map(lambda text: json.dumps({"a": text}, indent=1, ensure_ascii=False)))
def test_arguments_of_any_kind_stay_in_their_place(arguments):
    wire = written(CALLING, ToolCallStart(0, "c\n\n", "n\r"), ToolCallDelta(0, arguments), Finish("tool_calls"))
    ((_, data),) = lines(wire)
    try:
        value = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        value = arguments
    assert json.loads(data) == {"id": "c\n\n", "n": "n\r", "a": value, "t": arguments}


CALLING = response(
    "framing: ndjson\ntoken: {t: $text}\ntool_call: {id: $call_id, n: $name, a: $arguments, t: $arguments_text}"
)


@pytest.mark.parametrize("arguments", ["[" * 5000, '{"a":1e999}', '{"a":' + "9" * 400 + "}", "\ud83d"])
def test_arguments_that_json_cannot_carry_are_text(arguments):
    wire = written(CALLING, ToolCallStart(0, "c", "n"), ToolCallDelta(0, arguments), Finish("tool_calls"))
    ((_, data),) = lines(wire)
    assert isinstance(json.loads(data), dict)


def test_a_call_that_was_cut_is_never_reported_whole():
    wire = written(CALLING, ToolCallStart(0, "c", "n"), ToolCallDelta(0, '{"a":1}'), Fault(ERROR))
    assert wire == b""


# Whole answers and failures


def test_a_whole_answer_is_its_text_unless_declared_otherwise():
    body = response("token: {t: $text}").whole(Answer(text="a\n", refusal="b"), {})
    assert (body.body, body.headers["Content-Type"]) == (b'{"text":"a\\nb"}', "application/json")
    body = RAW.whole(Answer(text="a\n"), {})
    assert (body.body, body.headers["Content-Type"]) == (b"a\n", "text/plain; charset=utf-8")


def test_a_whole_answer_says_what_its_template_asks_for():
    declared = contract(
        """
        path: /own
        response:
          token: {t: $text}
          tool_call: {id: $call_id, n: $call_index, a: $arguments}
          finish_reasons: {tool_calls: tools}
        whole: {t: $text, r: $reasoning, c: $tool_calls, f: $finish_reason, in: $input_tokens, m: $model, id: $id, u: $request.u}
        """
    )
    values = {"id": "req-1", "model": "m", "created": 1, "request.u": "x"}
    calls = (ToolCall("a", "f", '{"b":\n1}'), ToolCall("b", "g", "no JSON"))
    answer = Answer(text="hi", reasoning="hm", tool_calls=calls, finish_reason="tool_calls", usage=Usage(2, 3))
    assert declared.whole(answer, values).body == (
        b'{"t":"hi","r":"hm","c":[{"id":"a","n":0,"a":{"b":1}},{"id":"b","n":1,"a":"no JSON"}],"f":"tools","in":2,'
        b'"m":"m","id":"req-1","u":"x"}'
    )
    assert b'"c":[],"f":"stop","in":null' in declared.whole(Answer(text="hi"), values).body


@pytest.mark.parametrize(
    ("text", "body", "content_type"),
    [
        ("token: {t: $text}\nerror: {e: $message}", b'{"e":"slow\\" down"}', "application/json"),
        ("token: {t: $text}\nerror: '! $message'", b'! slow" down', "text/plain; charset=utf-8"),
        (
            "token: {t: $text}",
            b'{"error":{"message":"slow\\" down","type":"rate_limit_error","code":"rate_limited","retryable":true,"request_id":"r"}}',
            "application/json",
        ),
    ],
)
def test_a_failure_before_the_stream_is_the_error_template_or_a_plain_object(text, body, content_type):
    got = response(text).failure(RateLimited('slow" down'), {"id": "r", "model": "", "created": 1})
    assert (got.body, got.headers["Content-Type"]) == (body, content_type)


def test_a_failure_may_have_a_body_and_a_status_of_its_own():
    declared = contract(
        """
        path: /own
        response: {token: {t: $text}, error: {e: $message}}
        errors: {status: {upstream_timeout: 408, "429": 503, 5xx: 500, "*": 200}, body: {detail: $message, s: $status, c: $request.c}}
        """
    )
    assert declared.status(UpstreamTimeout("x")) == 408
    assert declared.status(RateLimited("x")) == 503
    assert declared.status(UpstreamTruncated("x")) == 500
    assert declared.status(BadRequest("x")) == 200
    assert declared.status(Unauthorized("x")) == 401
    known = {"id": "r", "model": "", "created": 1}
    assert declared.failure(RateLimited("x"), known).body == b'{"detail":"x","s":503,"c":null}'
    assert declared.failure(RateLimited("x"), {**known, "request.c": 7}).body == b'{"detail":"x","s":503,"c":7}'


IMAGE = Media("image/png", "data:,")


def test_an_answer_of_nothing_but_images_is_no_empty_success_where_no_template_tells_them():
    declared = response("token: {t: $text}\nsource: {u: $url}\ndone: {done: 1}")
    one = writer(declared)
    assert one.feed(Batch([Start("1", "m"), IMAGE])) == b""
    with pytest.raises(UntoldAnswer):
        one.feed(Batch([Finish()]))
    assert written(declared, IMAGE, TextDelta("a"), Finish()) == b'data: {"t":"a"}\n\ndata: {"done":1}\n\n'
    told = response("token: {t: $text}\nmedia: {u: $url}\ndone: {done: 1}")
    assert written(told, IMAGE, Finish()) == b'data: {"u":"data:,"}\n\ndata: {"done":1}\n\n'


@pytest.mark.parametrize(
    ("templates", "whole", "body"),
    [
        ("token: {t: $text}", "{t: $text, s: $sources, m: $media}", b'{"t":"","s":[{"url":"http://a","title":"A"}],"m":[{"url":"data:,","media_type":"image/png"}]}'),
        ("token: {t: $text}\nsource: {u: $url}\nmedia: {m: $url}", "{t: $text, s: $sources, m: $media}", b'{"t":"","s":[{"u":"http://a"}],"m":[{"m":"data:,"}]}'),
        ('token: {t: $text}\nsource: "<$url>"', "{t: $text, s: $sources, m: [$media]}", b'{"t":"","s":[{"url":"http://a","title":"A"}],"m":[[{"url":"data:,","media_type":"image/png"}]]}'),
    ],
)  # fmt: skip
def test_a_whole_answer_lists_sources_and_media(templates, whole, body):
    declared = contract(f"path: /own\nresponse: {{{templates.replace(chr(10), ', ')}}}\nwhole: {whole}")
    answer = Answer(sources=(("http://a", "A"),), media=(("image/png", "data:,"),))
    assert declared.whole(answer, {"id": "r", "model": "m", "created": 1}).body == body


def test_a_whole_answer_of_nothing_but_images_is_no_empty_success_either():
    declared = response("token: {t: $text}\nmedia: {u: $url}")
    with pytest.raises(UntoldAnswer):
        declared.whole(Answer(media=(("image/png", "data:,"),)), {"id": "r", "model": "m", "created": 1})


def test_every_template_of_a_stream_is_written_by_something():
    """A template that the settings know and the writer does not would be silently left out."""
    declared = CONTRACTS["events"]
    assert set(declared.frames) == set(STREAM_TEMPLATES)


def test_C3_an_answer_that_fails_tells_no_whole_call():
    declared = response("token: {t: $text}\ntool_call: {run: $name, a: $arguments}\nerror: {e: $message}")
    calls = [ToolCallStart(0, "c", "pay"), ToolCallDelta(0, "{}")]
    assert written(declared, *calls, Fault(UpstreamTruncated("cut"))) == b'data: {"e":"cut"}\n\n'
