"""Streams in Redis or Valkey: an answer that one replica runs can be resumed on any other.

The replica that runs an answer copies its log into a Redis stream as it goes. Another replica that is asked for it
follows that stream with a log of its own, so readers are served the same way everywhere. What followers want of the
runner (stop; somebody still reads) goes to the runner's control stream. Redis Streams, not pub/sub: an entry is there
to be read whenever somebody looks, so no end can be missed.

One task of a process writes all its logs, and one reads all streams that it follows: they hold two connections,
however many answers there are.

| key | holds |
|---|---|
| `chat-proxy:stream:ID` | entries with `n` (number of the first frame) and `d` (frames), see below |
| `chat-proxy:stream:ID:meta` | whose it is, its runner, a digest of the request |
| `chat-proxy:stream-name:KIND:NAME` | an id |
| `chat-proxy:runner:RUNNER` | there as long as that process is |
| `chat-proxy:runner:RUNNER:control` | entries `stop` and `read`, each with ids; `follow` only ends a wait |

The first entry of a stream also has `h` (headers, route and target), the last one `c` and no frames (1: it ends with a
cut). An entry whose `n` is not the next number says that frames were lost: readers are cut there, for none is left out.
"""

import asyncio
import contextlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from proxy.errors import StreamsUnknown
from proxy.streams.followed import AnsweredBy, Entries, Followed
from proxy.streams.log import StreamLog
from proxy.streams.registry import Name
from proxy.telemetry.record import StreamRecord

PREFIX = "chat-proxy"
MOST_CONNECTIONS = 8  # two for the tasks that write and read, the others for look-ups

TIMEOUT_S = 5.0
"""How long Redis may take to answer."""

ALIVE_S = 10
"""How long a runner counts as running after its last beat."""

BEAT_S = 1.0  # between two beats of a process

READ_FOR_S = 4.0
"""How long an answer counts as read after a follower's `read`, which comes with every beat."""

LONGEST_S = 7200
"""How long a stream of a runner that died is kept."""

UNNAME = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"

MOST_FOLLOWED_BYTES = 1_000_000_000  # the runner's log decides how long an answer may be

warnings = structlog.get_logger("proxy.streams")


