"""Streams in Redis or Valkey: an answer that one replica runs can be resumed on any other.

The replica that runs an answer copies its log into a Redis stream, frame by frame as it goes. Another replica that is
asked for it follows that stream with a log of its own, so readers are served the same way everywhere. What followers
want of the runner (stop; somebody still reads) goes to the runner's control stream. Redis Streams, not pub/sub: an
entry is there to be read whenever somebody looks, so no end can be missed.

| key | holds |
|---|---|
| `chat-proxy:stream:ID` | entries `n` (number of the first frame) and `d` (frames), at last `c` (1: it ends with a cut) |
| `chat-proxy:stream:ID:meta` | whose it is, its runner, a digest of the request |
| `chat-proxy:stream-name:KIND:NAME` | an id |
| `chat-proxy:runner:RUNNER` | there as long as that process is |
| `chat-proxy:runner:RUNNER:control` | entries `stop` and `read`, each an id |
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.errors import RunnerGone, StreamsUnknown
from proxy.streams.log import StreamLog
from proxy.telemetry.record import StreamRecord

PREFIX = "chat-proxy"
ALIVE_S = 10
"""How long a runner is believed to be there after it last said so. It does every second."""

BLOCK_MS = 1000
READ_FOR_S = 4.0
"""How long a follower's word that somebody reads holds. It gives it every second."""

LONGEST_S = 7200
"""How long a stream of a runner that died is kept."""

MOST_FOLLOWED_BYTES = 1_000_000_000  # the runner's log decides how long an answer may be

warnings = structlog.get_logger("proxy.streams")

Name = tuple[str, str]
Entries = list[tuple[bytes, dict[bytes, bytes]]]


class _Record(msgspec.Struct):
    """What a follower tells its readers of the answer, in headers."""

    route: str
    backend: str
    upstream_model: str


