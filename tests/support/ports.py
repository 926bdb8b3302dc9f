"""Ports of this machine."""

from __future__ import annotations

import contextlib
import secrets
import socket


def free_port() -> int:
    """A port on which nothing listens, for a server that has to be told one, or for none.

    It is not among those that the system hands out (32768 and above on Linux), so nothing takes it meanwhile.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
