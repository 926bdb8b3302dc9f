"""Client keys that are kept in Redis, besides those in the file: by name, with their digest and never themselves."""

import contextlib
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from proxy.config.models import KeySettings
from proxy.store.redis import PREFIX

KEYS, USED, VERSION = f"{PREFIX}:keys", f"{PREFIX}:keys:used", f"{PREFIX}:keys:version"


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept. Times are Unix times."""

    row: dict[str, Any]  # what a row under `auth.keys` would say
    prefix: str  # the first characters of the key, to recognise it by
    created_at: int
    expires_at: int | None = None

    def settings(self) -> KeySettings | None:
        """The row, checked; `None` for one that this version cannot read."""
        try:
            return KeySettings.model_validate(self.row)
        except ValidationError:
            return None


class KeyShelf:
    """The keys in one Redis. Every method may raise `RedisError`."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def add(self, name: str, key: StoredKey) -> bool:
        """Keep a key. False if there is one of that name."""
        if not await self._client.hsetnx(KEYS, name, msgspec.json.encode(key)):
            return False
        await self._changed()
        return True

    async def remove(self, name: str) -> bool:
        """Forget a key. False if there is none."""
        if not await self._client.hdel(KEYS, name):
            return False
        await self._client.hdel(USED, name)
        with contextlib.suppress(OutOfMemoryError):  # a server that is full deletes: then their number tells of it
            await self._changed()
        return True

    async def _changed(self) -> None:
        """Change the version. A counter would not do: a server that lost its last write would give a number twice."""
        await self._client.set(VERSION, secrets.token_hex(8))

    async def all(self) -> dict[str, StoredKey]:
        """Every key by its name."""
        found = {}
        for name, text in (await self._client.hgetall(KEYS)).items():
            try:
                found[_text(name)] = msgspec.json.decode(text, type=StoredKey)
            except (msgspec.DecodeError, msgspec.ValidationError):  # another program's, or a later version's
                continue
        return found

    async def used(self) -> dict[str, int]:
        """When each key was last used, to about a second."""
        return {_text(name): int(at) for name, at in (await self._client.hgetall(USED)).items()}

    async def version(self, used: Mapping[str, int]) -> tuple[object, ...]:
        """What changes with the keys. The same round trip keeps when keys were `used`, if the server takes it."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.get(VERSION)  # type: ignore[unused-awaitable]  # sent by `execute`
        pipeline.hlen(KEYS)  # type: ignore[unused-awaitable]  # the same
        for name, at in used.items():
            pipeline.hset(USED, name, str(at))  # type: ignore[unused-awaitable]  # the same
        version = (await pipeline.execute(raise_on_error=False))[:2]
        for one in version:
            if isinstance(one, RedisError):
                raise one
        return tuple(version)


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "replace")
