"""A worker by itself, its parent being the test."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from proxy.errors import ConfigErrors
from proxy.workers.channel import Channel, SharedState
from proxy.workers.worker import Worker, work


def spec(content: str) -> dict[str, object]:
    config = {"path": "config.yaml", "content": content.encode(), "generation": 1, "loaded_at": 0}
    return {"number": 1, "processes": 1, "warns": True, "host": None, "port": None, "without_file": False, **config}


async def test_a_worker_whose_config_is_refused_says_why_and_no_more() -> None:
    """Its parent mostly kills it at once; where it is slower, what the worker never counted is not asked for."""
    ours, theirs = map(Channel, socket.socketpair())
    await ours.open()
    told: list[dict[str, object]] = []

    def refused(errors: list[dict[str, object]]) -> None:
        told.extend(errors)

    async with asyncio.TaskGroup() as group:
        worker = group.create_task(work(theirs, SharedState.at()))
        ours.tell("spec", **spec("backends: {}\n"))
        await ours.run({"refused": refused})
    assert worker.result() == 1
    assert any("routes" in error["message"] for error in told)


@pytest.mark.parametrize("newer", ["routes: [{name: default, to: echo/m2}]", "routes: 1"])
async def test_a_worker_that_starts_during_a_reload_builds_what_is_in_force_afterwards(newer: str) -> None:
    ours, theirs = map(Channel, socket.socketpair())
    state, content = SharedState.at(), "backends: {echo: {kind: echo}}\n"
    worker = Worker(theirs, state, **spec(content + "routes: [{name: default, to: echo/m1}]"))
    await worker._app.start()
    built = []

    def answer(*, generation: int, **_: object) -> object:
        built.append(generation)
        if generation == 2:
            return {"places": [], "rejected": ["bad"]}
        state.generation = 2
        return {"prepare": {"content": (content + newer).encode(), "generation": 2, "loaded_at": 0}}

    for channel in (ours, theirs):
        await channel.open()
    running = [asyncio.create_task(ours.run({"built": answer})), asyncio.create_task(theirs.run({}))]
    settings = worker._app.snapshot.config.settings.server
    if newer == "routes: 1":
        with pytest.raises(ConfigErrors, match="routes"):
            await worker._listen(None, settings)
        assert built == [1]
    else:
        await worker._listen(None, settings)
        assert built == [1, 2]
        assert worker._app.snapshot.config.settings.routes[0].to[0].target == "echo/m2"
        assert worker._app.rejected == ["bad"]
    await ours.aclose()
    await asyncio.wait(running)
    await worker._app.aclose()


async def test_a_line_is_answered_for_once_it_is_written() -> None:
    """Not once it is queued: a worker that died of the next message took the line with it, and nobody wrote it again."""
    ours, theirs = map(Channel, socket.socketpair())
    worker = Worker(theirs, SharedState.at(), **spec(""))
    reading, written = threading.Event(), threading.Event()

    def flush() -> bool:
        reading.set()
        return written.wait(60)

    worker._log = SimpleNamespace(flush=flush)
    for channel in (ours, theirs):
        await channel.open()
    running = [asyncio.create_task(worker._take_orders()), asyncio.create_task(ours.run({}))]
    with capture_logs() as logs:
        saying = asyncio.create_task(ours.ask("say", within=60, event="worker_died", fields={"worker": 2}))
        assert await asyncio.to_thread(reading.wait, 60)
        await ours.ask("ping", within=60)  # answered in between
        assert not saying.done()
        written.set()
        await saying
    assert [(line["event"], line["worker"]) for line in logs] == [("worker_died", 2)]
    worker._stop.set()
    await ours.aclose()
    await asyncio.wait(running)
