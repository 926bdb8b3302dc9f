"""Meters in Redis or Valkey, for replicas that count together.

One connection, and one task that sends: what comes while an answer is awaited goes together with the next, as one
script. So under load a request costs a part of a round trip; and what is sent first is done first. redis-py takes twenty
times as long to write and read each of some forty arguments, so the script has one, as MessagePack.

When the server does not answer, each limit's `on_outage` decides at once, until it counts again. What is to be
settled waits, and is sent then. A take that nobody knows the fate of is given up by the same queue. So everything is
counted once, or by this process alone.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from proxy.config.limits import passwords_of
from proxy.errors import LimitsUnknown
from proxy.store.base import Lease, Meter, Room, Want
from proxy.store.memory import MemoryStore
from proxy.wire.secret_shapes import Secrets

SCRIPT = (Path(__file__).parent / "meters.lua").read_text()
PREFIX = "{chat-proxy}"  # in braces: a cluster keeps all of it in one place, and one script can have it
TIMEOUT_S = 1.0  # for connecting, and for each answer
LATE_S = 0.05  # a timer that fires later than this tells of a process that stood still
PROBE_S = 0.25  # between two tries to reach a server that is away
LEASE_S = 60.0
"""How long a lease lasts that is not renewed: then what a killed process held is free. It is renewed three times as
often. A lease in a budget lasts as long as its request may, so that nothing is spent twice."""

MOST_OF_EACH = 64
"""Calls of a kind that are sent at once."""

SETTLE_S = 0.005
"""How long the end of a request waits for another call to go with it, so that it needs no round trip of its own. A place
of `parallel` is free at once: it may be the next one's. Of the other limits a hold lasts that much longer."""

MOST_UNSENT = 100_000
"""Ends of requests that wait for the server to come back. Beyond that the oldest are lost: their leases end by themselves."""

log = structlog.get_logger("proxy.store")


class _Call(msgspec.Struct):
    keys: Sequence[bytes]  # as the protocol writes them
    arguments: tuple[object, ...]  # see meters.lua
    answer: asyncio.Future[Sequence[float]] | None  # None: nobody waits


