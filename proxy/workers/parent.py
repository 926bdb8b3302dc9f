"""The process that workers belong to: it starts them, stops them, and starts again the one that died.

SIGTERM and SIGINT drain all of them at once; a second signal ends them now. SIGHUP reloads. As PID 1 of a
container it also reaps what others leave behind. Should it die itself, each worker sees its socket close,
and drains.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from proxy.errors import ConfigError, ConfigErrors, PortTaken, WorkersFailed
from proxy.server.sockets import addresses, reserve
from proxy.workers.board import SharedState, Turn
from proxy.workers.channel import Message
from proxy.workers.child import WorkerHandle, WorkerSpec, described, fork
from proxy.workers.gathering import MetricsGather
from proxy.workers.loop import Loop, reaped
from proxy.workers.reload import Reload

MOST_FAILED_STARTS, MOST_FAILED_STARTS_LATER = 5, 10
"""How often in a row a worker may die before it serves. Later there are others that serve, and what keeps it
from starting, such as too little memory, may pass within the half minute that ten times take."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
"""How long a place stays empty after its worker died: doubled each time it did so within `GOOD_LIFE_S`."""

GOOD_LIFE_S = 10.0

STUCK_S = 5.0
"""How long after the end of a drain a worker that is still there is killed."""

STUCK_NOW_S = 2.0
"""The same after a second signal; it takes a second at most."""


