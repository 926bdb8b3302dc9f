"""Which answers can be resumed, by their ids and by the names that contracts know them by."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.errors import NotFound
from proxy.streams.log import StreamLog
from proxy.telemetry.record import StreamRecord

MOST_KEPT_BYTES = 256_000_000
"""Bytes of finished answers that are kept in all. Beyond that the oldest are forgotten before their time."""

Name = tuple[str, str]
"""Of what kind a name is, such as `response`, and the name."""


class Shared(Protocol):
    """Where replicas find each other's answers. Raises `StreamsUnknown` while it is away, except from `claim`."""

    async def claim(self, log: StreamLog, names: Sequence[Name], unique: Name | None) -> str | None: ...
    async def named(self, name: Name) -> str | None: ...
    async def follow(self, id: str, gone: Callable[[StreamLog], None]) -> StreamLog | None: ...
    def over(self, log: StreamLog, keep_s: float) -> None: ...


class Streams:
    """The answers of this process that run, and those that ended lately.

    Ids are random: 128 bits that nobody guesses, and one answer each, whatever id its request has.
    """

    def __init__(self) -> None:
        self.shared: Shared | None = None
        self._logs: dict[str, StreamLog] = {}
        self._names: dict[Name, StreamLog] = {}
        self._kept: dict[StreamLog, tuple[asyncio.TimerHandle, int]] = {}  # those that ended, the oldest first
        self._kept_bytes = 0

    async def open(
        self,
        owner: str,
        names: Sequence[Name],
        *,
        unique: Name | None = None,
        asked: str = "",
        most_bytes: int,
        record: StreamRecord,
    ) -> StreamLog:
        """A log for a new answer to the request with the digest `asked`, whose `names` are its from now on.

        If another replica's answer has the name `unique` already, a log that follows that.
        """
        log = StreamLog(secrets.token_hex(16), owner, most_bytes=most_bytes, record=record, asked=asked)
        self._logs[log.id] = log
        log.names = tuple(names) if unique is None else (unique, *names)
        self._names |= dict.fromkeys(log.names, log)
        if self.shared is not None and (other := await self.shared.claim(log, names, unique)) is not None:
            self.forget(log)
            if (found := await self._followed(other)) is not None:
                return found
            self._logs[log.id] = log  # the other answer is gone by now
        return log

    async def find(self, id: str, owner: str) -> StreamLog:
        """The answer `id`. Raises `NotFound`, the same for an unknown one and for another key's."""
        log = self._logs.get(id) or await self._followed(id)
        if log is None or log.owner != owner:
            raise NotFound("There is no such stream: it ended some time ago, or never was.", code="stream_not_found")
        return log

    async def named(self, name: Name) -> StreamLog | None:
        """The newest answer with this name."""
        log = self._names.get(name)
        if log is None and self.shared is not None and (id := await self.shared.named(name)) is not None:
            log = self._logs.get(id) or await self._followed(id)
        return log

    async def _followed(self, id: str) -> StreamLog | None:
        """A log that follows another replica's answer."""
        if self.shared is None or (log := await self.shared.follow(id, self.forget)) is None:
            return None
        return self._logs.setdefault(id, log)

    def keep(self, log: StreamLog, seconds: float) -> None:
        """The answer ended. Forget it after `seconds`."""
        if self.shared is not None:
            self.shared.over(log, seconds)
        if log.id in self._logs:
            self._kept[log] = asyncio.get_running_loop().call_later(seconds, self.forget, log), log.size
            self._kept_bytes += log.size
            while self._kept_bytes > MOST_KEPT_BYTES:
                self.forget(next(iter(self._kept)))

    def forget(self, log: StreamLog) -> None:
        self._logs.pop(log.id, None)
        for name in log.names:
            if self._names.get(name) is log:  # else a newer answer has it
                del self._names[name]
        if kept := self._kept.pop(log, None):
            timer, size = kept
            timer.cancel()
            self._kept_bytes -= size

    def forget_all(self) -> None:
        for log in tuple(self._logs.values()):
            self.forget(log)

    def state(self) -> dict[str, int]:
        """For `/status`."""
        running = [log for log in self._logs.values() if not log.closed]
        return {
            "running": len(running),
            "kept": len(self._kept),
            "bytes": sum(log.size for log in self._logs.values()),
            "readers": sum(len(log.readers) for log in self._logs.values()),
        }
