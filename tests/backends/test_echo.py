"""The echo backend: exact, paced when asked, and no burden on the loop."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.backends.base import kind
from proxy.backends.echo import EchoBackend, EchoSettings
from proxy.errors import Unsupported
from proxy.events import Batch, Finish, Start, TextDelta, check_order, collect
from proxy.request import ChatRequest, Image, Message, Text
from proxy.routing.plan import Target

ECHO = Target("echo")


def backend(**options: float) -> EchoBackend:
    return EchoBackend("echo", EchoSettings(kind="echo", **options))


def request(*messages: Message | str, **params: object) -> ChatRequest:
    turns = tuple(Message("user", (Text(turn),)) if isinstance(turn, str) else turn for turn in messages)
    return ChatRequest(id="r1", contract="chat", dialect="chat", messages=turns, params=params)


async def batches(asked: ChatRequest, target: Target = ECHO, **options: float) -> list[Batch]:
    return [batch async for batch in backend(**options).stream(asked, target)]


async def events(asked: ChatRequest, target: Target = ECHO, **options: float) -> list[object]:
    return [event for batch in await batches(asked, target, **options) for event in batch.events]


async def test_says_the_words_with_the_white_space_before_each() -> None:
    said = await events(request("  one two\n\nthree \t"))
    assert [event.text for event in said if isinstance(event, TextDelta)] == ["  one", " two", "\n\nthree", " \t"]
    assert check_order(said) is Finish


@given(st.text(max_size=400))
@settings(max_examples=150, deadline=None)
def test_loses_nothing_of_any_text(text: str) -> None:
    answer = asyncio.run(collect(backend().stream(request(text), ECHO)))
    assert answer.text == text


async def test_answers_the_last_user_message_else_the_last_message() -> None:
    turns = (Message("system", (Text("rules"),)), Message("user", (Text("first"),)), Message("assistant", (Text("x"),)))
    assert (await collect(backend().stream(request(*turns), ECHO))).text == "first"
    assert (await collect(backend().stream(request(turns[0]), ECHO))).text == "rules"


async def test_answers_only_the_text_of_a_message_with_an_image() -> None:
    picture = Message("user", (Text("what is"), Image("data:image/png;base64,AA=="), Text(" this")))
    assert (await collect(backend().stream(request(picture), ECHO))).text == "what is this"
    alone = await events(request(Message("user", (Image("data:image/png;base64,AA=="),))))
    assert [type(event) for event in alone] == [Start, Finish]


async def test_counts_pieces_as_tokens_and_calls_that_an_estimate() -> None:
    finish = (await events(request("one two three")))[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == "stop"
    assert finish.usage is not None
    assert (finish.usage.input_tokens, finish.usage.output_tokens, finish.usage.estimated) == (3, 3, True)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_stops_at_the_limit_and_says_so(name: str) -> None:
    said = await events(request("one two three", **{name: 2}))
    finish = said[-1]
    assert isinstance(finish, Finish)
    assert [event.text for event in said if isinstance(event, TextDelta)] == ["one", " two"]
    assert (finish.reason, finish.usage and finish.usage.output_tokens) == ("length", 2)


async def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    finish = (await events(request("one two", max_tokens=2)))[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == "stop"


async def test_goes_by_the_target_s_model_name() -> None:
    assert (await events(request("x")))[0] == Start("echo-r1", "echo")
    assert (await events(request("x"), Target("echo", "gpt-9")))[0] == Start("echo-r1", "gpt-9")


async def test_a_long_answer_leaves_the_loop_to_others() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    got = await batches(request("word " * 6400))
    task.cancel()
    assert len(got) > 50
    assert turns >= len(got) - 1
    assert max(len(batch.events) for batch in got) <= 66


async def test_pauses_before_the_first_token_and_between_tokens() -> None:
    begun = time.monotonic()
    stream = backend(first_token_ms=40, delay_ms=20).stream(request("one two three"), ECHO)
    arrived = [time.monotonic() - begun async for batch in stream if batch.has_content]
    assert len(arrived) == 3  # a token each, so that pacing shows
    assert arrived[0] >= 0.039
    assert arrived[2] - arrived[0] >= 0.039


def test_settings_refuse_what_is_no_pause() -> None:
    for wrong in (-1, float("inf"), "10"):
        with pytest.raises(ValidationError):
            EchoSettings(kind="echo", delay_ms=wrong)


def test_is_registered_and_builds_a_local_backend() -> None:
    built = kind("echo").build("e", EchoSettings(kind="echo"), None)
    assert (built.name, built.dialect) == ("e", "")


async def test_several_answers_are_refused_rather_than_one_given() -> None:
    with pytest.raises(Unsupported):
        await batches(request("hi", n=2))
