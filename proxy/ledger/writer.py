"""The record sink that fills the ledger. The request path only puts a line in a queue.

One thread writes lines to the spool, another brings them from there into the store. So a store that is slow or away
costs disk, and a disk that is slow costs memory; neither costs a request anything.
"""

import asyncio
import threading
import time
from collections import deque
from pathlib import Path

import msgspec
import structlog

from proxy.config.usage import UsageSettings
from proxy.ledger.rows import rows_of
from proxy.ledger.spool import Spool
from proxy.ledger.store import LedgerStore
from proxy.telemetry.record import StreamRecord

log = structlog.get_logger("proxy.ledger")

GATHER_S = 0.02
"""How long after a row a thread waits for more, to write them at once."""

STORE_S = 0.25
"""The same between two transactions of the store: each costs two or three syncs, and at 200 requests a second there were
50 of them."""

MOST_QUEUED = 100_000  # rows in memory, while the disk does not take them
LOOK_S = 30.0  # between two looks for files that were left behind
DELETE_S = 3600.0  # between two deletions of old rows
RETRY_S = (0.5, 15.0)  # the first wait for a store that is away, and the longest
CLOSE_S = 5.0

_encode = msgspec.json.Encoder().encode


class Ledger:
    """Takes records (`RecordSink`). `start` and `close` block."""

    def __init__(self, settings: UsageSettings) -> None:
        self.settings = settings
        self.store = LedgerStore(settings)
        self.rows = 0  # that were handed to this ledger, lost ones included
        self.lost = 0
        self.failures = 0  # times that the store could not be reached
        self._folder: Path = settings.spool_folder
        self._most_bytes = int(settings.spool_mb * 1_000_000)
        self._lines: deque[bytes] = deque()
        self._spool: Spool
        self._away_since: float | None = None
        self._trouble = ""  # why the spool takes nothing
        self._queued, self._spooled = threading.Event(), threading.Event()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._fill_spool, name="usage spool", daemon=True),
            threading.Thread(target=self._fill_store, name="usage store", daemon=True),
        ]

    def start(self) -> None:
        """Raises `OSError` if there can be no spool."""
        self._spool = Spool.new(self._folder)
        for thread in self._threads:
            thread.start()

    def ended(self, record: StreamRecord) -> None:
        """See `RecordSink`."""
        for row in rows_of(record, asyncio.get_running_loop().time()):
            self.rows += 1
            if len(self._lines) >= MOST_QUEUED:
                self.lost += 1
                continue
            self._lines.append(_encode(row) + b"\n")
            if not self._queued.is_set():
                self._queued.set()

    def state(self) -> dict[str, object]:
        """For `/status`."""
        away = self._away_since
        return {
            "kind": "postgresql" if self.settings.file is None else "sqlite",
            "reachable": away is None,
            "away_s": None if away is None else round(time.monotonic() - away, 1),
            "rows": self.rows,
            "lost": self.lost,
            "queued": len(self._lines),
            "spooled_bytes": self._spool.waiting,
        }

    def close(self) -> None:
        """Write what there is, as far as the store takes it in time. The rest stays in the spool."""
        self._closing.set()
        self._queued.set()
        self._threads[0].join(CLOSE_S)
        self._spooled.set()
        self._threads[1].join(CLOSE_S)
        if any(thread.is_alive() for thread in self._threads):
            log.warning("usage_left_in_spool", folder=str(self._folder), bytes=self._spool.waiting)
        else:
            self._spool.close()

    # -- the thread that fills the spool -------------------------------------------------------------------------

    def _fill_spool(self) -> None:
        while not self._closing.is_set() or self._lines:
            self._queued.wait()
            last = self._closing.wait(GATHER_S)
            self._queued.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if self._spool.waiting >= self._most_bytes:
                self._lose(lines, "the spool is full")
                continue
            try:
                self._spool.append(b"".join(lines))
            except OSError as error:
                if last:
                    self._lose(lines, str(error))
                    continue
                self._say("usage_spool_failed", str(error))
                self._lines.extendleft(reversed(lines))
                self._queued.set()
                self._closing.wait(1.0)
            else:
                self._say("usage_spool_works", "")
                self._spooled.set()

    def _lose(self, lines: list[bytes], why: str) -> None:
        self.lost += len(lines)
        if lines:
            self._say("usage_rows_lost", why)

    def _say(self, event: str, why: str) -> None:
        """Log a change for the worse or the better, once."""
        if why != self._trouble:
            self._trouble = why
            (log.error if why else log.info)(event, folder=str(self._folder), error=why, lost=self.lost)

    # -- the thread that fills the store -------------------------------------------------------------------------

    def _fill_store(self) -> None:
        wait_s, look_at, delete_at = RETRY_S[0], 0.0, 0.0
        while True:
            now, last = time.monotonic(), self._closing.is_set() and not self._threads[0].is_alive()
            try:
                if now >= look_at and not last:
                    self._take_what_was_left()
                    look_at = now + LOOK_S
                self._take(self._spool)
                if self.settings.keep_days and now >= delete_at and not last:
                    self.store.delete_before(time.time() - self.settings.keep_days * 86_400)
                    delete_at = now + DELETE_S
            except self.store.failures as error:
                self._is_away(error)
                if last:
                    break
                if self._closing.wait(wait_s):
                    time.sleep(GATHER_S)
                wait_s = min(2 * wait_s, RETRY_S[1])
                continue
            wait_s = RETRY_S[0]
            self._is_back()
            if last:
                break
            if self._spooled.wait(LOOK_S):
                self._closing.wait(STORE_S)
            self._spooled.clear()
        self.store.close()

    def _take(self, spool: Spool) -> None:
        while spool.waiting:
            rows, position = spool.read()
            if rows and (refused := self.store.insert(rows)):
                self.lost += refused
                log.error("usage_rows_refused", file=str(spool.path), rows=refused, lost=self.lost)
            spool.advance(position)
        if spool.unreadable:
            log.error("usage_unreadable", file=str(spool.path), lines=spool.unreadable)
            spool.unreadable = 0

    def _take_what_was_left(self) -> None:
        for spool in Spool.left_behind(self._folder):
            self._take(spool)

    def _is_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self.failures += 1
            log.error("usage_store_away", error=f"{type(error).__name__}: {error}", message="rows wait in the spool")

    def _is_back(self) -> None:
        if self._away_since is not None:
            log.info("usage_store_back", away_s=round(time.monotonic() - self._away_since, 1))
            self._away_since = None
