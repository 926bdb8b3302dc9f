"""The config file's bytes, or why they cannot be read. Imports little: the parent of workers uses it, too."""

import asyncio
import contextlib
import os
import stat
import threading

from proxy.errors import ConfigError, ConfigErrors

MAX_BYTES = 1 << 20  # of a config file

READ_S = 5.0
"""How long a file may take to be read. Only a network file system that hangs takes longer than milliseconds."""


def read(path: str | os.PathLike[str]) -> bytes:
    """The file's content, at most a byte more than `MAX_BYTES`. Regular files only. Raises `ConfigErrors`.

    A pipe would block its reader, and a device may never end.
    """
    file = os.fspath(path)
    try:
        with open(file, "rb", opener=_at_once) as opened:
            if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                return opened.read(MAX_BYTES + 1)
        message = "this is a pipe or a device; put a regular file in its place"
    except FileNotFoundError:
        message = "no such file; check its name (`chat-proxy init` writes a config for what this machine has)"
    except IsADirectoryError:
        message = "this is a directory; name a file in it"
    except PermissionError:
        message = "not allowed to read this file; check its owner and mode"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        message = f"cannot read this file: {getattr(error, 'strerror', None) or error}"
    raise ConfigErrors([ConfigError(message, file=file)]) from None


def _at_once(file: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))


class FileReader:
    """Reads a file in a thread that nothing waits for, not even the end of the process."""

    def __init__(self, path: str | os.PathLike[str], *, within: float = READ_S) -> None:
        self._path, self._within = os.fspath(path), within
        self._reading: asyncio.Future[bytes | ConfigErrors] | None = None

    async def read(self) -> bytes:
        """As `read`. Raises `ConfigErrors` also when the file does not come within the time."""
        if self._reading is None:  # otherwise the last thread still hangs: one is enough
            self._reading = asyncio.get_running_loop().create_future()
            threading.Thread(target=self._read, args=(self._reading,), name="config reader", daemon=True).start()
        done, _ = await asyncio.wait([self._reading], timeout=self._within)
        if not done:
            message = f"reading this file takes longer than {self._within:g} s; check its file system"
            raise ConfigErrors([ConfigError(message, file=self._path)])
        content, self._reading = self._reading.result(), None
        if isinstance(content, ConfigErrors):
            raise content
        return content

    def _read(self, reading: asyncio.Future[bytes | ConfigErrors]) -> None:
        content: bytes | ConfigErrors
        try:
            content = read(self._path)
        except ConfigErrors as errors:
            content = errors
        with contextlib.suppress(RuntimeError):  # the loop is closed
            reading.get_loop().call_soon_threadsafe(reading.set_result, content)
