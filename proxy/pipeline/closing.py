"""Closing a backend's stream without waiting for it for ever."""

import asyncio
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

import structlog

from proxy.events import Batches

CLOSE_S = 1.0
"""How long a backend may take to close its upstream."""

log = structlog.get_logger("proxy.pipeline")


async def close(stream: Batches) -> None:
    """Close a backend's stream, and with it the upstream.

    A backend that is still closing after `CLOSE_S` is logged and no longer waited for.
    """
    closing = stream.aclose()
    try:
        # Most streams close without waiting for anything. They need no timer, which costs 8 of a request's 550 µs.
        awaited = closing.send(None)
    except StopIteration:
        return
    try:
        async with asyncio.timeout(CLOSE_S):
            await _Started(closing, awaited)
    except TimeoutError:
        log.warning("backend_slow_to_close", seconds=CLOSE_S)


class _Started:
    """Awaits the rest of a coroutine that was started by hand and waits for its first future, `awaited`."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._coroutine, self._awaited = coroutine, awaited

    def __await__(self) -> Generator[Any, Any, None]:
        coroutine, awaited = self._coroutine, self._awaited
        while True:
            try:
                value = yield awaited
            except BaseException as error:
                resume = partial(coroutine.throw, error)
            else:
                resume = partial(coroutine.send, value)
            try:
                awaited = resume()
            except StopIteration:
                return
