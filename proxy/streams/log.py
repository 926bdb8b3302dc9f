"""The log of one answer: its encoded frames, in order, and the mark that says that it is closed.

What can be resumed is the log, not the connection. Frames are appended before anybody is sent them, and readers end
when the log is closed. Frames have numbers from 0, so a reader that has frame N asks for what is strictly after it.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from proxy.errors import Gone, ProxyError
from proxy.telemetry.record import StreamRecord

EVENTS, LINES, BYTES = b"\n\n", b"\n", b""
"""What ends a frame: a blank line in an event stream, a newline in NDJSON; in bare text every byte is a frame."""

READ_BYTES = 64 * 1024
"""How much a reader that is behind gets at a time."""


class Reader(Protocol):
    """Somebody who reads a log as it grows."""

    @property
    def position(self) -> int:
        """The number of the frame it needs next."""

    def push(self, data: bytes) -> None:
        """Frames came, and are in the log. Called on the event loop, so it never waits."""

    def wake(self) -> None:
        """The log is closed, or has begun."""


def _nothing() -> None:
    """An answer that is over has nothing to stop."""


def separator(headers: Mapping[str, str]) -> bytes:
    """What ends a frame of an answer with these headers."""
    media_type = headers.get("Content-Type", "").partition(";")[0]
    return {"text/event-stream": EVENTS, "application/x-ndjson": LINES}.get(media_type, BYTES)


class Copier(Protocol):
    """Copies a log to where other replicas can read it."""

    read_until: float
    """By the event loop's clock: somebody reads the log elsewhere until then at least."""

    def wake(self) -> None:
        """There is something to copy."""


