"""The client's side of one answer, as the pipeline sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.events import (
    Batch,
    Notice,
)


class ClientGone(Exception):
    """The client has left. Nobody is there to be told."""


class ClientSlow(ClientGone):
    """The client has taken nothing for `write_stall_s`, which is as good as gone."""


class Client(Protocol):
    """The client's side of one answer."""

    streaming: bool
    """False: nothing can be shown before the end, so the whole answer is the commit point."""

    bytes_out: int

    async def send(self, batch: Batch) -> None:
        """Write a batch, and wait for a client that is behind. Raises `ClientGone` when nobody takes it."""

    def announce(self, notices: Sequence[Notice]) -> None:
        """Say beside the answer what its events say too, where the contract has no place for it. Before the first `send`."""

    def write(self, batch: Batch) -> bool:
        """The same once something was sent, without waiting: true if `caught_up` is to be awaited."""

    async def caught_up(self) -> None:
        """Wait for a client that is behind. Raises `ClientGone` when it stays behind for too long."""

    def heartbeat(self) -> None:
        """Say on silence that the answer is still being worked on. Never waits."""
