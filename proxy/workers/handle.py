"""A worker process as its parent sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import Literal

from proxy.workers.channel import Channel, Hear
from proxy.workers.spec import SharedState

State = Literal["starting", "serving"]  # "serving" from the moment it is told to listen

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

LAST_WORDS_S = 1.0
"""How long to read what a worker sent before its end. All of it has arrived by then, but if a process that the worker
forked holds the socket open, its end cannot be seen."""


class WorkerHandle(Channel):
    """One worker process, from its start to its end, and the channel to it."""

    def __init__(self, number: int, state: SharedState) -> None:
        """Start the process. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        # Blocked signals stay blocked in the new process until it ignores them (see `__main__`).
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", "proxy.workers", str(theirs.fileno()), str(state.descriptor)],
                pass_fds=[theirs.fileno(), state.descriptor],
            )
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        super().__init__(ours)
        self.number, self.pid = number, self._process.pid
        self.state: State = "starting"
        self.generation = 0  # of the newest config that it has built
        self.serving_since: float | None = None
        self.counts = b""  # its last known metrics
        self.why = ""  # why it ends, if more is known than its exit code
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def live(self, hear: Hear) -> int:
        """Read the worker's messages until its process ends; returns the exit code when all are read."""
        try:
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(self.run(hear))
                code = await self._exited
                await asyncio.wait([hearing], timeout=LAST_WORDS_S)
                hearing.cancel()
        finally:
            self.kill()
        return code

    async def ping(self, every_s: float, unanswered: int) -> None:
        """Ping the worker for ever. Raises `TimeoutError` after so many pings in a row have no answer, `ChannelClosed`.

        It counts pings, not seconds, so that a pause of the whole machine is not taken for a worker that hangs.
        """
        left = unanswered
        while left:
            await asyncio.sleep(every_s)
            try:
                await self.ask("ping", within=every_s)
                left = unanswered
            except TimeoutError:
                left -= 1
        raise TimeoutError

    def kill(self) -> None:
        if not self._exited.done():
            os.kill(self.pid, signal.SIGKILL)

    def ended(self, exit_code: int) -> None:
        """The process was reaped."""
        self._process.returncode = exit_code  # keeps `subprocess` from waiting for it, too
        self._exited.set_result(exit_code)


def described(exit_code: int) -> str:
    try:
        return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"
    except ValueError:
        return f"killed by signal {-exit_code}"