class SharedStreams:
    """The streams of all replicas that use one Redis."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(  # its types do not tell a pipeline's commands from those that are awaited
            url, socket_connect_timeout=2.0, socket_timeout=5.0, client_name="chat-proxy"
        )
        self._runner = secrets.token_hex(8)
        self._copied: dict[str, _Copier] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._control: asyncio.Task[None] | None = None

    async def claim(self, log: StreamLog, names: Sequence[Name], unique: Name | None) -> str | None:
        """Begin to copy a log, unless the name `unique` is another's: then that one's id.

        While Redis is away the log is this replica's alone.
        """
        try:
            return await self._claim(log, names, unique)
        except (RedisError, OSError) as error:
            warnings.warning("streams_away", error=type(error).__name__)
            return None

    async def _claim(self, log: StreamLog, names: Sequence[Name], unique: Name | None) -> str | None:
        redis = self._redis
        if unique is not None and not await redis.set(_name(unique), log.id, nx=True, ex=LONGEST_S):
            if (found := await self._named(unique)) is not None:
                return found
            await redis.set(_name(unique), log.id, ex=LONGEST_S)
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.set(_name(name), log.id, ex=LONGEST_S)
        pipeline.hset(_meta(log.id), mapping={"owner": log.owner, "runner": self._runner, "asked": log.asked})
        pipeline.expire(_meta(log.id), LONGEST_S)
        pipeline.set(f"{PREFIX}:runner:{self._runner}", 1, ex=ALIVE_S)
        await pipeline.execute()
        copier = self._copied[log.id] = log.copier = _Copier(redis, log)
        if self._control is None or self._control.done():
            self._control = self._start(self._obey())
        copying = self._start(self._copy(copier))
        copying.set_name(f"copy of {log.id}")
        return None

    async def named(self, name: Name) -> str | None:
        """The id of the newest answer with this name. Raises `StreamsUnknown`."""
        with _known():
            return await self._named(name)

    async def _named(self, name: Name) -> str | None:
        """The newest answer with this name, but none that ended, or whose runner died, before it began."""
        redis = self._redis
        if not (found := await redis.get(_name(name))):
            return None
        id = str(found, "ascii")
        if first := await redis.xrange(f"{PREFIX}:stream:{id}", count=1):
            return id if b"h" in first[0][1] else None
        runner = await redis.hget(_meta(id), "runner")
        return id if runner and await redis.exists(f"{PREFIX}:runner:{runner.decode()}") else None

    async def follow(self, id: str, gone: Callable[[StreamLog], None]) -> StreamLog | None:
        """A log that follows another replica's; `gone` is called when nobody reads it any more. Raises `StreamsUnknown`."""
        with _known():
            meta = {key.decode(): value.decode() for key, value in (await self._redis.hgetall(_meta(id))).items()}
        if not meta:
            return None
        record = StreamRecord(request_id=id, started_at=asyncio.get_running_loop().time())
        log = StreamLog(id, meta["owner"], most_bytes=MOST_FOLLOWED_BYTES, record=record, asked=meta.get("asked", ""))
        log.follows, last = True, b"0"
        with _known():
            while entries := await self._entries(f"{PREFIX}:stream:{id}", last, None):
                last = self._take(log, entries)
        control = f"{PREFIX}:runner:{meta['runner']}:control"
        task = self._start(self._follow(log, last, meta["runner"], control))

        def left() -> None:
            if not log.readers:
                task.cancel()
                gone(log)

        log.on_left = left
        log.on_stop = lambda: self._tell(control, "stop", id)
        return log

    def over(self, log: StreamLog, keep_s: float) -> None:
        """The answer is over. Redis keeps its stream for `keep_s`."""
        if copier := self._copied.pop(log.id, None):
            copier.keep_s = keep_s
            copier.wake()

    async def aclose(self) -> None:
        """Let what ended be copied to its end, within two seconds, and close."""
        copying = [task for task in self._tasks if task is not self._control]
        if copying:
            await asyncio.wait(copying, timeout=2)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._redis.aclose()

    # -- the runner's side -------------------------------------------------------------------------------------

    async def _copy(self, copier: _Copier) -> None:
        """Copy a log to its end. While Redis is away the log itself keeps what is to be copied."""
        while not copier.done:
            try:
                await copier.step()
            except (RedisError, OSError) as error:
                warnings.warning("streams_away", error=type(error).__name__)
                await asyncio.sleep(0.5)

    async def _obey(self) -> None:
        """Say that this runner is there, and do what followers want."""
        alive = f"{PREFIX}:runner:{self._runner}"
        control, last = alive + ":control", b"0"
        while self._copied:
            try:
                await self._redis.set(alive, 1, ex=ALIVE_S)
                for id, fields in await self._entries(control, last, BLOCK_MS):
                    self._told(fields)
                    last = id
            except (RedisError, OSError):
                await asyncio.sleep(0.5)

    def _told(self, fields: dict[bytes, bytes]) -> None:
        for word, id in fields.items():
            copier = self._copied.get(id.decode())
            if copier is None:
                continue
            if word == b"stop":
                copier.log.stop()
            else:
                copier.read_until = asyncio.get_running_loop().time() + READ_FOR_S

    # -- the follower's side -----------------------------------------------------------------------------------

    async def _follow(self, log: StreamLog, last: bytes, runner: str, control: str) -> None:
        silent = 0
        while not log.closed:
            try:
                await self._say(control, "read", log.id)
                entries = await self._entries(f"{PREFIX}:stream:{log.id}", last, BLOCK_MS)
                silent = 0 if entries else silent + 1
                if silent > 1 and not await self._redis.exists(f"{PREFIX}:runner:{runner}"):
                    if log.begun:
                        log.close(aborted=True)  # nobody will say how it ends
                    else:
                        log.fail(RunnerGone())
                last = self._take(log, entries) or last
            except (RedisError, OSError):
                await asyncio.sleep(0.5)

    def _take(self, log: StreamLog, entries: Entries) -> bytes:
        """Append what came to a log that follows; returns the id of the last entry."""
        last = b""
        for id, fields in entries:
            last = id
            if not log.begun and b"h" in fields:
                head = msgspec.json.decode(fields[b"h"])
                record, seen = log.record, msgspec.convert(head["record"], _Record)
                record.route, record.backend, record.upstream_model = seen.route, seen.backend, seen.upstream_model
                log.begin(head["headers"])
            log.headless = log.headless or b"g" in fields
            if b"d" in fields:
                log.append(fields[b"d"])
            if b"c" in fields:
                log.close(aborted=fields[b"c"] == b"1")
        return last

    async def _entries(self, key: str, last: bytes, block_ms: int | None) -> Entries:
        """What came into a Redis stream after `last`, waiting for it for a while."""
        read = await self._redis.xread({key: last}, count=100, block=block_ms)
        return [entry for _, entries in (read.items() if isinstance(read, dict) else read) for entry in entries]

    def _tell(self, control: str, word: str, id: str) -> None:
        telling = self._start(_quietly(self._say(control, word, id)))
        telling.set_name(f"{word} {id}")

    async def _say(self, control: str, word: str, id: str) -> None:
        saying = self._redis.pipeline(transaction=False)
        saying.xadd(control, {word: id}, maxlen=1000)
        saying.expire(control, LONGEST_S)  # the runner may be gone
        await saying.execute()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Copier:
    """Copies one log into its Redis stream."""

    def __init__(self, redis: Any, log: StreamLog) -> None:
        self.log = log
        self.read_until = 0.0  # somebody reads it on another replica, until then at least
        self.keep_s = float(LONGEST_S)
        self.done = False
        self._redis, self._key = redis, f"{PREFIX}:stream:{log.id}"
        self._position = 0
        self._told_head = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def step(self) -> None:
        """Wait for something to copy, and copy all of it at once. Raises `RedisError`."""
        await self._woken.wait()
        self._woken.clear()
        log, pipeline, position = self.log, self._redis.pipeline(transaction=False), self._position
        fields: dict[str, bytes] = {}
        if log.begun and not self._told_head:
            record = _Record(log.record.route, log.record.backend, log.record.upstream_model)
            fields["h"] = msgspec.json.encode({"headers": dict(log.headers), "record": record})
        if log.first > position:
            fields["g"], position = b"1", log.first  # Redis was away for longer than the log reaches back
        while True:
            data, position = log.read(position)
            if data:
                fields["d"] = data
            if fields:
                pipeline.xadd(self._key, fields)
            fields = {}
            if not data:
                break
        ended = log.closed
        if ended:
            pipeline.xadd(self._key, {"c": b"1" if log.aborted or not log.begun else b"0"})
        try:
            keep_s = int(self.keep_s) if ended else LONGEST_S
            for key in (self._key, f"{self._key}:meta"):
                pipeline.expire(key, max(keep_s, 1))
            await pipeline.execute()
        except (RedisError, OSError):
            self._woken.set()
            raise
        self._position, self._told_head, self.done = position, log.begun, ended


@contextlib.contextmanager
def _known() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StreamsUnknown from error


def _name(name: Name) -> str:
    return f"{PREFIX}:stream-name:{name[0]}:{name[1]}"


def _meta(id: str) -> str:
    return f"{PREFIX}:stream:{id}:meta"


async def _quietly(command: Any) -> None:
    try:
        await command
    except (RedisError, OSError) as error:
        warnings.warning("streams_away", error=type(error).__name__)
