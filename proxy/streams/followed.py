"""A log that follows a stream in Redis: what its entries mean."""

from collections.abc import Callable

import msgspec

from proxy.errors import RunnerGone
from proxy.streams.log import StreamLog

Entries = list[tuple[bytes, dict[bytes, bytes]]]


class AnsweredBy(msgspec.Struct):
    """What a follower tells its readers of the answer, in headers."""

    route: str
    backend: str
    upstream_model: str


class Followed:
    """A log that follows a Redis stream."""

    def __init__(self, log: StreamLog, runner: str, gone: Callable[[StreamLog], None]) -> None:
        self.log, self.runner, self.gone = log, runner, gone
        self.last = b"0"  # the entry that was read last
        self.silent = 0  # beats since something came
        self.unread = 0  # beats since somebody read it
        self._missing = 0  # frames that Redis never got

    def take(self, entries: Entries) -> None:
        """Append what came."""
        log, self.silent = self.log, 0
        for self.last, fields in entries:
            if not log.begun and b"h" in fields:
                head = msgspec.json.decode(fields[b"h"])
                record, seen = log.record, msgspec.convert(head["record"], AnsweredBy)
                record.route, record.backend, record.upstream_model = seen.route, seen.backend, seen.upstream_model
                log.begin(head["headers"])
            if b"g" in fields:
                log.headless, self._missing = True, max(self._missing, int(fields[b"n"]) - log.length)
            if b"d" in fields:
                known = log.length + self._missing - int(fields[b"n"])  # frames that were sent twice
                if data := log.without_first(known, fields[b"d"]):
                    log.append(data)
            if b"c" in fields:
                log.close(aborted=fields[b"c"] == b"1")

    def end(self) -> None:
        """Nothing more comes."""
        if self.log.begun and not self.log.closed:
            self.log.close(aborted=True)
        elif not self.log.closed:
            self.log.fail(RunnerGone())
