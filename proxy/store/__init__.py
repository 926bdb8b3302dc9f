"""What is counted and kept for all requests: in this process, or in Redis for all replicas."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from proxy.store.memory import MemoryStore

if TYPE_CHECKING:
    from proxy.store.redis import RedisStore


def open_store(url: str | None) -> MemoryStore | RedisStore:
    """The store at `url`; `None` is this process's memory. Nothing is connected to yet."""
    if url is None:
        return MemoryStore(time.monotonic)
    from proxy.store.redis import RedisStore  # noqa: PLC0415 - an extra, which only this needs

    return RedisStore(url)