class StreamLog:
    """The frames of one answer.

    `owner` is the name of the key that asked, and `asked` a digest of what it asked. The log holds up to `most_bytes`;
    beyond that its beginning is dropped, and nobody can resume it any more, but those who read it already go on. Frames
    are counted when somebody asks for a position, so an answer that nobody resumes is never looked at.
    """

    def __init__(self, id: str, owner: str, *, most_bytes: int, record: StreamRecord, asked: str = "") -> None:
        self.id, self.owner, self.record, self.asked = id, owner, record, asked
        self.names: Sequence[tuple[str, str]] = ()  # that contracts know it by
        self.headers: Mapping[str, str] = {}
        self.separator = EVENTS
        self.begun = False
        self.closed = False
        self.aborted = False  # it ends with a cut connection
        self.failure: ProxyError | None = None  # why it did not begin
        self.size = 0  # bytes that it holds
        self.headless = False  # its first frames are gone
        self.follows = False  # another replica's answer, whose newest frames may still be on their way here
        self.readers: set[Reader] = set()
        self.copier: Copier | None = None
        self.on_stop: Callable[[], None] = _nothing
        self.on_left: Callable[[], None] = _nothing
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []
        self._starts: list[int] = []  # the number of each piece's first frame, as far as they are counted
        self._counted = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """It holds all it may, because a reader is that far behind: whoever appends should wait for `room`."""
        return self.size > self._most_bytes

    @property
    def length(self) -> int:
        """The number of the next frame."""
        for piece in self._pieces[len(self._starts) :]:
            self._starts.append(self._counted)
            self._counted += self._count(piece)
        return self._counted

    @property
    def first(self) -> int:
        """The number of the first frame that it still holds."""
        length = self.length
        return self._starts[0] if self._starts else length if self.headless else 0

    @property
    def read_elsewhere_s(self) -> float:
        """For how many seconds somebody on another replica reads it, as far as is known."""
        if self.copier is None:
            return 0.0
        return max(0.0, self.copier.read_until - asyncio.get_running_loop().time())

    def begin(self, headers: Mapping[str, str]) -> None:
        """The answer begins, with these headers."""
        self.headers, self.separator, self.begun = headers, separator(headers), True
        self._wake()

    def append(self, data: bytes) -> bool:
        """Add whole frames, and push them to all readers; true if it is `full`."""
        self._pieces.append(data)
        self.size += len(data)
        for reader in self.readers:
            reader.push(data)
        if self.copier is not None:
            self.copier.wake()
        if self.size > self._most_bytes:
            self._drop_read()
            return self.full
        return False

    def close(self, *, aborted: bool = False) -> None:
        """Nothing follows."""
        self.closed, self.aborted = True, aborted
        self._wake()

    def fail(self, error: ProxyError) -> None:
        """The answer does not begin."""
        self.failure, self.closed = error, True
        self._wake()

    async def room(self) -> None:
        """Wait until readers are less far behind."""
        while self.full and self.readers:
            self._room = self._room or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)
        self._drop_read()

    def check(self, position: int) -> None:
        """Raises `Gone` if the frames from `position` on are not all here."""
        if self.headless:
            raise Gone(
                "The beginning of this answer is not kept any more: it grew past server.resume.bytes, or the store lost it. Ask again.",
                code="stream_gone",
            )
        if not 0 <= position <= self.length and (self.closed or not self.follows):
            raise Gone(f"This answer has {self.length} frames so far; there is none before frame {position}.")

    def read(self, position: int) -> tuple[bytes, int]:
        """The frames from `position` on, about `READ_BYTES` of them, and the number of the next one."""
        length = self.length
        if position >= length:
            return b"", position
        first = bisect_right(self._starts, position) - 1
        found, size, at = [], 0, first
        while at < len(self._pieces) and size < READ_BYTES:
            piece = self._pieces[at]
            if at == first and self._starts[first] < position:
                piece = self._cut(piece, position - self._starts[first])
            found.append(piece)
            size += len(piece)
            at += 1
        return b"".join(found), self._starts[at] if at < len(self._starts) else length

    def stop(self) -> None:
        """The client said stop. All readers get the same end; an answer that is over stays as it is."""
        if not self.closed:
            self.on_stop()

    def reader_moved(self) -> None:
        if self.full:
            self._drop_read()

    def reader_left(self) -> None:
        self.reader_moved()
        self.on_left()

    def _wake(self) -> None:
        for reader in self.readers:
            reader.wake()
        if self.copier is not None:
            self.copier.wake()

    def _count(self, data: bytes) -> int:
        """The number of frames in `data`. Comments of an event stream have no number."""
        match self.separator:
            case b"\n\n":
                return data.count(EVENTS) - data.count(b"\n\n: ") - data.startswith(b": ")
            case b"":
                return len(data)
            case separator:
                return data.count(separator)

    def without_first(self, frames: int, data: bytes) -> bytes:
        """`data` without so many of its frames; empty if it holds no more."""
        if frames <= 0:
            return data
        return self._cut(data, frames) if frames < self._count(data) else b""

    def _cut(self, piece: bytes, frames: int) -> bytes:
        """`piece` without its first `frames` frames."""
        if not self.separator:
            return piece[frames:]
        at = 0
        while frames:
            end = piece.index(self.separator, at) + len(self.separator)
            frames -= not (self.separator == EVENTS and piece.startswith(b": ", at))
            at = end
        return piece[at:]

    def _drop_read(self) -> None:
        """Drop what all readers have, as the log is too long to be kept from its beginning."""
        if self.size <= self._most_bytes:
            return
        length = self.length
        needed = min((reader.position for reader in self.readers), default=length)
        gone = bisect_right(self._starts, needed) - 1 if needed < length else len(self._pieces)
        if gone > 0:
            self.headless = True
            self.size -= sum(map(len, self._pieces[:gone]))
            del self._pieces[:gone], self._starts[:gone]
        if not self.full and self._room is not None:
            self._room.set_result(None)
            self._room = None


def numbered(data: bytes, first: int) -> bytes:
    """Event frames with their numbers as `id` lines, from `first` on. Comments get none."""
    frames = []
    for frame in data.split(EVENTS)[:-1]:
        if not frame.startswith(b": "):
            frame = b"id: %d\n%b" % (first, frame)
            first += 1
        frames.append(frame)
    return EVENTS.join([*frames, b""])
