"""Files that rows are written to before they are in the store, each with one process that holds its lock.

A process appends to its own file, and cuts it to nothing when all of it is in the store. A process that is killed
leaves its file behind. Another process that finds it brings its rows into the store, which skips those that it has.
"""

import contextlib
import fcntl
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from proxy.ledger.rows import Row

CUT_AT = 1024 * 1024
"""Bytes. A file that is in the store is cut when it is this long: less often costs less."""

ENDING = ".jsonl"

_decoder = msgspec.json.Decoder(Row)


class Spool:
    """One file. `append` may be called by one thread while another reads."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.unreadable = 0  # lines that are no rows: the disk's fault, or a later version's
        self._file = descriptor
        self._lock = threading.Lock()
        self._size = os.fstat(descriptor).st_size
        self._done = 0  # bytes that are in the store

    @classmethod
    def new(cls, folder: Path) -> Self:
        """A file of this process. Raises `OSError`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{ENDING}"
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists():  # else another process took it for one left behind, before it was locked
                return cls(path, descriptor)
            os.close(descriptor)

    @classmethod
    def left_behind(cls, folder: Path) -> Iterator[Self]:
        """The files that no process holds any more, each locked while it is looked at."""
        for path in sorted(folder.glob(f"*{ENDING}")):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
                spool: Self | None = None
                with contextlib.suppress(OSError):  # another process holds the lock
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    spool = cls(path, descriptor) if path.exists() else None
                if spool is None:
                    os.close(descriptor)
                    continue
                try:
                    yield spool
                finally:
                    spool.close()

    @property
    def waiting(self) -> int:
        """Bytes that are not in the store yet."""
        return self._size - self._done

    def append(self, data: bytes) -> None:
        """Write whole lines and sync them. After an `OSError` append them again: the store takes each row once."""
        with self._lock:
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(self._file, left) :]
                self._size += len(data)
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
        os.fsync(self._file)

    def read(self, most: int = 256 * 1024) -> tuple[list[Row], int]:
        """The next rows that are not in the store, and what to tell `advance` when they are."""
        with self._lock:
            start, size = self._done, self._size
        data = os.pread(self._file, min(most, size - start), start)
        whole = data.rfind(b"\n") + 1
        if not whole:  # a last line without an end: its process was killed while it wrote
            self.unreadable += 1
            return [], start + len(data)
        rows = []
        for line in data[:whole].splitlines():
            try:
                rows.append(_decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
        return rows, start + whole

    def advance(self, position: int) -> None:
        """All before `position` is in the store."""
        with self._lock:
            self._done = position
            if position == self._size >= CUT_AT:
                os.ftruncate(self._file, 0)
                self._size = self._done = 0

    def close(self) -> None:
        """Close the file, and delete it if all of it is in the store. Else the next process that looks takes it."""
        if not self.waiting:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def rows_in(folder: Path) -> Iterator[Row]:
    """All rows in all files, to compare. Many of them are in the store, too."""
    for path in sorted(folder.glob(f"*{ENDING}")):
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                    yield _decoder.decode(line)
