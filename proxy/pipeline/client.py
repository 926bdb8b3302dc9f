"""The client's side of one answer, as the pipeline sees it."""

from collections.abc import Sequence
from typing import Protocol

from proxy.events import Batch, Notice


class ClientGone(Exception):
    """The client has left, so nobody reads an answer or an error."""


class ClientSlow(ClientGone):
    """The client has read nothing for `write_stall_s`, which counts as gone."""


class Client(Protocol):
    """The client's side of one answer."""

    streaming: bool
    """False: nothing can be shown before the end, so the whole answer is the commit point."""

    @property
    def bytes_out(self) -> int:
        """How many bytes of the answer were written."""

    def announce(self, notices: Sequence[Notice]) -> None:
        """Show notices beside the answer, for contracts whose streams have no place for them. Before the first `send`."""

    async def send(self, batch: Batch) -> None:
        """Write a batch, and wait while the client is behind. Raises `ClientGone` when nobody reads it."""

    def write(self, batch: Batch) -> bool:
        """Write a batch after the first, without waiting. True: await `caught_up` before the next."""

    async def caught_up(self) -> None:
        """Wait for a client that is behind. Raises `ClientGone` when it stays behind for too long."""

    def heartbeat(self) -> None:
        """Show on silence that the answer is still coming. Never waits."""
