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

    def take(self, entries: Entries) -> None:
        """Append what came."""
        log, self.silent = self.log, 0
        for self.last, fields in entries:
            if log.closed:
                return
            if not log.begun and b"h" in fields:
                head = msgspec.json.decode(fields[b"h"])
                record, seen = log.record, msgspec.convert(head["record"], AnsweredBy)
                record.route, record.backend, record.upstream_model = seen.route, seen.backend, seen.upstream_model
                log.begin(head["headers"])
            known = log.length - int(fields.get(b"n", b"0"))  # frames that were sent twice
            if known < 0 or (b"d" in fields and not log.begun):
                log.headless = True  # Redis never got, or forgot, what is between
                log.close(aborted=True)
                return
            if b"d" in fields and (data := log.without_first(known, fields[b"d"])):
                log.append(data)
            if b"c" in fields:
                log.close(aborted=fields[b"c"] == b"1")

    def end(self) -> None:
        """Nothing more comes."""
        if self.log.begun and not self.log.closed:
            self.log.close(aborted=True)
        elif not self.log.closed:
            self.log.fail(RunnerGone())
