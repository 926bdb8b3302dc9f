"""Random courses of one answer: hedged, cut, gone on with, resumed and stopped, all at once, in virtual time.

Real are the exchange, the log and its registry, the detached answer and its readers, and the contract's writer. The
models know one answer of numbered words, so a lost, doubled or foreign word shows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backends.base import Relay
from proxy.contracts.chat.writer import ChatWriter
from proxy.errors import NotFound, ProxyError, UpstreamConnect, UpstreamFailed
from proxy.events import Batch, Fault, Finish, Start, TextDelta
from proxy.ledger.rows import rows_of
from proxy.pipeline.client import Client, ClientGone
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest, Usage
from proxy.routing.plan import Hedge, Limit, Resume, Target, Timers
from proxy.server import resumable
from proxy.server.resumable import DetachedAnswer, LogReader
from proxy.streams.log import StreamLog
from proxy.streams.registry import Streams
from tests.support.readers import ConformantReader, read
from tests.support.told import FOREVER, Told, exchange
from tests.support.virtual_time import run

ANSWER = "".join(f"w{number:02} " for number in range(25))
GRACE_S, KEEP_S = 4.0, 30.0


class Try(msgspec.Struct):
    """What becomes of one attempt: `piece` characters each `gap` seconds, the first after `after`, and an end."""

    after: float
    gap: float
    piece: int
    cut: int  # how many characters of the answer it gets to; more than there are: it ends well
    how: str  # it breaks off
    repeats: int  # characters of the end that it writes again when it goes on; more than there are: it starts over
    counts: bool  # it says what it used


class Model(Told):
    """Begins the answer, or goes on with it where its conversation ends; breaks off as its tries say."""

    def __init__(self, *tries: Try) -> None:
        super().__init__()
        self.tries = tries

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        one = self.tries[min(len(self.asked), len(self.tries) - 1)]
        self.asked.append(request)
        has = next((len(said.text) for said in request.messages if said.role == "assistant"), 0)
        at = max(0, has - one.repeats)
        try:
            await asyncio.sleep(one.after)
            yield Batch([Start("1", "m")])
            while at < min(one.cut, len(ANSWER)):
                text = ANSWER[at : min(at + one.piece, max(one.cut, at + 1))]
                at += len(text)
                yield Batch([TextDelta(text)])
                await asyncio.sleep(one.gap)
            match "well" if one.cut >= len(ANSWER) else one.how:
                case "well":
                    yield Batch([Finish("stop", Usage(10, 5) if one.counts else None)])
                case "fault":
                    yield Batch([Fault(UpstreamFailed("overloaded"))])
                case "raise":
                    raise UpstreamConnect("reset")
                case "hang":
                    await asyncio.sleep(FOREVER)
        finally:
            self.closed += 1


class Visit(msgspec.Struct):
    """One time that a client reads: it comes `after` seconds, stays `stays` seconds, and loses `loses` bytes then."""

    after: float
    stays: float
    slow: bool
    loses: int
    leaves: str  # it is cancelled, or a write to it fails


class Connection:
    """Stands for `StreamingClient`: what a reader is sent in one visit."""

    def __init__(self, context: Any, encoder: Any) -> None:
        self.visit: Visit = context.visit
        self.data, self.ended, self.faulted, self.begun = b"", False, False, False
        self.gone = False
        self.response = None
        context.connection = self

    async def begin(self, *, flush: bool) -> None:
        self.begun = True

    def write_encoded(self, data: bytes) -> bool:
        if self.gone:
            raise ClientGone
        self.data += data
        return self.visit.slow

    async def send(self, batch: Batch) -> None:
        self.begun = True
        if self.write_encoded(batch.whole):
            await self.caught_up()

    async def caught_up(self) -> None:
        if self.visit.slow:
            await asyncio.sleep(0.7)
        if self.gone:
            raise ClientGone

    async def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        pass


class Context:
    """Stands for `RequestContext`, of the request and of those that read."""

    def __init__(self, visit: Visit | None = None) -> None:
        self.visit, self.connection, self.begun = visit, None, False
        self.ends = 0

    def hand_over(self) -> None:
        pass

    async def run(self, running: Any, client: Client) -> None:
        await running.run(client)

    def ended(self, status: int, bytes_out: int, error: ProxyError | None = None) -> None:
        pass

    def end(self) -> None:
        self.ends += 1


def frames(data: bytes) -> list[bytes]:
    """The whole frames in what a client has, without comments, each without its number."""
    whole = [one for one in data.split(b"\n\n")[:-1] if not one.startswith(b": ")]
    return [re.sub(rb"^id: \d+\n", b"", one) for one in whole]


class Course:
    """One answer and all that happened to it, until nothing is left."""

    def __init__(
        self,
        models: list[Model],
        visits: list[list[Visit]],
        *,
        hedge: Hedge | None = None,
        on_cut: str = "error",
        stop: float | None = None,
        most_bytes: int = 100_000,
        answer_stops: float = 60.0,
        comes_back: bool = True,
        slots: bool = False,
    ) -> None:
        self.reading, self.unread_since, self.comes_back = 0, None, comes_back
        self.models, self.got = models, [[] for _ in visits]
        self.whole: list[bool] = [False for _ in visits]
        self.lost: list[ProxyError | None] = [None for _ in visits]
        self.unhandled: list[dict[str, Any]] = []
        with patch.object(resumable, "StreamingClient", Connection):
            run(self._run(visits, hedge, on_cut, stop, most_bytes, answer_stops, slots=slots))

    async def _run(
        self,
        visits: list[list[Visit]],
        hedge: Hedge | None,
        on_cut: str,
        stop: float | None,
        most_bytes: int,
        answer_stops: float,
        *,
        slots: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, what: self.unhandled.append(what))
        self.states = TargetStates(loop.time)
        resume = Resume(keep_s=KEEP_S, grace_s=GRACE_S, bytes=most_bytes)
        plan = {"hedge": hedge, "on_cut": on_cut, "keeps_request": on_cut == "continue", "resume": resume}
        timers = Timers(first_token_s=5.0, token_gap_s=3.0, total_s=answer_stops)
        running = exchange(
            *self.models,
            states=self.states,
            timers=timers,
            heartbeat_s=0.6,
            limit=Limit("", 1, 1) if slots else None,
            **plan,
        )
        self.record, self.streams = running.record, Streams()
        log = self.log = await self.streams.open("key", [], most_bytes=most_bytes, record=self.record)
        self.request = Context()
        DetachedAnswer(self.streams, log, resume, running).start(self.request, ChatWriter("sse"))
        if stop is not None:
            loop.call_later(stop, log.stop)
        readers = [asyncio.create_task(self._reads(number, one)) for number, one in enumerate(visits)]
        await asyncio.wait(readers)
        for task in readers:
            task.result()
        if self.record.loser is not None:
            await asyncio.wait([self.record.loser])
        await asyncio.sleep(KEEP_S + GRACE_S + 1)
        self._check_grace(loop.time())
        assert not any(row["taken"] or row["waiting"] for row in self.states.queues().values())
        assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing runs any more"
        assert not [timer for timer in loop._scheduled if not timer.cancelled()], "nor will"  # type: ignore[attr-defined]

    async def _reads(self, number: int, visits: list[Visit]) -> None:
        """Read in these visits, and after the last one to the end."""
        got = self.got[number]
        last = [Visit(0.0, FOREVER, False, 0, "cancel")] if self.comes_back or not visits else []
        for visit in [*visits, *last]:
            await asyncio.sleep(visit.after)
            context = Context(visit)
            first = not got and visit is [*visits, *last][0]
            try:
                log: StreamLog = await self.streams.find(self.log.id, "key")
            except ProxyError as error:
                if self.log.closed or not first:
                    self.lost[number] = error
                return
            self.reading += 1
            self._check_grace(asyncio.get_running_loop().time())
            self.unread_since = None
            reader = asyncio.create_task(_read(log, len(got), context, numbers=not first))
            await asyncio.wait([reader], timeout=visit.stays)
            connection: Any = context.connection
            if not reader.done():
                if visit.leaves == "fails" and connection is not None:
                    connection.gone = True
                    await asyncio.wait([reader], timeout=1.5)
                reader.cancel()
                await asyncio.wait([reader])
            self.reading -= 1
            if not self.reading:
                self.unread_since = asyncio.get_running_loop().time()
            self._keep(got, connection, visit)
            if not reader.cancelled() and (error := reader.exception()) is not None:
                if isinstance(error, ProxyError):
                    self.lost[number] = error
                    return
                assert isinstance(error, ConnectionResetError), error
            elif not reader.cancelled() and connection.ended and not visit.loses:
                self.whole[number] = True
                return

    def _check_grace(self, now: float) -> None:
        """An answer that nobody has read for so long is over."""
        if self.unread_since is not None and now > self.unread_since + GRACE_S + 0.01:
            assert self.record.ended_at is not None
            assert self.record.ended_at <= self.unread_since + GRACE_S + 0.01

    def _keep(self, got: list[bytes], connection: Any, visit: Visit) -> None:
        if connection is None:
            return
        data = connection.data[: -visit.loses] if visit.loses else connection.data
        numbers = [int(one) for one in re.findall(rb"^id: (\d+)\n", data, re.MULTILINE)]
        assert numbers == list(range(len(got), len(got) + len(numbers))), "each frame says its own number"
        got += frames(data)


async def _read(log: StreamLog, position: int, context: Any, *, numbers: bool) -> Any:
    log.check(position)
    return await LogReader(log, position, numbers=numbers).run(context)


def told(got: list[bytes]) -> tuple[str, list[str]]:
    """The text of an answer, and its ends."""
    events = read(ConformantReader, b"".join(one + b"\n\n" for one in got))
    text = "".join(data for name, data in events if name in ("", "message"))
    return text, [name for name, _ in events if name in ("done", "error")]


def check(course: Course) -> None:
    """What holds for every course."""
    record = course.record
    assert course.unhandled == []
    whole = [got for got, is_whole in zip(course.got, course.whole, strict=True) if is_whole]
    for got in course.got:
        text, ends = told(got)
        assert ANSWER.startswith(text), "no word is lost, doubled or foreign"
        assert len(ends) <= 1
    for got in whole:
        text, ends = told(got)
        assert len(ends) == 1, "an answer that is read to its end has one"
        assert (ends == ["done"]) == (record.end == "done")
        assert text == ANSWER if ends == ["done"] else ANSWER.startswith(text)
        assert got == whole[0], "all clients have the same answer"
    for error in course.lost:
        assert error is None or isinstance(error, NotFound) or course.log.headless or course.log.failure is not None, (
            error
        )
    # one total: what the attempts used is what the answer used
    rows = list(rows_of(record, record.ended_at or 0.0))
    asked = [one for one in record.attempts if one.started_at]
    assert len(rows) == len(asked) >= sum(len(model.asked) for model in course.models)
    assert all(one.ended_at is not None for one in asked)
    if record.end == "done":
        paying = [one.usage for one in asked if one.usage is not None and one.role != "hedge_loser"]
        assert record.usage is not None
        assert record.usage.output_tokens == sum(one.output_tokens for one in paying)
        assert [one.role for one in asked if not one.error_code and one.role != "hedge_loser"][1:] == []
    # nothing leaks
    assert course.request.ends == 1
    assert [model.closed for model in course.models] == [len(model.asked) for model in course.models]
    for number in range(len(course.models)):
        assert course.states.stats(Target(f"b{number}", "m")).open == 0
    assert course.log.closed
    assert course.log.readers == set()
    assert course.streams.state() == {"running": 0, "kept": 0, "bytes": 0, "readers": 0}


TICKS = st.integers(0, 14).map(lambda tick: tick * 0.25)
TRIES = st.builds(
    Try,
    after=TICKS,
    gap=st.sampled_from([0.0, 0.1, 0.5]),
    piece=st.sampled_from([1, 3, 4, 7, 40]),
    cut=st.sampled_from([0, 1, 5, 16, 30, 31, 64, 99, 999, 999, 999]),
    how=st.sampled_from(["fault", "raise", "end", "hang"]),
    repeats=st.sampled_from([0, 0, 8, 12, 20, 999]),
    counts=st.booleans(),
)
VISITS = st.builds(
    Visit,
    after=st.integers(0, 22).map(lambda tick: tick * 0.25),
    stays=st.integers(1, 30).map(lambda tick: tick * 0.3),
    slow=st.booleans(),
    loses=st.sampled_from([0, 0, 1, 9, 40]),
    leaves=st.sampled_from(["cancel", "fails"]),
)


def courses(examples: int) -> Any:
    def decorate(test: Any) -> Any:
        return settings(max_examples=examples, deadline=None)(
            given(
                models=st.lists(
                    st.lists(TRIES, min_size=1, max_size=2).map(lambda tries: Model(*tries)), min_size=1, max_size=3
                ),
                visits=st.lists(st.lists(VISITS, max_size=3), min_size=1, max_size=3),
                hedge=st.sampled_from([None, Hedge(0.5), Hedge(0.5, drain=True)]),
                on_cut=st.sampled_from(["continue", "continue", "error"]),
                stop=st.none() | TICKS.map(lambda tick: tick * 3),
                most_bytes=st.sampled_from([100_000, 100_000, 300]),
                answer_stops=st.sampled_from([60.0, 4.0]),
                comes_back=st.booleans(),
                slots=st.booleans(),
            )(test)
        )

    return decorate


@courses(150)
def test_any_course_is_one_coherent_answer(**course: Any) -> None:
    check(Course(course.pop("models"), course.pop("visits"), **course))


@pytest.mark.heavy
@courses(20_000)
def test_twenty_thousand_courses_are_one_coherent_answer_each(**course: Any) -> None:
    check(Course(course.pop("models"), course.pop("visits"), **course))
