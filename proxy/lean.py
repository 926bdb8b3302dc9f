"""Importing what serves without what libraries bring or do on the way that it never needs.

For processes of ours only: an embedder's own `structlog`, garbage collector and TLS are not ours to tune.
Measured on Python 3.11, of half a second of CPU time from the start to the first answer, and 62 MB.
"""

from __future__ import annotations

import contextlib
import gc
import ssl
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """While this is entered, imports are cheaper. Nothing is different for what is used afterwards."""
    with _without("rich"), _certificates_later(), _uncollected():
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
def _certificates_later() -> Iterator[None]:
    """TLS contexts read the system's certificates when they are first used.

    aiohttp makes two for its client as it is imported, which takes 40 ms, and the proxy does not use its client.
    """
    load = ssl.SSLContext.load_default_certs

    def later(context: ssl.SSLContext, *_: object) -> None:
        context.__class__ = _Unread

    ssl.SSLContext.load_default_certs = later  # type: ignore[method-assign, assignment]
    ssl.SSLContext.set_default_verify_paths = later  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ssl.SSLContext.load_default_certs = load  # type: ignore[method-assign]
        del ssl.SSLContext.set_default_verify_paths  # what it inherits is seen again


class _Unread(ssl.SSLContext):
    """A context that has yet to read its certificates: whoever connects with it makes it a usual one."""

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        self._read()
        return self.wrap_bio(*args, **options)

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        self._read()
        return self.wrap_socket(*args, **options)

    def _read(self) -> None:
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]  # the same object, as it would have been
        self.load_default_certs()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage among what stays: over and over, it takes 100 ms and finds nothing worth it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
