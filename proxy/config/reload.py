"""Tell when a config file's content changes, however it is changed.

Editors write a new file and rename it over the old one, deployments swap a symlink, Kubernetes swaps
`..data` two links away: so the directories are watched and what counts is the content. The system's own
notifications are used where they work, and a look every few seconds backs them up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

DEBOUNCE_S = 0.1
"""How long the content must have stood still: a writer may be in the middle of it."""

POLL_S = 1.0
BACKUP_POLL_S = 2.0
"""With notifications: network file systems send none, and a directory may be replaced. A look costs 0.1 ms."""


async def watch(
    path: str | os.PathLike[str], *, known: str | None = None, poll: bool = False, poll_s: float = POLL_S
) -> AsyncGenerator[None, None]:
    """Yield once for each change of the content since the last time, seen from the first `anext` on.

    `known` is the digest (SHA-256) of the content that is not to be reported; by default what the file has
    when the watch begins, and then a change between reading it and watching it goes unseen. A file that is gone is waited for. A reader that is slow gets one item for many changes.
    """
    file = Path(path)
    last = await asyncio.to_thread(_digest, file) if known is None else bytes.fromhex(known)
    wakes = _sleeps(poll_s) if poll else _notifications(file)
    async with aclosing(wakes):
        async for _ in wakes:
            digest = await _settled(file)
            if digest is not None and digest != last:
                last = digest
                yield


async def _settled(file: Path) -> bytes | None:
    """The digest of the content once it stands still; None when there is no file."""
    digest = await asyncio.to_thread(_digest, file)
    while True:
        await asyncio.sleep(DEBOUNCE_S)
        again = await asyncio.to_thread(_digest, file)
        if again == digest:
            return digest
        digest = again


def _digest(file: Path) -> bytes | None:
    """Of the content; None for a file that cannot be read now. Other threads may swap it meanwhile."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError:
        return None


async def _sleeps(seconds: float) -> AsyncGenerator[None, None]:
    while True:
        await asyncio.sleep(seconds)
        yield


async def _notifications(file: Path) -> AsyncGenerator[None, None]:
    """A wake-up whenever something happens in a directory on the way to the file, and every few seconds anyway."""
    try:
        import watchfiles  # noqa: PLC0415 - its compiled part is missing on some platforms
    except ImportError:
        async with aclosing(_sleeps(POLL_S)) as sleeps:
            async for wake in sleeps:
                yield wake
        return
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every file that changes near ours
    while True:
        directories = await asyncio.to_thread(_directories, file)
        changes = watchfiles.awatch(
            *directories,
            watch_filter=None,
            debounce=400,
            step=100,  # ms; each step takes the interpreter for a moment
            rust_timeout=int(BACKUP_POLL_S * 1000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        following = asyncio.create_task(_next(changes))
        try:
            await asyncio.sleep(0)  # the task's first step begins the watch,
            yield  # so this look finds what happened before it
            while await asyncio.to_thread(_directories, file) == directories:  # else a link leads elsewhere now
                await following
                following = asyncio.create_task(_next(changes))
                yield
        except (OSError, RuntimeError):  # no inotify watches left, or a directory went away just now
            await asyncio.sleep(POLL_S)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await changes.aclose()


async def _next(changes: AsyncGenerator[Any, None]) -> None:
    await anext(changes)


def _directories(file: Path) -> list[Path]:
    """The directory of the file, and of each symlink on the way to its content; what is missing is waited for above."""
    found: dict[Path, None] = {}
    step = Path(os.path.abspath(file))  # noqa: PTH100 - `resolve` would skip the links
    for _ in range(20):  # links may go in circles
        directory = next(parent for parent in step.parents if parent.is_dir())
        found[directory] = None
        found[directory.resolve()] = None
        if not step.is_symlink():
            break
        step = step.parent / step.readlink()
    return list(found)
