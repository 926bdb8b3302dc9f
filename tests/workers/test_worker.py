"""A worker by itself, its parent being the test."""

from __future__ import annotations

import asyncio
import socket

from proxy.workers.channel import Channel
from proxy.workers.spec import SharedState, WorkerSpec
from proxy.workers.worker import work


async def test_a_worker_whose_config_is_refused_says_why_and_no_more() -> None:
    """Its parent mostly kills it at once; where it is slower, what the worker never counted is not asked for."""
    ours, theirs = map(Channel, socket.socketpair())
    await ours.open()
    spec = WorkerSpec(1, 1, True, "config.yaml", None, None, 1, 0, b"backends: {}\n")
    told = []
    async with asyncio.TaskGroup() as group:
        worker = group.create_task(work(theirs, SharedState()))
        hearing = group.create_task(ours.run(told.append))
        answer = await ours.ask("start", spec.content, within=60, **spec.values())
        await hearing
    assert worker.result() == 1
    assert any("routes" in error for error in answer.values["errors"])
    assert told == []
