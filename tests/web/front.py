"""A front proxy that serves ours under a path."""

from __future__ import annotations

import aiohttp
from aiohttp import web

BEHIND = web.AppKey("behind", str)


async def _passed_on(request: web.Request) -> web.StreamResponse:
    target = f"{request.app[BEHIND]}/{request.match_info['path']}"
    headers = {name: value for name, value in request.headers.items() if name.lower() not in {"host", "connection"}}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.request(
            request.method, target, params=request.query, headers=headers, data=await request.read()
        ) as answer,
    ):
        hop = {"transfer-encoding", "connection", "content-length"}
        response = web.StreamResponse(
            status=answer.status,
            headers={name: value for name, value in answer.headers.items() if name.lower() not in hop},
        )
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        return response


def in_front_of(url: str) -> web.Application:
    """The proxy at `url`, under `/llm/`."""
    application = web.Application()
    application[BEHIND] = url
    application.router.add_route("*", "/llm/{path:.*}", _passed_on)
    return application
