"""Messages and questions between the parent and one worker, over a socket pair."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, NamedTuple

_LENGTHS = struct.Struct("!II")
_ANSWER = "answer"


class Message(NamedTuple):
    """A word, a few values, and bytes that are passed on unread: a config file, a worker's metrics."""

    word: str
    values: dict[str, Any]
    load: bytes = b""
    question: int = 0  # its number, if the sender waits for an answer


class ChannelClosed(ConnectionError):
    """The other process closed its end, or is gone."""


Hear = Callable[[Message], Coroutine[Any, Any, None] | None]
"""Acts on a message. If that takes time, it returns a coroutine, which runs while later messages are heard."""


class Channel:
    """One end of the socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self.closed = True

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        self.closed = False

    def tell(self, word: str, load: bytes = b"", /, **values: Any) -> None:
        """Send a message. Never waits; a message to a process that is gone is dropped."""
        self._send(Message(word, values, load))

    def answer(self, question: Message, load: bytes = b"", /, **values: Any) -> None:
        self._send(Message(_ANSWER, values, load, question.question))

    async def ask(self, word: str, load: bytes = b"", /, *, within: float, **values: Any) -> Message:
        """The answer. Raises `TimeoutError` after `within` seconds, `ChannelClosed`."""
        if self.closed:
            raise ChannelClosed
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._send(Message(word, values, load, number))
            async with asyncio.timeout(within):
                return await answer
        finally:
            del self._asked[number]

    async def receive(self) -> Message:
        """The next message. Raises `ChannelClosed`."""
        try:
            head, load = _LENGTHS.unpack(await self._reader.readexactly(_LENGTHS.size))
            word, values, question = json.loads(await self._reader.readexactly(head))
            return Message(word, values, await self._reader.readexactly(load), question)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChannelClosed from error

    async def run(self, hear: Hear) -> None:
        """Give each message to `hear`, and each answer to its question, until the other end closes."""
        try:
            while True:
                message = await self.receive()
                if message.word == _ANSWER:
                    self._answered(message)
                elif (work := hear(message)) is not None:
                    task = asyncio.create_task(work)
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
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

    async def aclose(self) -> None:
        """Send what is still unsent, and close this end."""
        self.closed = True
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # the other end was closed first
            pass

    def _answered(self, message: Message) -> None:
        answer = self._asked.get(message.question)
        if answer is not None and not answer.done():  # otherwise it came too late
            answer.set_result(message)

    def _send(self, message: Message) -> None:
        if not self.closed and not self._writer.is_closing():
            self._writer.write(encode(message))


def encode(message: Message) -> bytes:
    head = json.dumps([message.word, message.values, message.question]).encode()
    return _LENGTHS.pack(len(head), len(message.load)) + head + message.load
