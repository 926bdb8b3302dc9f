"""Closing a backend's stream without waiting for it for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import structlog

from proxy.events import Batch

CLOSE_S = 1.0
"""How long a backend may take to close its upstream."""

log = structlog.get_logger("proxy.pipeline")


async def close(stream: AsyncGenerator[Batch, None]) -> None:
    """Close a backend's stream, and with it the upstream. A backend that is still closing after `CLOSE_S` is logged
    and no longer waited for.
    """
    try:
        async with asyncio.timeout(CLOSE_S):
            await stream.aclose()
    except TimeoutError:
        log.warning("backend_slow_to_close", seconds=CLOSE_S)
