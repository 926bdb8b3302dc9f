"""Fixtures for tests with other people's clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.clients.pages import serving_pages
from tests.support import node

HERE = Path(__file__).parent


@pytest.fixture
async def page_url() -> AsyncIterator[str]:
    """A web server with `page.html`, the readers and their packages, on an origin of its own; the page's address."""
    await asyncio.to_thread(node.modules)  # or the test stops here
    application = web.Application()
    application.router.add_get("/page.html", _page)
    application.router.add_static("/clients", HERE)
    application.router.add_get("/modules/{name:.+}", _module)
    async with serving_pages(application) as origin:
        yield f"{origin}/page.html"


async def _page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(HERE / "page.html")


async def _module(request: web.Request) -> web.FileResponse:
    """A file of a package; fetch-event-source leaves out `.js` where it imports its own files."""
    path = node.modules() / "node_modules" / request.match_info["name"]
    return web.FileResponse(
        path if path.suffix else path.with_suffix(".js"), headers={"Content-Type": "text/javascript"}
    )
