"""Tell when a config file's content changes, in whatever way.

Editors write a new file and rename it over the old one, deployments swap a symlink, Kubernetes swaps `..data` two
links away, and network file systems send no events. So the content decides, and it is read twice a second. That costs
0.02 % of a CPU. Events of the system cost 2.5 MB and 40 ms at the start, and do not replace reading.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator

from proxy.config.file import FileReader
from proxy.errors import ConfigErrors

LOOK_S = 0.5

DEBOUNCE_S = 0.1
"""How long the content must stay the same: a writer may be in the middle of it."""

GONE_S = 2.0
"""How long the file must be unreadable before that is reported: some editors delete it before they write it."""


async def watch(path: str | os.PathLike[str], *, known: str | None = None) -> AsyncGenerator[None, None]:
    """Yield once for each change since the last one. A file that stays unreadable is a change, too.

    `known` is the digest (SHA-256) of the content to compare with first, by default that of the file when the watch
    begins; a change between reading the file and watching it then goes unseen. A slow consumer gets one item for
    many changes.
    """
    reader = FileReader(path)
    last = await _digest(reader) if known is None else bytes.fromhex(known)
    while True:
        await asyncio.sleep(LOOK_S)
        if await _digest(reader) == last:
            continue
        digest = await _settled(reader)
        if digest != last:
            last = digest
            yield


async def _settled(reader: FileReader) -> bytes | None:
    """The digest of the content once it stays the same."""
    clock = asyncio.get_running_loop().time
    digest, since = await _digest(reader), clock()
    while True:
        await asyncio.sleep(DEBOUNCE_S)
        again = await _digest(reader)
        if again != digest:
            digest, since = again, clock()
        elif digest is not None or clock() - since >= GONE_S:
            return digest


async def _digest(reader: FileReader) -> bytes | None:
    """The digest of the content; None if the file cannot be read."""
    try:
        return hashlib.sha256(await reader.read()).digest()
    except ConfigErrors:
        return None
