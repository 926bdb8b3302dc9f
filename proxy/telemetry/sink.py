"""Writes log lines by a thread of its own, so that a slow reader of the log delays no request (D06)."""

import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any

MOST_BYTES = 4 * 1024 * 1024  # of lines that wait

GATHER_S = 0.02
"""How long after a write the thread waits before the next, to write several lines at once. Under load a wake-up for
each line costs more than the line itself: the thread needs the interpreter, which is busy with requests."""

CLOSE_S = 4.0
"""How long a close may wait for a slow reader; the parent of workers kills one that takes five seconds longer than the
drain. A reader that takes nothing for a second is not waited for."""

PIECE = 4096
"""How much is written at once: a write returns when the reader has room for all of it, and each is a sign of life."""


class Sink:
    """Takes lines without ever waiting. Lines that do not fit, because the reader of the log is stuck, are dropped and
    counted.

    The thread writes to the descriptor itself: a daemon thread that is stuck inside the buffer of `sys.stderr` holds
    its lock, and the interpreter crashes on that at exit.
    """

    def __init__(
        self,
        stream: IO[str],
        *,
        most_bytes: int = MOST_BYTES,
        turn: AbstractContextManager[object] | None = None,
        notice: Callable[[int], str] = "{} log lines dropped: the log's reader was too slow\n".format,
    ) -> None:
        self._stream, self._most_bytes = stream, most_bytes
        self._turn = turn or contextlib.nullcontext()  # held during a write, where several processes write to one place
        self._notice = notice  # the line that tells how many were dropped, once lines flow again
        self.dropped = 0
        self._start_afresh()
        if hasattr(os, "register_at_fork"):
            sink = weakref.ref(self)

            def afresh() -> None:
                if (alive := sink()) is not None:
                    alive._start_afresh()  # noqa: SLF001 - itself

            os.register_at_fork(after_in_child=afresh)

    def _start_afresh(self) -> None:
        """At start, and in a child after a fork, which has neither the thread nor the holder of a lock."""
        self._changed = threading.Condition(threading.Lock())
        self._lines: list[bytes] = []
        self._size = 0  # bytes queued and being written
        self._unreported = 0
        self._closing = False
        self._flushing = 0  # callers of `flush` that wait for the last line
        self._idle = False  # the thread waits for a first line
        self._pieces = 0  # written so far
        self._awaits_turn = False  # another process writes
        self._thread: threading.Thread | None = None

    def put(self, line: str) -> None:
        """Queue a line. Never blocks on the stream, never raises."""
        data = line.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._closing or self._size + len(data) > self._most_bytes:
                self.dropped += 1
                self._unreported += 1
                return
            self._lines.append(data)
            self._size += len(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: too late for threads
                    self._thread.start()
            if self._idle:
                self._idle = False
                self._changed.notify_all()

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until all that was put is written; False if that took too long."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._size == 0, timeout_s)
            finally:
                self._flushing -= 1

    def close(self, timeout_s: float = 1.0) -> bool:
        """Flush and stop. Waits for a reader as long as it takes something every `timeout_s`, up to `CLOSE_S`.

        A stuck thread is not waited for: it is a daemon and holds nothing that an exit needs.
        """
        give_up_at = time.monotonic() + CLOSE_S
        pieces = self._pieces
        while not (flushed := self.flush(timeout_s)) and time.monotonic() < give_up_at:
            if self._pieces == pieces and not self._awaits_turn:
                break
            pieces = self._pieces
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and flushed:
            thread.join(timeout_s)
        return flushed

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.wait_for(lambda: self._lines or self._unreported or self._closing)
                self._idle = False
                if not self._lines and not self._unreported:
                    return
                lines, self._lines = self._lines, []
                unreported, self._unreported = self._unreported, 0
            notice = self._notice(unreported).encode() if unreported else b""
            self._awaits_turn = True
            with self._turn:
                self._awaits_turn = False
                written = self._write(b"".join((*lines, notice)))
            with self._changed:
                self._size -= sum(map(len, lines))
                if not written:
                    self.dropped += len(lines)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._flushing or self._closing, GATHER_S)

    def _write(self, data: bytes) -> bool:
        """Write it all; False when the reader is gone."""
        descriptor = _descriptor(self._stream)
        try:
            if descriptor is None:
                self._stream.write(data.decode())
                self._stream.flush()
                return True
            left = memoryview(data)
            while left:
                try:
                    left = left[os.write(descriptor, left[:PIECE]) :]
                    self._pieces += 1
                except BlockingIOError:  # another program made the terminal or pipe non-blocking
                    _wait_until_writable(descriptor)
        except (OSError, ValueError):  # a broken pipe, a closed file
            return False
        return True


def _descriptor(stream: Any) -> int | None:
    """The stream's file descriptor; `None` for one in memory."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return int(stream.fileno())
    return None


def _wait_until_writable(descriptor: int) -> None:
    poll = getattr(select, "poll", None)
    if poll is None:
        time.sleep(0.05)
        return
    waiting = poll()
    waiting.register(descriptor, select.POLLOUT)
    waiting.poll(1000)
