"""An upstream that knows four thousand answers by their numbers, and what each kind of reader can make of them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from proxy.testing.script import LAST_CHUNK, Send, Step, chunked, openai_chunk, sse_head
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support.answers import for_the_hook, hostile_answers, model_answers, split_bytes, with_lf

HOSTILE = 3000
LIKE_A_MODEL = 1000
BOTH_KINDS = HOSTILE + LIKE_A_MODEL

HOW_MANY = pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.heavy)], ids=["some", "all"])
"""Every so manieth of the answers: each takes a request."""

_BETWEEN_NEWLINES = re.compile("(?<=\n)(?=\n)")

MOST_WRITES = 16  # an answer is not worth more of the upstream's time than of the proxy's


@cache
def token_lists() -> list[list[str]]:
    """The answers, the hostile ones first."""
    return [*hostile_answers(HOSTILE), *model_answers(LIKE_A_MODEL)]


def asks(reader: str, url: str, every: int = 1) -> list[dict[str, str]]:
    """Asking for every answer, or for every so manieth of them, as `askAll` takes it."""
    return [{"reader": reader, "url": url, "question": str(number)} for number in range(0, BOTH_KINDS, every)]


def answer_by_number(upstream: ScriptedUpstream) -> None:
    """Have `upstream` answer the question "7" with the answer number 7."""
    upstream.decide(lambda seen: written(_number(seen)))


def _number(seen: Seen) -> int:
    return int(seen.json()["messages"][-1]["content"])


@cache
def written(number: int) -> list[Step]:
    """One answer as a Chat Completions stream, in writes of one of the sizes that upstreams and networks make."""
    dice = random.Random(number)
    deltas = [{"role": "assistant", "content": ""}, *({"content": token} for token in token_lists()[number])]
    events = [_event(openai_chunk(delta), dice) for delta in deltas]
    events += [_event(openai_chunk({}, finish="stop"), dice), b"data: [DONE]\n\n"]
    match dice.randrange(4):
        case 0:  # a write for each token
            writes = [*events]
        case 1:  # cut anywhere: inside an escape, a character, a line end
            writes = split_bytes(b"".join(events), dice)
        case _:
            writes = [b"".join(events)]
    del writes[MOST_WRITES:]  # and then all that is left
    writes.append(b"".join(events)[sum(map(len, writes)) :])
    return [Send(sse_head()), *(Send(chunked(write)) for write in writes if write), Send(LAST_CHUNK)]


def _event(chunk: object, dice: random.Random) -> bytes:
    """JSON writers differ on whether they escape what is not ASCII."""
    return f"data: {json.dumps(chunk, ensure_ascii=dice.random() < 0.5)}\n\n".encode()


def assert_heard(answers: list[dict[str, Any]], asked: list[dict[str, str]], heard: Callable[[str], str]) -> None:
    """Every answer is what `heard` says that its reader can make of it, none failed, and who can tell was told so."""
    assert len(answers) == len(asked)
    assert [answer["failure"] for answer in answers if answer["failure"] is not None] == []
    assert all(answer["done"] for ask, answer in zip(asked, answers, strict=True) if ask["reader"] != "chat hook")
    wrong = [
        (ask["question"], answer["text"], wanted)
        for ask, answer in zip(asked, answers, strict=True)
        if answer["text"] != (wanted := heard("".join(token_lists()[int(ask["question"])])))
    ]
    assert not wrong, (
        f"{asked[0]['reader']}: {len(wrong)} of {len(answers)} differ; the first (number, got, wanted): {wrong[0]}"
    )


def heard_by_the_hook(text: str) -> str:
    """Everything but the white space at the end, which its `trim()` takes.

    A CR is put between two newlines, which would end a frame. It draws as nothing, and turning CRLF into LF
    takes it away: see `with_lf`.
    """
    return _BETWEEN_NEWLINES.sub("\r", for_the_hook(text))


def heard_in_json(text: str) -> str:
    """Everything, CR too."""
    return text


def heard_by_events(text: str) -> str:
    """Everything."""
    return with_lf(text)


def heard_by_fetch_event_source(text: str) -> str:
    """All but two things that no frame could bring it.

    Its decoder takes a U+FEFF at the beginning of a line for a byte order mark, and `data` lines that are
    empty are forgotten until one is not: newlines at the beginning of an answer.
    """
    return re.sub("^\ufeff", "", with_lf(text), flags=re.MULTILINE).lstrip("\n")
