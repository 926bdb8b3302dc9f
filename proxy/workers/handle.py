"""A worker process as its parent sees it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from typing import Any, Literal

from proxy.workers.channel import Channel, SharedState

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

PINGS = 5


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
        self.state: Literal["starting", "serving"] = "starting"  # "serving" from the moment it is told to listen
        self.serving: asyncio.Future[float] = asyncio.get_running_loop().create_future()  # since when
        self.counts: dict[str, Any] | None = None  # the last that are known
        self.why = ""  # why it ends, if more is known than its exit code
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def ping(self, every_s: float) -> None:
        """Ping the worker until it leaves `PINGS` in a row unanswered, then kill it.

        It counts pings, not seconds, so that a pause of the whole machine is not taken for a worker that hangs.
        """
        left = PINGS
        while left:
            await asyncio.sleep(every_s)
            try:
                await self.ask("ping", within=every_s)
                left = PINGS
            except OSError:  # no answer in time, or its process is ending
                left -= 1
        self.kill("did not answer: stopped or stuck")

    def kill(self, why: str = "") -> None:
        self.why = self.why or why
        if not self.exit_code.done():
            os.kill(self.pid, signal.SIGKILL)

    def ended(self, exit_code: int) -> None:
        """The process was reaped."""
        self._process.returncode = exit_code  # keeps `subprocess` from waiting for it, too
        self.exit_code.set_result(exit_code)


def described(exit_code: int) -> str:
    try:
        return f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"
    except ValueError:
        return f"killed by signal {-exit_code}"
