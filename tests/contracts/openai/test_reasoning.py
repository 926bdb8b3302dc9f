"""The field that reasoning is written in, where a route chooses one."""

from __future__ import annotations

import json

import pytest

from proxy.contracts.openai.reasoning import FIELDS, renamed, renamed_frames
from proxy.contracts.openai.stream import StreamDecoder
from proxy.contracts.openai.writer import OpenAIWriter
from proxy.events import Batch, Finish, ReasoningDelta, Start, TextDelta
from proxy.request import Answer
from tests.contracts.openai.test_writer import chunks

NAMES = {
    "reasoning_content": {"reasoning_content"},
    "reasoning": {"reasoning"},
    "both": {"reasoning_content", "reasoning"},
}


def writer(field):
    return OpenAIWriter(id="chatcmpl-7", model="m", created=1, reasoning=field)


def thoughts(stream):
    deltas = [json.loads(data)["choices"][0]["delta"] for data in chunks(stream)]
    return [{name: value for name, value in delta.items() if "reasoning" in name} for delta in deltas]


@pytest.mark.parametrize("field", FIELDS)
def test_reasoning_of_other_dialects_is_written_in_the_fields_of_the_route(field):
    stream = writer(field).feed(Batch([Start("1", "m"), ReasoningDelta("hm"), TextDelta("hi"), Finish()]))
    assert thoughts(stream) == [{}, dict.fromkeys(NAMES[field], "hm"), {}, {}]
    message = json.loads(writer(field).whole(Answer(reasoning="hm")).body)
    assert message["choices"][0]["message"].items() >= dict.fromkeys(NAMES[field], "hm").items()


THEIRS = b"".join(
    b'data: {"id":"c1","vendor":1,"choices":[{"index":0,"delta":{%b}}]}\n\n' % delta
    for delta in (b'"role":"assistant"', b'"reasoning":"so\\n\\nit is"', b'"reasoning_content":"hm","x":[1]', b'"content":"\\"reasoning"')
)  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_reasoning_of_the_same_dialect_is_renamed_and_all_else_passes_as_it_came(field):
    decoder = StreamDecoder(10_000, keep=True)
    batch = decoder.feed(THEIRS)
    stream = writer(field).feed(batch)
    assert thoughts(stream) == [{}, *(dict.fromkeys(NAMES[field], text) for text in ("so\n\nit is", "hm")), {}]
    frames, theirs = stream.split(b"\n\n"), THEIRS.split(b"\n\n")
    assert (frames[0], frames[3]) == (theirs[0], theirs[3])
    assert json.loads(frames[2][6:])["vendor"] == 1
    assert json.loads(frames[2][6:])["choices"][0]["delta"]["x"] == [1]


def test_without_a_choice_of_the_route_the_upstreams_bytes_pass():
    assert OpenAIWriter(id="1", model="m", created=1).feed(StreamDecoder(10_000, keep=True).feed(THEIRS)) == THEIRS


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"\\"reasoning"}}]}',
        b'{"choices":null,"x":"reasoning"}',
        b'{"choices":[{"delta":{"reasoning":{"effort":"low"}}},3]}',
        b'not "reasoning" json',
        b'["reasoning"]',
    ],
)
def test_what_holds_no_reasoning_stays_as_it_is(body):
    assert renamed(body, FIELDS["both"]) == body
    assert renamed_frames([b"data: " + body + b"\n\n"], FIELDS["both"]) == b"data: " + body + b"\n\n"


def test_a_whole_answer_of_the_same_dialect_is_renamed_too():
    body = b'{"id":"c1","choices":[{"message":{"content":"hi","reasoning":"hm"}}],"vendor":1}'
    answer = Answer(payload=body, dialect="openai-chat")
    assert OpenAIWriter(id="1", model="m", created=1).whole(answer).body == body
    told = json.loads(writer("reasoning_content").whole(answer).body)
    assert told == {"id": "c1", "choices": [{"message": {"content": "hi", "reasoning_content": "hm"}}], "vendor": 1}
