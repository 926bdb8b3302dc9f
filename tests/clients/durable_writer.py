"""The writing half of the Durable Streams protocol, made of questions: only for the conformance suite of the reading half.

`PUT` asks the proxy a question in bare text, which an upstream here begins to answer. What is then appended with `POST`,
that upstream says next. Everything else is what the proxy answers on `/streams/{id}`, passed on as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from yarl import URL

from tests.clients.pages import serving_pages

WITHIN_S = 60.0


class Writer:
    """An upstream that says what it is told, and a server that makes streams of its answers."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self.proxy = ""  # its URL, known later
        self._said: dict[str, asyncio.Queue[str | None]] = {}
        self._asked: dict[str, aiohttp.ClientResponse] = {}

    def add_to(self, application: web.Application) -> None:
        application.router.add_post("/v1/chat/completions", self._answer)
        application.router.add_put("/v1/stream/{name:.+}", self._put)
        application.router.add_post("/v1/stream/{name:.+}", self._post)
        application.router.add_route("*", "/v1/stream/{name:.+}", self._other)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """The upstream: one stream, until it is told that it is over."""
        said = self._said[(await request.json())["messages"][0]["content"]]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        delta: dict[str, str] = {"reasoning_content": "…"}  # the answer begins, and has no text yet
        while True:
            chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            await response.write(b"data: %b\n\n" % json.dumps(chunk).encode())
            if (text := await said.get()) is None:
                break
            delta = {"content": text}
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await response.write(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(end).encode())
        return response

    async def _put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        known = name in self._asked
        if not known:
            self._said[name] = asyncio.Queue()
            parts = [{"type": "text", "text": name}]
            body = {"id": name, "trigger": "submit-message", "messages": [{"id": "1", "role": "user", "parts": parts}]}
            self._asked[name] = await self._http.post(f"{self.proxy}/api/chat?contract=ai-text", json=body)
            if text := await request.text():
                await self._append(name, text)
        offset = await self._tail(name)
        headers = {"Location": str(request.url), "Stream-Next-Offset": offset, "Content-Type": "text/plain"}
        return web.Response(status=200 if known else 201, headers=headers)

    async def _post(self, request: web.Request) -> web.Response:
        name, text = request.match_info["name"], await request.text()
        if name not in self._asked:
            return web.Response(status=404)
        if text:
            await self._append(name, text)
        if request.headers.get("Stream-Closed") == "true":
            self._said[name].put_nowait(None)
            async with asyncio.timeout(WITHIN_S):
                while (await self._head(name)).headers.get("Stream-Closed") != "true":
                    await asyncio.sleep(0.005)
        return web.Response(status=204, headers={"Stream-Next-Offset": await self._tail(name)})

    async def _append(self, name: str, text: str) -> None:
        before = int(await self._tail(name))
        self._said[name].put_nowait(text)
        async with asyncio.timeout(WITHIN_S):
            while int(await self._tail(name)) < before + len(text.encode()):
                await asyncio.sleep(0.005)

    async def _tail(self, name: str) -> str:
        return (await self._head(name)).headers["Stream-Next-Offset"]

    async def _head(self, name: str) -> aiohttp.ClientResponse:
        async with self._http.head(self._address(name)) as response:
            return response

    def _address(self, name: str) -> str:
        asked = self._asked.get(name)
        return f"{self.proxy}/streams/{asked.headers['X-Stream-Id'] if asked else 'unknown'}"

    async def _other(self, request: web.Request) -> web.StreamResponse:
        query = request.rel_url.raw_query_string
        if not {"offset", "live"} & request.query.keys():
            query = "offset=-1&" + query  # with this address, that the protocol is meant must be said
        address = URL(f"{self._address(request.match_info['name'])}?{query}", encoded=True)
        async with self._http.request(request.method, address, headers={"Accept": "*/*"}) as answer:
            passed = {
                name: value for name, value in answer.headers.items() if name not in {"Transfer-Encoding", "Date"}
            }
            if passed.get("Content-Type", "").startswith("text/plain"):
                passed["Content-Type"] = "text/plain"  # as it was put; the proxy's own says the charset too
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                async for data in answer.content.iter_any():
                    await response.write(data)
            return response

    async def close(self) -> None:
        """End all streams, and read them to their ends."""
        for name, response in self._asked.items():
            self._said[name].put_nowait(None)
            await response.read()


@contextlib.asynccontextmanager
async def writing() -> AsyncIterator[tuple[str, Writer]]:
    """Serve one; gives its origin too. Its `proxy` is to be set before anything is written."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        writer = Writer(http)
        application = web.Application()
        writer.add_to(application)
        async with serving_pages(application) as origin:
            yield origin, writer
