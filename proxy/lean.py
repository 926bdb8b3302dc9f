"""Importing what serves without what libraries bring or do on the way that it never needs.

For processes of ours only: an embedder's own `structlog` and garbage collector are not ours to tune.
Measured on Python 3.11, of half a second of CPU time from the start to the first answer, and 62 MB.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """While this is entered, imports are cheaper. Nothing is different for what is used afterwards."""
    with _without("rich"), _uncollected():
        yield


@contextlib.contextmanager
def _without(package: str) -> Iterator[None]:
    """`package` cannot be imported. structlog takes rich for tracebacks if it is there: 50 ms, 3 MB, and none are drawn."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # how one says that there is none
    try:
        yield
    finally:
        del sys.modules[package]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage among what stays: over and over, it takes 100 ms and finds nothing worth it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