class _Place:
    """One of the N places, whoever fills it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: WorkerHandle | None = None
        self.filled = 0  # how often
        self.failed_starts = 0
        self.pause_s = FIRST_PAUSE_S


class Parent:
    """Runs in one loop, and waits for nobody."""

    def __init__(self, path: str, host: str | None, port: int | None, workers: int) -> None:
        self._path, self._host, self._port = path, host, port
        self._places = [_Place(number) for number in range(1, workers + 1)]
        self._board, self._turn = SharedState(), Turn()
        self._loop = Loop()
        self._reload = Reload(path, self._board, self._loop, voters=self._serving, over=self._admit_ready)
        self._gathering = MetricsGather(self._loop, self._children)
        self._reserved: list[tuple[str, list[socket.socket]]] = []  # by the prefix of what is served there
        self._drain_s = 0.0
        self._announced = False
        self._stopping = False
        self._failure: Exception | None = None
        self._unsaid: list[dict[str, Any]] = []
        self._hears: dict[str, Callable[[WorkerHandle, Message], None]] = {
            "ready": self._ready,
            "refused": self._refused,
            "prepared": self._prepared,
            "serving": self._serves,
            "failed": self._failed,
            "changed": lambda _child, _message: self._reload.look(forced=False),
            "gather": lambda child, message: self._gathering.begin(child, message.values["round"]),
            "counts": lambda child, message: self._gathering.counted(child, message.values["round"], message.load),
        }

    def run(self) -> None:
        self._loop.on_signal(signal.SIGTERM, self._signalled)
        self._loop.on_signal(signal.SIGINT, self._signalled)
        self._loop.on_signal(signal.SIGHUP, self._hung_up)
        self._loop.on_signal(signal.SIGCHLD, self._child_ended)
        for place in self._places:
            self._fill(place)
        self._loop.run(until=lambda: self._stopping and not self._children())
        if self._failure is not None:
            raise self._failure

    def _children(self) -> list[WorkerHandle]:
        return [place.child for place in self._places if place.child is not None]

    def _serving(self) -> list[WorkerHandle]:
        return [child for child in self._children() if child.state == "serving"]

    # -- a worker's way to its place ----------------------------------------------------------------------------

    def _fill(self, place: _Place) -> None:
        if self._stopping:
            return
        birth = WorkerSpec(
            number=place.number,
            workers=len(self._places),
            first=not place.filled,
            path=self._path,
            host=self._host,
            port=self._port,
            generation=self._reload.number,
            content=self._reload.content,
            loaded_at=self._reload.loaded_at,
            board=self._board,
            turn=self._turn,
        )
        place.filled += 1
        try:
            place.child = fork(birth, self._loop, self._hear, self._leave)
        except OSError as error:  # too many processes, too little memory: it may pass
            place.failed_starts += 1
            self._fill_later(place, f"cannot be started: {error.strerror}", pid=None)

    def _leave(self) -> None:
        """In a child: close what is the parent's alone."""
        self._loop.leave()
        for child in self._children():
            child.let_go()
        for _, sockets in self._reserved:
            for sock in sockets:
                sock.close()

    def _hear(self, child: WorkerHandle, message: Message) -> None:
        self._hears[message.word](child, message)

    def _ready(self, child: WorkerHandle, message: Message) -> None:
        """It has built its config. The first to say so tells the address, too: the parent reads no YAML."""
        if self._stopping:
            return
        child.state, child.generation = "ready", message.values["generation"]
        self._drain_s = max(self._drain_s, message.values["drain_s"])
        if not self._reserved:
            try:
                self._reserve(host=message.values["host"], listen=message.values["listen"])
            except (OSError, PortTaken) as error:
                self._give_up(error)
                return
        self._admit(child)

    def _reserve(self, *, host: str, listen: list[tuple[int, str, str]]) -> None:
        for port, prefix, key in listen:
            try:
                self._reserved.append((prefix, reserve(host, port)))
            except OSError as error:
                if not prefix:
                    raise
                raise PortTaken(key, port, error, file=self._path) from None

    def _admit(self, child: WorkerHandle) -> None:
        if self._reload.busy:
            return  # it would miss the commit; it has its turn when that is over
        if child.generation != self._reload.number:
            self._reload.give(child)
            return
        child.send("commit", generation=child.generation, tell=False)
        places = [(prefix, address) for prefix, sockets in self._reserved for address in addresses(sockets)]
        child.send("listen", places=places, rejected=self._reload.rejected)
        child.state = "serving"

    def _admit_ready(self) -> None:
        for child in self._children():
            if child.state == "ready":
                self._admit(child)

    def _serves(self, child: WorkerHandle, message: Message) -> None:
        self._place_of(child).failed_starts = 0
        child.begin_to_serve()
        if (
            not self._announced
            and not self._stopping
            and all(one.serving_since for one in self._children())
            and not self._vacant()
        ):
            self._announced = True
            print(message.values["banner"], flush=True)  # noqa: T201 - for the person who started it
        for line in self._unsaid:
            child.send("say", **line)
        self._unsaid.clear()
        self._reload.look_later()

    def _prepared(self, child: WorkerHandle, message: Message) -> None:
        self._drain_s = max(self._drain_s, message.values["drain_s"])  # it may yet be rejected
        if child.state == "ready":
            child.generation = message.values["generation"]
            self._admit(child)
        else:
            self._reload.prepared(child, message.values["proposal"])

    def _refused(self, child: WorkerHandle, message: Message) -> None:
        errors: list[str] = message.values["errors"]
        if child.state == "serving":
            self._reload.refused(child, message.values["proposal"], errors)
        elif not self._announced and not self._stopping:
            self._give_up(ConfigErrors([ConfigError(error) for error in errors]))
        else:  # in force elsewhere, and refused here
            child.said_why = "; ".join(errors)
            child.kill()

    def _failed(self, child: WorkerHandle, message: Message) -> None:
        child.said_why = message.values["why"]

    # -- a worker's end -----------------------------------------------------------------------------------------

    def _child_ended(self) -> None:
        codes = dict(reaped())
        ended = [(place, place.child) for place in self._places if place.child and place.child.pid in codes]
        for _, child in ended:
            child.exit_code = codes[child.pid]  # of all, before anything is done: their pids are no longer theirs
        for place, child in ended:
            child.hear_out()
            place.child = None
            self._lost(place, child)

    def _lost(self, place: _Place, child: WorkerHandle) -> None:
        self._gathering.lost(child)
        self._reload.lost(child)
        assert child.exit_code is not None
        how = child.said_why or described(child.exit_code)
        if self._stopping:
            if child.exit_code and child.state == "serving" and self._failure is None:
                self._failure = WorkersFailed(f"worker {place.number} did not stop as it should have: {how}")
            return
        if child.serving_since is None:
            place.failed_starts += 1
        if child.served_for >= GOOD_LIFE_S:
            place.pause_s = FIRST_PAUSE_S
        self._fill_later(place, how, child.pid)

    def _fill_later(self, place: _Place, how: str, pid: int | None) -> None:
        if place.failed_starts >= (MOST_FAILED_STARTS_LATER if self._announced else MOST_FAILED_STARTS):
            self._give_up(
                WorkersFailed(
                    f"worker {place.number} died {place.failed_starts} times in a row before it served: {how}"
                )
            )
            return
        self._say("error", "worker_died", worker=place.number, pid=pid, how=how, again_in_s=place.pause_s)
        self._gathering.restarts += 1
        self._loop.after(place.pause_s, lambda: self._fill(place))
        place.pause_s = min(2 * place.pause_s, LONGEST_PAUSE_S)

    def _say(self, level: str, event: str, **fields: Any) -> None:
        """A line in the log. A worker writes it: the parent has no log, and must not wait for who reads it."""
        line = {"level": level, "event": event, "fields": fields}
        speaker = next((child for child in self._serving() if child.serving_since), None)
        if speaker is None:
            self._unsaid.append(line)
        else:
            speaker.send("say", **line)

    # -- signals ------------------------------------------------------------------------------------------------

    def _hung_up(self) -> None:
        if self._announced and not self._stopping:
            self._reload.look(forced=True)

    def _signalled(self) -> None:
        if not self._stopping:
            self._drain()
        else:
            for child in self._children():
                child.send("now")
            self._kill_stuck_after(STUCK_NOW_S)

    def _drain(self) -> None:
        self._stopping = True
        self._board.draining = True
        for child in self._children():
            if child.state == "serving":
                child.send("drain")
            else:
                child.kill()  # nobody is being answered
        self._kill_stuck_after(self._drain_s + STUCK_S)

    def _give_up(self, why: Exception) -> None:
        self._failure = why
        self._drain()

    def _kill_stuck_after(self, seconds: float) -> None:
        def kill() -> None:
            for child in self._children():
                print(f"worker {child.number} does not stop; killed", file=sys.stderr)  # noqa: T201
                child.kill()

        self._loop.after(seconds, kill)

    def _place_of(self, child: WorkerHandle) -> _Place:
        return self._places[child.number - 1]

    def _vacant(self) -> bool:
        return any(place.child is None for place in self._places)
