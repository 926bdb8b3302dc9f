"""A forward proxy in few lines: CONNECT tunnels and absolute-form requests, and a note of all it was asked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self


class HttpProxy:
    """Listens on a free port. `requests` holds the head of everything that was asked, as bytes.

    `refuse` is a status line such as `"407 Proxy Authentication Required"` to answer everything with.
    `aliases` maps a `host:port` that is asked for to the one that is really connected to.
    """

    def __init__(self, *, refuse: str = "", aliases: dict[str, str] | None = None) -> None:
        self._refuse, self._aliases = refuse, aliases or {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            if self._refuse:
                writer.write(f"HTTP/1.1 {self._refuse}\r\nContent-Length: 0\r\n\r\n".encode())
                return
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            asked = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = self._aliases.get(asked, asked).rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            writers.append(far_writer)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                far_writer.write(head)
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(_copy(far_reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in writers:
                each.close()
            for each in writers:
                with suppress(ConnectionError, asyncio.CancelledError):
                    await each.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
