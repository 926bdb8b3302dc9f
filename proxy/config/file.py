"""The config file's bytes, or why they cannot be had. Imports nothing: a parent of workers reads with it too."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.errors import ConfigError, ConfigErrors

MAX_BYTES = 1 << 20


def read(path: str | os.PathLike[str]) -> bytes:
    """The file's content, and of a huge file no more than is needed to see that. Raises `ConfigErrors`."""
    file = os.fspath(path)
    try:
        with Path(file).open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = "no such file; name one with `-c FILE`"
    except IsADirectoryError:
        message = "this is a directory; name the file in it with `-c FILE`"
    except PermissionError:
        message = "not allowed to read this file; check its owner and mode"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        message = f"cannot read this file: {getattr(error, 'strerror', None) or error}"
    raise ConfigErrors([ConfigError(message, file=file)]) from None