class SharedStreams:
    """The streams of all replicas that use one Redis."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            timeout=TIMEOUT_S,
            socket_connect_timeout=2.0,
            socket_timeout=TIMEOUT_S,
            client_name="chat-proxy",
        )
        # Its types do not tell a pipeline's commands from those that are awaited.
        self._redis: Any = Redis.from_pool(pool)
        self._runner = secrets.token_hex(8)
        self._control = _control(self._runner)
        self._copied: dict[str, _Copier] = {}  # of answers that run here
        self._uncopied: set[_Copier] = set()  # whose logs hold more than Redis does
        self._woken = asyncio.Event()
        self._followed: dict[str, Followed] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closed = False  # a cancelled task may go on: redis-py can take a cancellation for its own time-out

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
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hset(_meta(log.id), mapping={"owner": log.owner, "runner": self._runner, "asked": log.asked})
        pipeline.expire(_meta(log.id), LONGEST_S)
        pipeline.set(_alive(self._runner), 1, ex=ALIVE_S)
        await pipeline.execute()  # first: who finds the name has to find its runner
        if unique is not None and (found := await self._named_before(unique, log.id)) is not None:
            await self._redis.delete(_meta(log.id))
            return found
        for name in names:
            pipeline.set(_name(name), log.id, ex=LONGEST_S)
        await pipeline.execute()
        self._copied[log.id] = log.copier = _Copier(log, self._to_copy)
        self._read_on()
        if self._writing is None or self._writing.done():
            self._writing = self._start(self._write())
        return None

    async def _named_before(self, unique: Name, id: str) -> str | None:
        """Give `id` the name, unless an answer that is still there has it: then that one's id."""
        while not await self._redis.set(_name(unique), id, nx=True, ex=LONGEST_S):
            if (found := await self._named(unique)) is not None:
                return found
        return None

    async def named(self, name: Name) -> str | None:
        """The id of the newest answer with this name. Raises `StreamsUnknown`."""
        with _streams_unknown():
            return await self._named(name)

    async def _named(self, name: Name) -> str | None:
        """The newest answer with this name. One that ended, or whose runner died, before it began loses the name."""
        redis = self._redis
        if not (found := await redis.get(_name(name))):
            return None
        id = str(found, "ascii")
        if first := await redis.xrange(_key(id), count=1):
            there = b"h" in first[0][1]
        else:
            runner = await redis.hget(_meta(id), "runner")
            there = runner is not None and await redis.exists(_alive(runner.decode()))
        if not there:  # of several replicas that find this, each takes away the old name only, never a new one
            await redis.eval(UNNAME, 1, _name(name), found)
        return id if there else None

    async def follow(self, id: str, gone: Callable[[StreamLog], None]) -> StreamLog | None:
        """A log that follows another replica's; `gone` is called when nobody reads it any more. Raises `StreamsUnknown`."""
        with _streams_unknown():
            meta = {key.decode(): value.decode() for key, value in (await self._redis.hgetall(_meta(id))).items()}
        if not meta:
            return None
        record = StreamRecord(request_id=id, started_at=asyncio.get_running_loop().time())
        log = StreamLog(id, meta["owner"], most_bytes=MOST_FOLLOWED_BYTES, record=record, asked=meta.get("asked", ""))
        log.follows = True
        one = Followed(log, meta["runner"], gone)
        with _streams_unknown():
            while entries := (await self._entries({_key(id): one.last}, None)).get(_key(id)):
                one.take(entries)
        if id in self._followed:  # since another request asked for it too
            return self._followed[id].log
        self._followed[id] = one
        log.on_stop = lambda: self._tell(_control(one.runner), "stop", id)
        if not self._read_on():
            self._tell(self._control, "follow", id)  # an entry ends the wait that does not know this stream
        return log

    def over(self, log: StreamLog, keep_s: float) -> None:
        """The answer is over. Redis keeps its stream for `keep_s`."""
        if copier := self._copied.pop(log.id, None):
            copier.keep_s = keep_s
            copier.wake()

    async def aclose(self) -> None:
        """Let what ended be copied to its end, within two seconds, and close."""
        if copying := [task for task in self._tasks if task is not self._reading]:
            await asyncio.wait(copying, timeout=2)
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._redis.aclose()

    # -- what goes to Redis ------------------------------------------------------------------------------------

    def _to_copy(self, copier: "_Copier") -> None:
        self._uncopied.add(copier)
        self._woken.set()

    async def _write(self) -> None:
        """Copy all logs to their ends. While Redis is away the logs themselves keep what is to be copied."""
        while (self._copied or self._uncopied) and not self._closed:
            await self._woken.wait()
            self._woken.clear()
            copiers, self._uncopied = self._uncopied, set()
            pipeline = self._redis.pipeline(transaction=False)
            copied = [(copier, copier.write(pipeline)) for copier in copiers]
            try:
                await pipeline.execute()
            except (RedisError, OSError) as error:
                warnings.warning("streams_away", error=type(error).__name__)
                self._uncopied |= copiers
                self._woken.set()
                await asyncio.sleep(0.5)
            else:
                for copier, reached in copied:
                    copier.position, copier.told_head = reached

    def _tell(self, control: str, word: str, id: str) -> None:
        async def say() -> None:
            saying = self._redis.pipeline(transaction=False)
            _say(saying, control, word, id)
            try:
                await saying.execute()
            except (RedisError, OSError) as error:
                warnings.warning("streams_away", error=type(error).__name__)

        saying = self._start(say())
        saying.set_name(f"{word} {id}")

    # -- what comes from Redis ---------------------------------------------------------------------------------

    def _read_on(self) -> bool:
        """Start the task that reads, unless it runs. True if it was started."""
        if self._reading is not None and not self._reading.done():
            return False
        self._reading = self._start(self._read())
        return True

    async def _read(self) -> None:
        """Read what comes into the streams that are followed, and do what followers of ours want."""
        now, control = asyncio.get_running_loop().time, self._control
        last, beat_at = b"0", 0.0
        while (self._copied or self._followed) and not self._closed:
            try:
                if now() >= beat_at:
                    await self._beat()
                    beat_at = now() + BEAT_S
                followed = {_key(id): one for id, one in self._followed.items() if not one.log.closed}
                positions = {control: last, **{key: one.last for key, one in followed.items()}}
                for key, entries in (await self._entries(positions, beat_at - now())).items():
                    if key == control:
                        last = self._told(entries)
                    else:
                        followed[key].take(entries)
            except (RedisError, OSError):
                await asyncio.sleep(0.5)

    async def _beat(self) -> None:
        """Say that this process is there, and what it reads; end the answers of runners that are gone."""
        pipeline, read = self._redis.pipeline(transaction=False), defaultdict(list)
        pipeline.set(_alive(self._runner), 1, ex=ALIVE_S)
        for id, one in tuple(self._followed.items()):
            one.unread = 0 if one.log.readers else one.unread + 1
            if one.unread > 1:
                del self._followed[id]
                one.gone(one.log)
                one.end()
            elif one.log.readers and not one.log.closed:
                read[one.runner].append(id)
        for runner, ids in read.items():
            _say(pipeline, _control(runner), "read", " ".join(ids))
        silent = [one for one in self._followed.values() if one.silent > 1]
        for one in silent:
            pipeline.exists(_alive(one.runner))
        answers = await pipeline.execute()
        for one, there in zip(silent, answers[len(answers) - len(silent) :], strict=True):
            if not there:
                one.end()  # nobody will say how it ends
        for one in self._followed.values():
            one.silent += 1

    def _told(self, entries: Entries) -> bytes:
        """Do what followers want; returns the id of the last entry."""
        for _, fields in entries:
            for word, ids in fields.items():
                for copier in [self._copied[id] for id in ids.decode().split() if id in self._copied]:
                    if word == b"stop":
                        copier.log.stop()
                    else:
                        copier.read_until = asyncio.get_running_loop().time() + READ_FOR_S
        return entries[-1][0]

    async def _entries(self, positions: Mapping[str, bytes], wait_s: float | None) -> dict[str, Entries]:
        """By stream, what came after each position, waiting for anything for a while."""
        block = None if wait_s is None else max(1, int(1000 * wait_s))
        read = await self._redis.xread(positions, count=100, block=block)
        found: dict[str, Entries] = {}
        for key, entries in read.items() if isinstance(read, dict) else read:
            found[key.decode()] = entries
        return found

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Copier:
    """Copies one log into its Redis stream."""

    def __init__(self, log: StreamLog, to_copy: "Callable[[_Copier], None]") -> None:
        self.log = log
        self.read_until = 0.0  # somebody reads it on another replica, until then at least
        self.keep_s = float(LONGEST_S)
        self.position, self.told_head = 0, False  # what Redis has for certain
        self._to_copy = to_copy

    def wake(self) -> None:
        self._to_copy(self)

    def write(self, pipeline: Any) -> tuple[int, bool]:
        """Add to a pipeline all that Redis does not have; returns what it has after that.

        Redis may have done what it did not answer, and is sent it again: so all frames go with their numbers.
        """
        log, key, position = self.log, _key(self.log.id), self.position
        fields: dict[str, object] = {}
        if log.begun and not self.told_head:
            record = AnsweredBy(log.record.route, log.record.backend, log.record.upstream_model)
            fields["h"] = msgspec.json.encode({"headers": dict(log.headers), "record": record})
        position = max(position, log.first)  # Redis may have been away for longer than the log reaches back
        while True:
            fields["n"] = position
            data, position = log.read(position)
            if data:
                fields["d"] = data
            if len(fields) > 1:
                pipeline.xadd(key, fields)
            fields = {}
            if not data:
                break
        if log.closed:
            pipeline.xadd(key, {"n": position, "c": 1 if log.aborted or not log.begun else 0})
        keep_s = int(self.keep_s) if log.closed else LONGEST_S
        for one in (key, _meta(log.id)):
            pipeline.expire(one, max(keep_s, 1))
        return position, log.begun


@contextlib.contextmanager
def _streams_unknown() -> Iterator[None]:
    """Raise `StreamsUnknown` where Redis does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StreamsUnknown from error


def _say(pipeline: Any, control: str, word: str, ids: str) -> None:
    pipeline.xadd(control, {word: ids}, maxlen=1000)
    pipeline.expire(control, LONGEST_S)  # the runner may be gone


def _name(name: Name) -> str:
    return f"{PREFIX}:stream-name:{name[0]}:{name[1]}"


def _key(id: str) -> str:
    return f"{PREFIX}:stream:{id}"


def _meta(id: str) -> str:
    return f"{_key(id)}:meta"


def _alive(runner: str) -> str:
    return f"{PREFIX}:runner:{runner}"


def _control(runner: str) -> str:
    return f"{_alive(runner)}:control"
