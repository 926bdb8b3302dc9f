"""The parent process: starts the workers, replaces those that die or hang, and stops them together.

SIGTERM and SIGINT drain all workers at once; a second signal ends them now. SIGHUP reloads. As PID 1 of a
container the parent also reaps processes that others left behind. If the parent itself dies, each worker sees its
channel close, and drains.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import Any

from proxy.errors import ConfigError, ConfigErrors, PortTaken, WorkersFailed
from proxy.printing import print_banner
from proxy.server.sockets import addresses, bind_each, reserve
from proxy.telemetry import sums
from proxy.workers.channel import ChannelClosed, Handlers, SharedState
from proxy.workers.handle import WorkerHandle, described
from proxy.workers.reload import BUILD_S, Reload

MOST_FAILED_STARTS, MOST_FAILED_STARTS_LATER = 5, 10
"""How often in a row a worker may die before it serves: at the start of the proxy, and later. Later there is more time,
because other workers serve: ten starts take half a minute, and a reason such as too little memory may pass."""

FIRST_PAUSE_S, LONGEST_PAUSE_S, GOOD_LIFE_S = 0.1, 10.0, 10.0
"""The pause before a worker is replaced is doubled each time it served for less than a good life."""

PING_S = 1.0
"""Before each ping, and for its answer. Tests set a shorter one."""

STUCK_S, STUCK_NOW_S = 5.0, 2.0
"""After the end of the drain, until a worker that is still there is killed; the same after a second signal, when
stopping takes a second at most."""

LAST_MESSAGES_S = 1.0
"""How long to read what a worker sent before its end. All of it has arrived by then, but if a process that the worker
forked holds the socket open, its end cannot be seen."""


class Parent:
    """Keeps each of N places filled with a worker: one task per place."""

    def __init__(
        self, path: str, *, host: str | None, port: int | None, workers: int, content: bytes | None = None
    ) -> None:
        """Read the config file `path`, or take `content` for it, if it is not there yet. Raises `ConfigErrors`."""
        self._path, without_file = path, content is not None
        self._app = {"path": path, "host": host, "port": port, "without_file": without_file, "processes": workers}
        self._places: dict[int, WorkerHandle | None] = dict.fromkeys(range(1, workers + 1))
        self._state = SharedState.at()
        self._reload = Reload(path, self._state, self._serving, content)
        self._reserved: list[tuple[str, list[socket.socket]]] = []  # by the prefix of what is served there
        self._announced = False
        self._stop = asyncio.Event()
        self._failure: Exception | None = None
        self._restarts = 0
        self._dead: list[sums.Family] = []  # the counts of workers that died
        self._unsaid: list[dict[str, Any]] = []

    async def run(self) -> None:
        """Serve until a signal. Raises `ConfigErrors`, `PortTaken`, `OSError`, `WorkersFailed`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._signalled)
        loop.add_signal_handler(signal.SIGINT, self._signalled)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        loop.add_signal_handler(signal.SIGCHLD, self._child_ended)
        async with asyncio.TaskGroup() as group:
            self._group = group
            reloading = group.create_task(self._reload.run())
            await asyncio.wait([group.create_task(self._keep_filled(number)) for number in self._places])
            reloading.cancel()
        if self._failure is not None:
            raise self._failure

    def _workers(self) -> list[WorkerHandle]:
        return [worker for worker in self._places.values() if worker is not None]

    def _serving(self) -> list[WorkerHandle]:
        return [worker for worker in self._workers() if worker.state == "serving" and not worker.closed]

    # -- one place ---------------------------------------------------------------------------------------------

    async def _keep_filled(self, number: int) -> None:
        pause_s, failed = FIRST_PAUSE_S, 0
        while not self._stop.is_set():
            failed += 1
            try:
                worker = WorkerHandle(number, self._state)
            except OSError as error:  # too many processes, too little memory: it may pass
                pid, how = None, f"cannot be started: {error.strerror}"
            else:
                pid, how = worker.pid, await self._accompany(worker)
                if worker.serving.done():
                    failed = 0
                    if time.monotonic() - worker.serving.result() >= GOOD_LIFE_S:
                        pause_s = FIRST_PAUSE_S
            if self._stop.is_set():
                break
            if failed >= (MOST_FAILED_STARTS_LATER if self._announced else MOST_FAILED_STARTS):
                self._give_up(WorkersFailed(f"worker {number} died {failed} times in a row before it served: {how}"))
                break
            self._restarts += 1
            self._group.create_task(self._say("worker_died", worker=number, pid=pid, how=how, again_in_s=pause_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stop.wait()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _accompany(self, worker: WorkerHandle) -> str:
        """Watch over a worker from its start to its end; returns how it ended."""
        self._places[worker.number] = worker
        await worker.open()
        warns = worker.number == 1 and not self._restarts  # one for all
        worker.tell("spec", number=worker.number, warns=warns, **self._app, **self._reload.in_force)
        handlers: Handlers = {
            "refused": lambda errors: self._refused(worker, ConfigErrors([ConfigError(**one) for one in errors])),
            "built": lambda **built: self._admit(worker, **built),
            "failed": worker.kill,
            "serving": lambda banner: self._serves(worker, banner),
            "changed": self._reload.look,
            "everybody": self._ask_everybody,
            "counted": lambda counts: setattr(worker, "counts", counts),
        }
        try:
            async with asyncio.TaskGroup() as group:
                receiving = group.create_task(worker.run(handlers))
                tending = group.create_task(self._tend(worker))
                exit_code = await worker.exit_code
                tending.cancel()
                await asyncio.wait([receiving], timeout=LAST_MESSAGES_S)
                receiving.cancel()
        finally:
            worker.kill()
        self._places[worker.number] = None
        if worker.counts:
            self._dead = sums.bury(self._dead, worker.counts["metrics"])
        how = worker.why or described(exit_code)
        if self._stop.is_set() and exit_code and worker.state == "serving" and self._failure is None:
            self._failure = WorkersFailed(f"worker {worker.number} did not stop as it should have: {how}")
        return how

    async def _tend(self, worker: WorkerHandle) -> None:
        """Ping a worker once it serves, and kill it when it does not get so far or does not answer."""
        await asyncio.wait([worker.serving], timeout=BUILD_S)
        if not worker.serving.done():
            self._refused(worker, self._reload.late(worker))
        await worker.ping(PING_S)

    def _refused(self, worker: WorkerHandle, errors: ConfigErrors) -> None:
        """A worker did not build the config. Once others have, it is the worker's fault."""
        if not self._announced and not self._stop.is_set():
            self._give_up(errors)
        worker.kill("; ".join(map(str, errors.errors)))

    def _admit(self, worker: WorkerHandle, *, generation: int, drain_s: float, **address: Any) -> dict[str, Any]:
        """A worker has built a config. Returns the one in force, if that is another by now, or where to listen."""
        reload = self._reload
        reload.drain_s = max(reload.drain_s, drain_s)
        if generation != self._state.generation:
            return {"prepare": reload.in_force}
        if not self._reserved:  # the first worker tells the address: the parent reads no YAML
            try:
                self._reserved = bind_each(reserve, **address, file=self._path)
            except (OSError, PortTaken) as error:
                self._give_up(error)
        worker.state = "serving"
        places = [(prefix, address) for prefix, sockets in self._reserved for address in addresses(sockets)]
        return {"places": places, "rejected": reload.rejected}

    def _serves(self, worker: WorkerHandle, banner: str) -> None:
        worker.serving.set_result(time.monotonic())
        self._reload.staffed.set()
        if not self._announced and all(one and one.serving.done() for one in self._places.values()):
            self._announced = True
            try:
                print_banner(banner)
            except ConfigError as error:
                self._give_up(error)
        unsaid, self._unsaid = self._unsaid, []
        for line in unsaid:
            self._group.create_task(self._say(**line))

    # -- all workers -------------------------------------------------------------------------------------------

    async def _ask_everybody(self, word: str, each: float, **values: Any) -> dict[str, Any]:
        """A row for each worker with its answer, for the one that is asked for `/metrics`, `/status` or `/`.

        The last known counts stand for those of a worker that does not answer: they are old, but no counter goes back.
        What a worker that died counted after it was last asked is lost, as all counts of a single process are.
        """
        answers: dict[WorkerHandle, Any] = {}

        async def ask(worker: WorkerHandle) -> None:
            with contextlib.suppress(ChannelClosed, TimeoutError):
                answers[worker] = None
                answers[worker] = await worker.ask(word, within=each, **values)
                if word == "counts":
                    worker.counts = answers[worker]

        await asyncio.gather(*map(ask, self._serving()))
        rows = []
        for worker in self._workers():  # without those that died meanwhile, whose counts are among the dead
            state = "silent" if answers.get(worker, "") is None else worker.state
            answer = worker.counts if word == "counts" else answers.get(worker)
            rows.append({"worker": worker.number, "pid": worker.pid, "state": state, "answer": answer})
        return {"rows": rows, "dead": self._dead, "restarts": self._restarts}

    async def _say(self, event: str, **fields: Any) -> None:
        """Have a worker write an error in the log: the parent has no log, and must not wait for whoever reads it.

        What kills one worker often kills the next, so a line is passed on until a worker answers that it is written.
        """
        while speaker := next((worker for worker in self._serving() if worker.serving.done()), None):
            with contextlib.suppress(ChannelClosed):
                await speaker.ask("say", within=None, event=event, fields=fields)
                return
        self._unsaid.append({"event": event, **fields})

    # -- the end -----------------------------------------------------------------------------------------------

    def _child_ended(self) -> None:
        """Reap every child that ended: as PID 1 also those of others."""
        workers = {worker.pid: worker for worker in self._workers()}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if worker := workers.get(ended[0]):
                    worker.ended(os.waitstatus_to_exitcode(ended[1]))

    def _hung_up(self) -> None:
        if self._announced and not self._stop.is_set():
            self._reload.look(forced=True)

    def _signalled(self) -> None:
        if not self._stop.is_set():
            self._drain()
        else:
            for worker in self._workers():
                worker.tell("now")
            self._kill_stuck_after(STUCK_NOW_S)

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
        self._kill_stuck_after(self._reload.drain_s + STUCK_S)

    def _kill_stuck_after(self, seconds: float) -> None:
        def kill() -> None:
            for worker in self._workers():
                print(f"worker {worker.number} does not stop; killed", file=sys.stderr)  # noqa: T201
                worker.kill()

        asyncio.get_running_loop().call_later(seconds, kill)
