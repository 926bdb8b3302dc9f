"""The keys of the store, as this process knows them: asked for again twice a second, so a new one works everywhere."""

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError

from proxy.errors import KeysUnknown, Unauthorized
from proxy.routing.principal import Principal
from proxy.store.base import Store
from proxy.store.keys import KeyShelf
from proxy.store.redis import RedisStore

EVERY_S = 0.5

log = structlog.get_logger("proxy.policy")


class _Known(NamedTuple):
    digest: bytes
    principal: Principal
    expires_at: float


class StoredKeys:
    """Keys by digest. While the store is away those that are known stay valid. `named` is called with all names."""

    def __init__(self, store: Store, named: Callable[[Iterable[str]], None]) -> None:
        assert isinstance(store, RedisStore)  # the one that keeps keys
        self._store, self._shelf, self._named = store, KeyShelf(store.client), named
        self._known: dict[bytes, _Known] = {}
        self._used: dict[str, int] = {}
        self._version: tuple[object, ...] | None = None
        self._unread = ""  # why they cannot be read now
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Read the keys once, if the store answers, and then follow their changes."""
        if self._task is None:
            await self._try_to_follow()
            self._task = asyncio.create_task(self._following())

    def find(self, digest: bytes) -> tuple[bytes, Principal] | None:
        """See `OtherKeys`. Notes that the key is used."""
        if self._version is None:
            raise KeysUnknown
        known = self._known.get(digest)
        if known is None:
            return None
        if known.expires_at <= time.time():
            when = datetime.fromtimestamp(known.expires_at, UTC)
            raise Unauthorized(
                f"This API key expired on {when:%Y-%m-%d at %H:%M} UTC. Ask whoever gave it for a new one."
            )
        self._used[known.principal.name] = int(time.time())
        return known.digest, known.principal

    @property
    def principals(self) -> list[Principal]:
        """See `OtherKeys`."""
        return [one.principal for one in self._known.values()]

    async def aclose(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._closed = True  # a cancellation alone may be taken for a timeout on its way through redis-py
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _following(self) -> None:
        while not self._closed:
            await asyncio.sleep(EVERY_S)
            await self._try_to_follow()

    async def _try_to_follow(self) -> None:
        """Say once that the keys cannot be read, and once that they can."""
        try:
            await self._follow()
        except (RedisError, OSError) as error:
            if not self._unread:
                self._unread = self._store.why(error)
                log.warning("stored_keys_unread", store=self._store.address, error=self._unread)
        else:
            if self._unread:
                self._unread = ""
                log.info("stored_keys_read", store=self._store.address)

    async def _follow(self) -> None:
        used, self._used = self._used, {}
        try:
            version = await self._shelf.version(used)
        except BaseException:
            self._used = used | self._used
            raise
        if version == self._version:
            return
        known = {}
        for key in (await self._shelf.all()).values():
            settings = key.settings()
            if settings is None:
                log.warning("stored_key_unreadable", prefix=key.prefix)
                continue
            digest = bytes.fromhex(settings.digest)
            known[digest] = _Known(digest, Principal.of(settings), key.expires_at or float("inf"))
        self._known, self._version = known, version
        self._named([one.name for one in self.principals])
