"""The parent process: starts the workers, replaces those that die or hang, and stops them together.

SIGTERM and SIGINT drain all workers at once; a second signal ends them now. SIGHUP reloads. As PID 1 of a
container the parent also reaps processes that others left behind. If the parent itself dies, each worker sees its
channel close, and drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

from proxy.errors import ConfigError, ConfigErrors, PortTaken, WorkersFailed
from proxy.printing import print_banner
from proxy.server.sockets import addresses, reserve
from proxy.workers.channel import ChannelClosed, Message
from proxy.workers.gather import MetricsGather, ask_all
from proxy.workers.handle import WorkerHandle, described
from proxy.workers.reload import Rejected, Reload
from proxy.workers.spec import INTERVALS, Intervals, SharedState, WorkerSpec

MOST_FAILED_STARTS, MOST_FAILED_STARTS_LATER = 5, 10
"""How often in a row a worker may die before it serves: at the start of the proxy, and later. Later there is more time,
because other workers serve: ten starts take half a minute, and a reason such as too little memory may pass."""


class _Place:
    """One of the N places for a worker."""

    def __init__(self, number: int, pause_s: float) -> None:
        self.number, self.pause_s = number, pause_s
        self.worker: WorkerHandle | None = None
        self.starts = self.failed_starts = 0


class Parent:
    """Keeps each place filled: one task per place."""

    def __init__(
        self,
        path: str,
        *,
        host: str | None,
        port: int | None,
        workers: int,
        content: bytes | None = None,
        intervals: Intervals = INTERVALS,
    ) -> None:
        """Read the config file `path`, or take `content` for it, if it is not there yet. Raises `ConfigErrors`."""
        self._without_file = content is not None
        self._path, self._host, self._port, self._intervals = path, host, port, intervals
        self._places = [_Place(number, intervals.first_pause) for number in range(1, workers + 1)]
        self._state = SharedState()
        self._reload = Reload(path, self._state, self._serving, content=content, within=intervals.build)
        self._metrics = MetricsGather(self._workers, within=intervals.counts)
        self._reserved: list[tuple[str, list[socket.socket]]] = []  # by the prefix of what is served there
        self._announced = False
        self._stop = asyncio.Event()
        self._failure: Exception | None = None
        self._unsaid: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Serve until a signal. Raises `ConfigErrors`, `PortTaken`, `OSError`, `WorkersFailed`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._signalled)
        loop.add_signal_handler(signal.SIGINT, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended)
        async with asyncio.TaskGroup() as group:
            reloading = group.create_task(self._reload.run())
            await asyncio.wait([group.create_task(self._keep_filled(place)) for place in self._places])
            reloading.cancel()
        if self._failure is not None:
            raise self._failure

    def _workers(self) -> list[WorkerHandle]:
        return [place.worker for place in self._places if place.worker is not None]

    def _serving(self) -> list[WorkerHandle]:
        return [worker for worker in self._workers() if worker.state == "serving" and not worker.closed]

    # -- one place ---------------------------------------------------------------------------------------------

    async def _keep_filled(self, place: _Place) -> None:
        while not self._stop.is_set():
            try:
                worker = WorkerHandle(place.number, self._state)
            except OSError as error:  # too many processes, too little memory: it may pass
                place.failed_starts += 1
                self._died(place, f"cannot be started: {error.strerror}", pid=None)
            else:
                await self._accompany(place, worker)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(place.pause_s):
                    await self._stop.wait()
            place.pause_s = min(2 * place.pause_s, self._intervals.longest_pause)

    async def _accompany(self, place: _Place, worker: WorkerHandle) -> None:
        """Watch over a worker from its start to its end."""
        place.worker = worker
        place.starts += 1
        await worker.open()
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(self._tend(place, worker))
            exit_code = await worker.live(lambda message: self._hear(worker, message))
            tending.cancel()
        place.worker = None
        self._metrics.lost(worker)
        if worker.serving_since is None:
            place.failed_starts += 1
        elif time.monotonic() - worker.serving_since >= self._intervals.good_life:
            place.pause_s = self._intervals.first_pause
        how = worker.why or described(exit_code)
        if not self._stop.is_set():
            self._died(place, how, worker.pid)
        elif exit_code and worker.state == "serving" and self._failure is None:
            self._failure = WorkersFailed(f"worker {place.number} did not stop as it should have: {how}")

    async def _tend(self, place: _Place, worker: WorkerHandle) -> None:
        """Have a worker serve, ping it, and kill it when it cannot serve or does not answer."""
        try:
            await self._admit(place, worker)
            await worker.ping(self._intervals.ping, self._intervals.pings)
        except TimeoutError:
            worker.why = "did not answer: stopped or stuck"
        except Rejected as rejected:
            if not self._announced and not self._stop.is_set():
                self._give_up(ConfigErrors([_placed(error, self._path) for error in rejected.errors]))
            worker.why = "; ".join(rejected.errors)  # of a config that other workers have built
        except ChannelClosed:
            await asyncio.sleep(self._intervals.stuck)  # its process is ending
        worker.kill()

    async def _admit(self, place: _Place, worker: WorkerHandle) -> None:
        """Have a worker build the config in force, then listen. Raises `Rejected`, `ChannelClosed`."""
        reload = self._reload
        spec = WorkerSpec(
            number=place.number,
            workers=len(self._places),
            first=place.starts == 1,
            path=self._path,
            host=self._host,
            port=self._port,
            generation=reload.number,
            loaded_at=reload.loaded_at,
            content=reload.content,
            without_file=self._without_file,
        )
        built = await reload.build(worker, "start", spec.content, **spec.values())
        if not self._reserved:  # the first worker tells the address: the parent reads no YAML
            try:
                self._reserve(built["host"], built["listen"])
            except (OSError, PortTaken) as error:
                self._give_up(error)
                return
        async with reload.lock:
            await reload.catch_up(worker)
            worker.state = "serving"
        places = [(prefix, address) for prefix, sockets in self._reserved for address in addresses(sockets)]
        listening = await worker.ask("listen", places=places, rejected=reload.rejected, within=self._intervals.build)
        if "why" in listening.values:
            worker.why = listening.values["why"]
        else:
            self._serves(place, worker, listening.values["banner"])

    def _reserve(self, host: str, listen: list[tuple[int, str, str]]) -> None:
        for port, prefix, key in listen:
            try:
                self._reserved.append((prefix, reserve(host, port)))
            except OSError as error:
                if not prefix:
                    raise
                raise PortTaken(key, port, error, file=self._path) from None

    def _serves(self, place: _Place, worker: WorkerHandle, banner: str) -> None:
        place.failed_starts = 0
        worker.serving_since = time.monotonic()
        self._reload.staffed.set()
        if not self._announced and all(one.worker and one.worker.serving_since for one in self._places):
            self._announced = True
            try:
                print_banner(banner)
            except ConfigError as error:
                self._give_up(error)
        for line in self._unsaid:
            worker.tell("say", **line)
        self._unsaid.clear()

    def _hear(self, worker: WorkerHandle, message: Message) -> Coroutine[Any, Any, None] | None:
        match message.word:
            case "changed":
                self._reload.look(forced=False)
            case "counts":
                worker.counts = message.load
            case "gather":
                return self._gather(worker, message)
            case "look":
                return self._look(worker, message)
            case word:
                raise ValueError(word)
        return None

    async def _gather(self, worker: WorkerHandle, question: Message) -> None:
        rows, metrics = await self._metrics.gather()
        worker.answer(question, metrics, rows=rows, restarts=self._metrics.restarts)

    async def _look(self, worker: WorkerHandle, question: Message) -> None:
        worker.answer(question, await ask_all(self._serving(), "look", question.load, within=self._intervals.look))

    # -- the end -----------------------------------------------------------------------------------------------

    def _child_ended(self) -> None:
        """Reap every child that ended: as PID 1 also those of others."""
        workers = {worker.pid: worker for worker in self._workers()}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if worker := workers.get(ended[0]):
                    worker.ended(os.waitstatus_to_exitcode(ended[1]))

    def _died(self, place: _Place, how: str, pid: int | None) -> None:
        if place.failed_starts >= (MOST_FAILED_STARTS_LATER if self._announced else MOST_FAILED_STARTS):
            times = f"{place.failed_starts} times in a row"
            self._give_up(WorkersFailed(f"worker {place.number} died {times} before it served: {how}"))
            return
        self._metrics.restarts += 1
        fields = {"worker": place.number, "pid": pid, "how": how, "again_in_s": place.pause_s}
        line = {"level": "error", "event": "worker_died", "fields": fields}
        # A worker writes it: the parent has no log, and must not wait for whoever reads the log.
        speaker = next((worker for worker in self._serving() if worker.serving_since), None)
        if speaker is None:
            self._unsaid.append(line)
        else:
            speaker.tell("say", **line)

    def _hung_up(self) -> None:
        if self._announced and not self._stop.is_set():
            self._reload.look(forced=True)

    def _signalled(self) -> None:
        if not self._stop.is_set():
            self._drain()
        else:
            for worker in self._workers():
                worker.tell("now")
            self._kill_stuck_after(self._intervals.stuck_now)

    def _give_up(self, why: Exception) -> None:
        self._failure = self._failure or why
        self._drain()

    def _drain(self) -> None:
        self._stop.set()
        self._state.draining = 1
        for worker in self._workers():
            if worker.state == "serving":
                worker.tell("drain")
            else:
                worker.kill()  # it has no requests to finish
        self._kill_stuck_after(self._reload.drain_s + self._intervals.stuck)

    def _kill_stuck_after(self, seconds: float) -> None:
        def kill() -> None:
            for worker in self._workers():
                print(f"worker {worker.number} does not stop; killed", file=sys.stderr)  # noqa: T201
                worker.kill()

        asyncio.get_running_loop().call_later(seconds, kill)


def _placed(said: str, file: str) -> ConfigError:
    """The error of a config that a worker sent as text, with its place, so that the command can show the line."""
    place = re.match(rf"{re.escape(file)}:(\d+):(\d+): ", said)
    if place is None:
        return ConfigError(said)
    return ConfigError(said[place.end() :], file=file, line=int(place[1]), column=int(place[2]))
