"""What a parent and its workers say to each other arrives as it was said, however the bytes fall."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.workers.channel import Channel, ChannelClosed, encode

VALUES = st.integers() | st.text() | st.booleans() | st.lists(st.text()) | st.binary(max_size=50)


class Message(NamedTuple):
    word: str
    values: dict[str, Any]


class Heard(list):
    """Notes each message, whatever its word is, and never answers."""

    def __getitem__(self, word: Any) -> Any:
        return super().__getitem__(word) if isinstance(word, int) else self.hear(word)

    def hear(self, word: str) -> Callable[..., Any]:
        return lambda **values: self.append(Message(word, values))


MESSAGES = st.lists(st.builds(Message, st.text(min_size=1), st.dictionaries(st.text(min_size=1), VALUES)), max_size=5)


async def heard_over_a_socket(pieces: list[bytes]) -> list[Message]:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    await channel.open()
    heard = Heard()
    hearing = asyncio.create_task(channel.run(heard))
    for piece in pieces:
        ours.sendall(piece)
        await asyncio.sleep(0)
    ours.close()
    await hearing
    await channel.aclose()
    return heard


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 400)))
def test_messages_arrive_however_the_bytes_fall(messages: list[Message], cuts: list[int]) -> None:
    wire = b"".join(encode(0, *message) for message in messages)
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    assert asyncio.run(heard_over_a_socket([wire[a:b] for a, b in itertools.pairwise(edges)])) == messages


async def test_byte_by_byte() -> None:
    messages = [Message("prepare", {"generation": 7, "content": b"routes: []\n"}), Message("drain", {})]
    wire = b"".join(encode(0, *message) for message in messages)
    assert await heard_over_a_socket([bytes([byte]) for byte in wire]) == messages


class Ends:
    """Two ends of a channel. The far one answers a question when the test sets its answer."""

    def __init__(self) -> None:
        self.near, self.far = map(Channel, socket.socketpair())
        self.asked: list[asyncio.Future[Any]] = []
        self.numbers: list[int] = []

    async def think(self, number: int = 0) -> Any:
        self.numbers.append(number)
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    await ends.near.open()
    await ends.far.open()
    hears = {"counts": ends.think, "ping": ends.think, "twice": lambda number: 2 * number}
    tasks = [asyncio.create_task(ends.near.run({})), asyncio.create_task(ends.far.run(hears))]
    yield ends
    await ends.near.aclose()
    await ends.far.aclose()
    await asyncio.wait(tasks)


async def until_asked(ends: Ends, count: int) -> None:
    async with asyncio.timeout(60):
        while len(ends.asked) < count:
            await asyncio.sleep(0.001)


async def test_each_question_gets_its_own_answer(ends: Ends) -> None:
    questions = [asyncio.create_task(ends.near.ask("counts", within=60, number=number)) for number in range(3)]
    await until_asked(ends, 3)
    for number, answer in reversed([*zip(ends.numbers, ends.asked, strict=True)]):
        answer.set_result({"number": number, "metrics": b"counts"})
    assert [await question for question in questions] == [{"number": n, "metrics": b"counts"} for n in range(3)]
    assert await ends.near.ask("twice", within=60, number=4) == 8, "of what answers at once"


async def test_an_answer_that_comes_too_late_is_dropped(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        await ends.near.ask("ping", within=0.001)
    await until_asked(ends, 1)
    ends.asked[0].set_result(1)
    question = asyncio.create_task(ends.near.ask("ping", within=60))
    await until_asked(ends, 2)
    ends.asked[1].set_result(2)
    assert await question == 2


async def test_a_question_ends_when_the_other_end_closes_and_later_ones_fail_at_once(ends: Ends) -> None:
    question = asyncio.create_task(ends.near.ask("ping", within=60))
    await until_asked(ends, 1)
    await ends.far.aclose()
    with pytest.raises(ChannelClosed):
        await question
    with pytest.raises(ChannelClosed):
        await ends.near.ask("ping", within=60)
    ends.near.tell("drain")  # to nobody


async def test_a_process_that_dies_without_reading_leaves_no_complaint_of_asyncio() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    await channel.open()
    channel.tell("spec", number=1)
    theirs.close()  # with the message unread: the kernel answers with a reset
    reset = asyncio.get_running_loop().create_future()
    channel._writer.transport.get_protocol()._get_close_waiter(None).add_done_callback(reset.set_result)
    async with asyncio.timeout(60):
        await channel.run({})
        ended = await reset
    assert isinstance(ended._exception, ConnectionResetError)
    assert not ended._log_traceback
