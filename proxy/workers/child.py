"""A worker as its parent sees it: a process, a socket to talk through, and how far it has come."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, NoReturn

from proxy.workers.board import SharedState, Turn
from proxy.workers.channel import Decoder, Message, encode
from proxy.workers.loop import READ, WRITE, Loop

State = Literal[
    "starting",
    "ready",  # has built a config, and does not listen
    "serving",  # or about to listen: whatever it is told, it reads the order to listen first
]

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_PIECE = 256 * 1024


class WorkerSpec(NamedTuple):
    """What a worker is given at its start."""

    number: int
    workers: int
    first: bool  # the first of its number, not another's successor
    path: str
    host: str | None
    port: int | None
    generation: int
    content: bytes  # of the config in force, which need not be what the file holds now
    loaded_at: int
    board: SharedState
    turn: Turn


class WorkerHandle:
    """One worker process, from its fork until it is gone."""

    def __init__(
        self, number: int, pid: int, sock: socket.socket, loop: Loop, hear: Callable[[WorkerHandle, Message], None]
    ) -> None:
        self.number, self.pid = number, pid
        self.state: State = "starting"
        self.generation = 0  # the newest that it has built
        self.serving_since: float | None = None
        self.exit_code: int | None = None
        self.said_why = ""  # what it said when it gave up
        self.counts = b""  # the last that it told
        self._sock: socket.socket | None = sock
        self._loop, self._hear = loop, hear
        self._decoder = Decoder()
        self._unsent = bytearray()
        sock.setblocking(False)
        loop.watch(sock, READ, self._stirred)

    @property
    def served_for(self) -> float:
        return 0.0 if self.serving_since is None else time.monotonic() - self.serving_since

    def begin_to_serve(self) -> None:
        self.serving_since = time.monotonic()

    def send(self, word: str, load: bytes = b"", /, **values: Any) -> None:
        """Tell it something; never waits for it."""
        if self._sock is not None:
            self._unsent += encode(word, load, **values)
            self._flush()

    def kill(self) -> None:
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)

    def hear_out(self) -> None:
        """The process is over. What it had said may still lie in the socket."""
        while self._sock is not None:
            self._read()

    def let_go(self) -> None:
        """In another child after a fork: its end of this socket must not outlive the parent's."""
        if self._sock is not None:
            self._sock.close()

    def _stirred(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & READ and self._sock is not None:
            self._read()

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(_PIECE)
        except BlockingIOError:
            if self.exit_code is None:
                return
            data = b""  # somebody else has the other end, and nobody will say more
        except OSError:
            data = b""
        if not data:
            self._close()
        for message in self._decoder.feed(data):
            self._hear(self, message)

    def _flush(self) -> None:
        assert self._sock is not None
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent[:_PIECE])]
        except BlockingIOError:
            pass
        except OSError:  # it is going; reading will tell
            self._unsent.clear()
        self._loop.watch(self._sock, READ | WRITE if self._unsent else READ, self._stirred)

    def _close(self) -> None:
        assert self._sock is not None
        self._loop.forget(self._sock)
        self._sock.close()
        self._sock = None


def fork(
    birth: WorkerSpec, loop: Loop, hear: Callable[[WorkerHandle, Message], None], leave: Callable[[], None]
) -> WorkerHandle:
    """Start a worker. `leave` closes what is the parent's alone, in the child. Raises `OSError`."""
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if not pid:
            _live(birth, theirs, blocked, [leave, ours.close])
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
    return WorkerHandle(birth.number, pid, ours, loop, hear)


def _live(birth: WorkerSpec, sock: socket.socket, mask: Any, leave: list[Callable[[], None]]) -> NoReturn:
    """The child's whole life. Nothing of the parent's stack is unwound in it."""
    code = 1
    try:
        for close in leave:
            close()
        # Orders come through the socket. A Ctrl-C in a terminal, or a service manager that signals the whole
        # group, reaches parent and workers alike: obeyed twice it would be a second signal, and cut answers.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        from proxy import lean  # noqa: PLC0415

        with lean.imports():
            from proxy.workers.worker import work  # noqa: PLC0415 - all that serves, which the parent must not load

        code = work(birth, sock)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def described(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