class RedisStore:
    """Counts in the server at `url`. `now`, for tests, replaces the server's clock, in seconds."""

    kind = "redis"

    def __init__(
        self, url: str, *, now: float | None = None, timeout_s: float = TIMEOUT_S, lease_s: float = LEASE_S
    ) -> None:
        self.client = Redis.from_url(
            url,
            max_connections=4,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            client_name="chat-proxy",
        )
        self.now = now
        self.on_back: Callable[[], None] = lambda: None  # it may have forgotten what it counted
        self.outages = 0
        self.address = _address(url)
        self._secrets = Secrets(passwords_of(url))
        self._local = MemoryStore(time.monotonic)
        self._calls: deque[_Call] = deque()
        self._unsent: deque[_Call] = deque(maxlen=MOST_UNSENT)
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None
        self._renewer: asyncio.Task[None] | None = None
        self._lease_s = lease_s
        self._connection = self.client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        self._connection.socket_timeout = self._connection.socket_connect_timeout = None  # `_run` has one for all of it
        self._timeout_s = timeout_s
        self._open: dict[str, tuple[Lease, float]] = {}  # what is to be renewed, and until when
        self._away_since: float | None = None
        self._sha = b""
        self._closed = False

    @property
    def away(self) -> bool:
        """Whether the server did not answer last time."""
        return self._away_since is not None

    async def take(self, lease: Lease) -> tuple[bool, Sequence[Room]]:
        """See `Store`."""
        if self._away_since is not None:
            return self._without(lease)
        answer = asyncio.get_running_loop().create_future()
        self._send(self._calls, self._call("take", lease, answer=answer))
        try:
            taken, at, *numbers, forgot = await answer
        except RedisError:
            self._forget(lease)
            return self._without(lease)
        except asyncio.CancelledError:
            self._forget(lease)
            raise
        if taken:
            lease.store, lease.taken_at = self, at
            if lease.lasts_s > self._lease_s:
                self._open[lease.id] = lease, time.monotonic() + lease.lasts_s
        rooms = [Room(left, wait_s) for left, wait_s in zip(numbers[::2], numbers[1::2], strict=True)]
        for want, room in zip(lease.wants, rooms, strict=False):
            if want.meter.unit == "usd":  # while the server is away, this process goes on from here
                knew = self._local.correct(want.meter, want.meter.limit - room.left)
                if forgot and knew:  # the server was emptied, or evicted it
                    log.warning("store_forgot", store=self.address)
                    self.on_back()
        return bool(taken), rooms

    def settle(self, lease: Lease, used: Sequence[int]) -> None:
        """See `Store`. Sent with whatever else is to be sent, and kept while the server is away."""
        if lease.store is None:
            return
        lease.store = None
        self._open.pop(lease.id, None)
        settles, waited_for = False, False
        for want in lease.wants:
            settles = settles or want.meter.settles
            waited_for = waited_for or want.meter.unit == "parallel"
        if settles:
            self._send(self._unsent, self._call("settle", lease, used), soon=not waited_for)

    def _forget(self, lease: Lease) -> None:
        """End a lease of which nobody knows whether it was taken."""
        self._send(self._unsent, self._call("settle", lease, [0] * len(lease.wants), unknown=True))

    def renew(self) -> None:
        """Renew all leases of requests that are under way."""
        if self.away:
            return
        now = time.monotonic()
        for lease, until in list(self._open.values()):
            if now < until:
                call = self._call("renew", lease)
                if call.arguments[-1]:
                    self._send(self._unsent, call)
            else:
                del self._open[lease.id]

    def remember(self, meter: Meter, used: int) -> None:
        """See `Store`. Sent as `settle` is."""
        self._local.remember(meter, used)
        lease = Lease(0.0, (Want(meter, 0, 0),))
        self._send(self._unsent, self._call("remember", lease, [used]))

    def state(self) -> dict[str, object]:
        """See `Store`."""
        away_s = None if self._away_since is None else round(time.monotonic() - self._away_since, 1)
        return {
            "kind": self.kind,
            "address": self.address,
            "reachable": away_s is None,
            "away_s": away_s,
            "outages": self.outages,
            "unsent": len(self._unsent),
        }

    def why(self, error: Exception) -> str:
        """Why the server cannot be used, in its own words and without its password."""
        return self._secrets.mask(str(error) or type(error).__name__)

    async def aclose(self) -> None:
        """Send what is to be settled, if the server takes it in time, and close."""
        if self._sender is not None:
            if not self.away:
                self._wake()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TIMEOUT_S):
                        await self._idle.wait()
            self._closed = True  # a cancellation alone may be taken for a timeout on its way through redis-py
            tasks = [task for task in (self._sender, self._renewer) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await self._connection.disconnect()
        await self.client.aclose()

    # -- without the server ------------------------------------------------------------------------------------

    def _without(self, lease: Lease) -> tuple[bool, Sequence[Room]]:
        """What the limits say that cannot be counted together now."""
        if any(want.meter.on_outage == "deny" for want in lease.wants):
            raise LimitsUnknown
        local = [want for want in lease.wants if want.meter.on_outage == "local"]
        lease.wants = tuple([msgspec.structs.replace(want, meter=want.meter.local) for want in local])
        return self._local.take_now(lease)

    def _lost(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self.outages += 1
            log.warning("store_away", store=self.address, error=self.why(error))

    # -- sending -----------------------------------------------------------------------------------------------

    def _call(
        self,
        doing: str,
        lease: Lease,
        used: Sequence[int] = (),
        *,
        unknown: bool = False,
        answer: asyncio.Future[Sequence[float]] | None = None,
    ) -> _Call:
        renewed_s = min(lease.lasts_s, self._lease_s)
        settling = [
            (want.meter, want.charge, want.hold, amount)
            for want, amount in zip(lease.wants, used or repeat(0), strict=False)
            if doing == "take" or (want.meter.settles and (doing != "renew" or want.meter.unit != "usd"))
        ]
        keys = [_keys(meter.name) for meter, *_ in settling]
        keys.append(_written(f"{PREFIX}:gone:{lease.id}".encode()))
        rows = [
            (
                *(meter.limit, meter.period_s, meter.keeps_s, meter.settles, meter.forfeits, charge, hold),
                lease.lasts_s if meter.unit == "usd" else renewed_s,
                amount,
            )
            for meter, charge, hold, amount in settling
        ]
        return _Call(keys, (doing, self.now, lease.id, unknown, lease.taken_at, rows), answer)

    def _send(self, queue: deque[_Call], call: _Call, *, soon: bool = False) -> None:
        """Have it sent: now, or `soon`, with what else is to be sent by then."""
        queue.append(call)
        if self._sender is None:
            self._sender = asyncio.create_task(self._sending())
            self._renewer = asyncio.create_task(self._renewing())
        if not soon or len(queue) >= MOST_OF_EACH:
            self._wake()
        elif self._soon is None:
            self._soon = self._sender.get_loop().call_later(SETTLE_S, self._wake)

    def _wake(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if not self._wanted.is_set():
            self._wanted.set()
            self._idle.clear()

    async def _sending(self) -> None:
        while not self._closed:
            if self.away:
                await self._come_back()
            await self._wanted.wait()
            batch = [  # what gives room first: an ended request's place is the next one's
                queue.popleft() for queue in (self._unsent, self._calls) for _ in range(min(len(queue), MOST_OF_EACH))
            ]
            if not batch:
                self._wanted.clear()
                self._idle.set()
                continue
            try:
                await self._run(batch)
            except Exception as error:  # whatever it is: if this task ends, all who ask wait for ever
                self._lost(error)
                self._give_up([*batch, *self._calls])
                self._calls.clear()

    async def _renewing(self) -> None:
        while not self._closed:
            await asyncio.sleep(self._lease_s / 3)
            self.renew()

    async def _run(self, batch: Sequence[_Call]) -> None:
        """Have the server do all of it in one script. Raises `RedisError` or `OSError` if nobody knows that it did."""
        keys = [key for call in batch for key in call.keys]
        count = sum([2 * len(call.keys) - 1 for call in batch])  # two of each meter, and one mark
        packed = _written(msgspec.msgpack.encode([call.arguments for call in batch]))
        connection, loop = self._connection, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as patience:
                timer = loop.call_later(self._timeout_s, _out_of_patience, patience, loop.time() + self._timeout_s)
                try:
                    if connection.is_connected and await connection.can_read():  # it was closed meanwhile
                        await connection.disconnect()
                    if not self._sha:
                        await connection.send_command("SCRIPT", "LOAD", SCRIPT)
                        self._sha = await connection.read_response()
                    head = (b"*%d\r\n" % (count + 4), *map(_written, (b"EVALSHA", self._sha, b"%d" % count)))
                    await connection.send_packed_command(b"".join([*head, *keys, packed]))
                    answer = await connection.read_response()
                finally:
                    timer.cancel()
        except NoScriptError:  # the server was started again, or told to forget scripts
            self._sha = b""
            return await self._run(batch)
        for call, one in zip(batch, msgspec.msgpack.decode(answer), strict=True):
            if call.answer is not None and not call.answer.done():
                call.answer.set_result(one)
        return None

    def _give_up(self, calls: Sequence[_Call]) -> None:
        """Tell those who wait, and keep what is to be done all the same."""
        for call in calls:
            if call.answer is None:
                self._unsent.append(call)
            elif not call.answer.done():
                call.answer.set_exception(RedisError("the store is away"))

    async def _come_back(self) -> None:
        """Ask the server until it counts: one that is full, or that must not write, answers and is no store."""
        assert self._away_since is not None
        while not self._closed:
            await asyncio.sleep(PROBE_S)
            try:
                self._sha = b""
                await self._run([self._call("settle", Lease(0.0, ()), unknown=True)])
            except Exception:  # noqa: S112 - logged when it went away
                continue
            log.info("store_back", store=self.address, away_s=round(time.monotonic() - self._away_since, 3))
            self._away_since = None
            self.on_back()
            return


def _out_of_patience(patience: asyncio.Timeout, due: float) -> None:
    """End the wait; but when this process stood still, what the server answered meanwhile is read first."""
    now = asyncio.get_running_loop().time()
    patience.reschedule(now + LATE_S if now > due + LATE_S else now)


def _written(part: bytes) -> bytes:
    """A part of a command, as the protocol of Redis (RESP) writes it."""
    return b"$%d\r\n%b\r\n" % (len(part), part)


@lru_cache(maxsize=4096)
def _keys(name: str) -> bytes:
    """The two keys of a meter."""
    key = f"{PREFIX}:{name}".encode()
    return _written(key) + _written(key + b":leases")


def _address(url: str) -> str:
    """The address without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
