"""The streams of several replicas in one Redis: two of them in this process, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proxy.errors import RunnerGone
from proxy.streams import shared
from proxy.streams.log import StreamLog
from proxy.streams.registry import Streams
from proxy.streams.shared import SharedStreams
from proxy.telemetry.record import StreamRecord
from tests.support.redis import RedisServer, patience, running


class Reader:
    """Takes what is pushed."""

    def __init__(self, log: StreamLog) -> None:
        self.log = log
        self.data, self.position = log.read(0)
        log.readers.add(self)

    def push(self, data: bytes) -> None:
        self.data += data
        self.position = self.log.length

    def wake(self) -> None:
        pass


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@asynccontextmanager
async def replica(redis: RedisServer) -> AsyncIterator[Streams]:
    streams = Streams()
    streams.shared = SharedStreams(redis.url)
    patience(streams.shared._redis, 60)  # a machine that is late is no outage
    try:
        yield streams
    finally:
        for copier in tuple(streams.shared._copied.values()):
            copier.log.close(aborted=True)
            streams.shared.over(copier.log, 1)
        streams.forget_all()
        await streams.shared.aclose()


async def begun(streams: Streams) -> StreamLog:
    record = StreamRecord(request_id="r", started_at=0.0)
    log = await streams.open("key", [], most_bytes=1_000_000, record=record)
    log.begin({"Content-Type": "text/event-stream"})
    return log


async def until_closed(*logs: StreamLog) -> None:
    async with asyncio.timeout(60):
        while not all(log.closed for log in logs):
            await asyncio.sleep(0.01)


def frames(numbers: range) -> bytes:
    return b"".join(b"data: %d\n\n" % number for number in numbers)


async def test_many_streams_are_followed_with_few_connections(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis) as other:
        logs = [await begun(one) for _ in range(50)]
        followed = await asyncio.gather(*[other.find(log.id, "key") for log in logs])
        readers = [Reader(log) for log in followed]
        for number in range(20):
            for log in logs:
                log.append(frames(range(number, number + 1)))
            await asyncio.sleep(0)
        assert redis.clients() <= 2 * shared.MOST_CONNECTIONS
        for log in logs:
            log.close()
            one.keep(log, 60)
        await until_closed(*followed)
        assert {reader.data for reader in readers} == {frames(range(20))}
        assert not any(log.aborted for log in followed)


async def test_what_redis_is_sent_twice_is_read_once(redis: RedisServer) -> None:
    """Redis may have done what it did not answer in time."""
    async with replica(redis) as one, replica(redis) as other:
        log = await begun(one)
        log.append(frames(range(3)))
        reader = Reader(await other.find(log.id, "key"))
        redis.freeze()
        patience(one.shared._redis, 0.2)
        log.append(frames(range(3, 6)))
        await asyncio.sleep(1.5)  # the copier asks again and again meanwhile
        log.append(frames(range(6, 9)))
        patience(one.shared._redis, 60)
        redis.thaw()
        log.close()
        one.keep(log, 60)
        await until_closed(reader.log)
        assert reader.data == frames(range(9))


async def test_a_followed_log_that_nobody_reads_is_let_go(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis) as other:
        running_, over = await begun(one), await begun(one)
        over.close()
        one.keep(over, 60)
        for log in (running_, over):
            await other.find(log.id, "key")
        async with asyncio.timeout(60):
            while other.state()["bytes"] or other._logs:
                await asyncio.sleep(0.05)
        assert await other.find(running_.id, "key"), "it can be followed again"


async def test_two_requests_for_one_stream_at_once_follow_it_once(redis: RedisServer) -> None:
    async with replica(redis) as one, replica(redis) as other:
        log = await begun(one)
        first, second = await asyncio.gather(other.find(log.id, "key"), other.find(log.id, "key"))
        assert first is second


@pytest.mark.parametrize("before", ["nobody", "one that died", "one that failed"])
async def test_of_two_replicas_that_want_a_name_at_once_one_gets_it(redis: RedisServer, before: str) -> None:
    async with replica(redis) as one, replica(redis) as other, replica(redis) as third:
        asked = [one, other, third]
        for number in range(20):
            name = ("idempotency-key", str(number))
            if before != "nobody":
                log = await opened(one, name)
                one.forget(log)
                if before == "one that failed":
                    log.fail(RunnerGone())
                    one.keep(log, 60)
                    await closed_in_redis(one, log)
                else:  # its process is gone
                    await client_of(one).hset(f"chat-proxy:stream:{log.id}:meta", "runner", "dead")
            logs = await asyncio.gather(*[opened(streams, name) for streams in asked])
            assert len({log.id for log in logs}) == 1, "two would ask their upstreams, and both be paid for"
            assert [log.follows for log in logs].count(False) == 1


async def opened(streams: Streams, name: tuple[str, str]) -> StreamLog:
    record = StreamRecord(request_id="r", started_at=0.0)
    return await streams.open("key", [], unique=name, most_bytes=1_000_000, record=record)


def client_of(streams: Streams) -> Any:
    assert isinstance(streams.shared, SharedStreams)
    return streams.shared._redis


async def closed_in_redis(streams: Streams, log: StreamLog) -> None:
    async with asyncio.timeout(60):
        while not await client_of(streams).exists(f"chat-proxy:stream:{log.id}"):
            await asyncio.sleep(0.01)


async def test_frames_that_redis_lost_are_no_end_and_no_gap(redis: RedisServer) -> None:
    """It forgot what nobody had read yet, as a server that is full does: readers elsewhere are cut there."""
    async with replica(redis) as one, replica(redis) as other:
        log = await begun(one)
        log.append(frames(range(3)))
        reader = Reader(await other.find(log.id, "key"))
        async with asyncio.timeout(60):
            while reader.data != frames(range(3)):
                await asyncio.sleep(0.01)
        client = client_of(one)
        follower = other.shared._followed[log.id]  # type: ignore[union-attr]
        await client.xadd(f"chat-proxy:stream:{log.id}", {"n": 5, "d": frames(range(5, 7))})
        await until_closed(reader.log)
        assert reader.data == frames(range(3))
        assert reader.log.aborted
        assert follower.log is reader.log


async def test_an_answer_that_outgrew_its_log_while_redis_was_away_is_cut_elsewhere(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TIMEOUT_S", 0.2)
    async with replica(redis) as one, replica(redis) as other:
        log = await begun(one)
        log._most_bytes = 100
        log.append(frames(range(3)))
        reader = Reader(await other.find(log.id, "key"))
        async with asyncio.timeout(60):
            while reader.data != frames(range(3)):
                await asyncio.sleep(0.01)
        redis.freeze()
        for number in range(3, 40):
            log.append(frames(range(number, number + 1)))
        redis.thaw()
        log.close()
        one.keep(log, 60)
        await until_closed(reader.log)
        assert frames(range(40)).startswith(reader.data)
        assert reader.log.aborted or reader.data == frames(range(40))
