"""What connects the parent and its workers: messages over a socket pair, and a page of memory that all share.

marshal takes bytes as they are and builds nothing but plain values; both ends run the same Python.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import marshal
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Self

Handlers = Mapping[str, Callable[..., Any]]
"""A function for each word. What it returns answers a question; a coroutine runs while later messages are handled."""


class ChannelClosed(ConnectionError):
    """The other process closed its end, or is gone."""


class Channel:
    """One end of the socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.closed = True

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        self.closed = False

    def tell(self, word: str, /, **values: Any) -> None:
        """Send a message. Never waits; a message to a process that is gone is dropped."""
        self._send(0, word, values)

    async def ask(self, word: str, /, *, within: float | None, **values: Any) -> Any:
        """The answer. Raises `TimeoutError` after `within` seconds, `ChannelClosed`."""
        if self.closed:
            raise ChannelClosed
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(number, word, values)
            async with asyncio.timeout(within):
                return await answer
        finally:
            del self._asked[number]

    async def receive(self) -> tuple[int, str, Any]:
        """The next message: the number of its question, its word, and its values. Raises `ChannelClosed`."""
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            message: tuple[int, str, Any] = marshal.loads(await self._reader.readexactly(length))  # noqa: S302
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChannelClosed from error
        return message

    async def run(self, handlers: Handlers) -> None:
        """Act on each message, and give each answer to its question, until the other end closes."""
        try:
            while True:
                number, word, values = await self.receive()
                if not word:
                    answer = self._asked.get(number)
                    if answer is not None and not answer.done():  # otherwise it came too late
                        answer.set_result(values)
                elif asyncio.iscoroutine(result := handlers[word](**values)):
                    task = asyncio.create_task(self._answer(number, result))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                elif number:
                    self._send(number, "", result)
        except ChannelClosed:
            pass
        finally:
            self.closed = True
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(ChannelClosed())
            for task in self._running:
                task.cancel()
            self._writer.close()
        await self.aclose()  # asyncio complains of a connection whose error nobody took

    async def aclose(self) -> None:
        """Send what is still unsent, and close this end."""
        self.closed = True
        self._writer.close()
        with contextlib.suppress(OSError):  # the other end was closed first
            await self._writer.wait_closed()

    async def _answer(self, number: int, result: Any) -> None:
        self._send(number, "", await result)

    def _send(self, *message: Any) -> None:
        if not self.closed and not self._writer.is_closing():
            self._writer.write(encode(*message))


def encode(*message: Any) -> bytes:
    data = marshal.dumps(message)
    return len(data).to_bytes(4, "big") + data


class SharedState(ctypes.Structure):
    """A page of memory: the parent writes, and all processes see it at the same moment.

    As a context it is a lock between processes that write to the same log: a pipe takes up to 4 KiB (PIPE_BUF) in one
    piece, and a line with a traceback is longer. The kernel releases it when its holder dies.
    """

    generation: int  # number of the config in force; all workers have built it before it is written here
    draining: int  # 1 from the moment the parent is told to stop
    _fields_ = (("generation", ctypes.c_uint64), ("draining", ctypes.c_uint64))
    descriptor: int

    @classmethod
    def at(cls, descriptor: int | None = None) -> Self:
        """Map the memory behind `descriptor`, by default new memory."""
        if descriptor is None:
            descriptor = _unnamed_file()
            os.ftruncate(descriptor, mmap.PAGESIZE)
        state = cls.from_buffer(mmap.mmap(descriptor, mmap.PAGESIZE))
        state.descriptor = descriptor
        return state

    def __enter__(self) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):  # needs no folder that can be written to
        return os.memfd_create("chat-proxy workers")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
