"""What a serving process prints for the person who started it."""

import os
import sys

from proxy.errors import ConfigError


def print_banner(banner: str) -> None:
    """Print what is served. Raises `ConfigError` if standard output takes nothing, as on a full disk."""
    try:
        print(banner, flush=True)  # noqa: T201
    except OSError as error:
        # Python writes what is left at its end, and would fail again, with an exit status of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ConfigError(f"cannot write to standard output: {error.strerror}; send it somewhere else") from None
