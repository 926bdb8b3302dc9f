"""Which answers can be resumed, by their ids and by the names that contracts know them by."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable

from proxy.errors import NotFound
from proxy.streams.log import StreamLog
from proxy.telemetry.record import StreamRecord

MOST_KEPT_BYTES = 256_000_000
"""Bytes of finished answers that are kept in all. Beyond that the oldest are forgotten before their time."""

Name = tuple[str, str]
"""Of what kind a name is, such as `response`, and the name."""


class Streams:
    """The answers of this process that run, and those that ended lately.

    Ids are random: 128 bits that nobody guesses, and one answer each, whatever id its request has.
    """

    def __init__(self) -> None:
        self._logs: dict[str, StreamLog] = {}
        self._names: dict[Name, StreamLog] = {}
        self._kept: dict[StreamLog, asyncio.TimerHandle] = {}  # those that ended, the oldest first

    def open(self, owner: str, names: Iterable[Name], *, most_bytes: int, record: StreamRecord) -> StreamLog:
        """A log for a new answer. Each of `names` is its from now on."""
        log = StreamLog(secrets.token_hex(16), owner, most_bytes=most_bytes, record=record)
        self._logs[log.id] = log
        for name in names:
            self._names[name] = log
        return log

    def find(self, id: str, owner: str) -> StreamLog:
        """The answer `id`. Raises `NotFound`, the same for an unknown one and for another key's."""
        log = self._logs.get(id)
        if log is None or log.owner != owner:
            raise NotFound("There is no such stream: it ended some time ago, or never was.", code="stream_not_found")
        return log

    def named(self, name: Name) -> StreamLog | None:
        """The newest answer with this name."""
        return self._names.get(name)

    def keep(self, log: StreamLog, seconds: float) -> None:
        """The answer ended. Forget it after `seconds`."""
        if log.id in self._logs:
            self._kept[log] = asyncio.get_running_loop().call_later(seconds, self.forget, log)
            while sum(one.size for one in self._kept) > MOST_KEPT_BYTES:
                self.forget(next(iter(self._kept)))

    def forget(self, log: StreamLog) -> None:
        self._logs.pop(log.id, None)
        self._names = {name: one for name, one in self._names.items() if one is not log}
        if timer := self._kept.pop(log, None):
            timer.cancel()

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
