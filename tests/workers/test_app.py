"""Apps of several workers behave as one: they take up a config at one moment and share one limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from proxy.routing.plan import Limit, Target
from proxy.workers.channel import Channel, SharedState
from proxy.workers.worker import WorkerApp


def config(number: int, connections: int = 10) -> bytes:
    return (
        f"server: {{limits: {{connections: {connections}, connections_per_peer: 7}}}}\n"
        f"backends: {{echo: {{kind: echo}}}}\nroutes: [{{name: default, to: echo/m{number}}}]\n"
    ).encode()


class Pair:
    """Two workers' apps and the state that they share."""

    def __init__(self, folder: Path) -> None:
        self.state = SharedState.at()
        self.state.generation = 1
        self.apps = [
            WorkerApp(
                self.state,
                Channel(None),  # to nobody
                processes=3,
                generation=1,
                loaded_at=1000,
                path=str(folder / "config.yaml"),
                content=config(1),
            )
            for _ in range(2)
        ]

    async def prepare(self, number: int, content: bytes) -> None:
        for app in self.apps:
            await app.prepare(content, generation=number, loaded_at=2000)

    @property
    def served(self) -> list[str]:
        return [app.snapshot.config.settings.routes[0].to[0].target for app in self.apps]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    for app in pair.apps:
        await app.start()
    yield pair
    for app in pair.apps:
        await app.aclose()


async def test_all_take_up_a_config_at_the_moment_the_state_says_so_without_being_told(pair: Pair) -> None:
    await pair.prepare(2, config(2))
    assert pair.served == ["echo/m1"] * 2
    pair.state.generation = 2
    assert pair.served == ["echo/m2"] * 2
    assert [app.snapshot.number for app in pair.apps] == [2, 2]
    assert [app.snapshot.loaded_at for app in pair.apps] == [2000, 2000], "also what `/v1/models` shows of it"


async def test_what_is_rejected_is_let_go_and_the_next_may_have_its_number(pair: Pair) -> None:
    await pair.prepare(2, config(2))
    for app in pair.apps:
        app.reject(["bad"], log=False)
    await pair.prepare(2, config(3))
    pair.state.generation = 2
    assert pair.served == ["echo/m3"] * 2


async def test_the_limit_on_connections_is_shared_and_a_clients_own_is_not(pair: Pair) -> None:
    limits = pair.apps[0].connection_limits()
    assert (limits.connections, limits.connections_per_peer) == (4, 7), "a third of ten, rounded up"
    await pair.prepare(2, config(2, connections=30))
    pair.state.generation = 2
    assert pair.apps[0].connection_limits().connections == 10


async def test_none_is_ready_once_the_state_says_draining(pair: Pair) -> None:
    assert [(await app.operations["/readyz"].answer()).status for app in pair.apps] == [200, 200]
    pair.state.draining = 1
    assert [(await app.operations["/readyz"].answer()).status for app in pair.apps] == [503, 503]


async def test_without_a_parent_there_are_no_sums(pair: Pair) -> None:
    assert (await pair.apps[0].operations["/metrics"].answer()).status == 503
    assert (await pair.apps[0].operations["/status"].answer()).status == 200


async def test_a_config_that_was_rejected_while_it_was_built_is_not_kept(pair: Pair) -> None:
    app = pair.apps[0]
    preparing = asyncio.create_task(app.prepare(config(2), generation=2, loaded_at=2000))
    await asyncio.sleep(0)  # it has begun
    app.reject(["too late"], log=False)
    await preparing
    pair.state.generation = 2
    assert pair.served[0] == "echo/m1"


async def test_limits_that_each_process_counts_alone_are_warned_of(pair: Pair) -> None:
    limited = config(2).replace(b"to: echo/m2", b"to: echo/m2, limits: {parallel: 2}")
    for content, warns in ((limited, True), (config(3), False)):
        await pair.prepare(pair.state.generation + 1, content)
        pair.state.generation += 1
        with capture_logs() as lines:
            pair.apps[0].commit(log=True)
        warned = [line["message"] for line in lines if line["event"] == "config_warning"]
        assert ["3 workers" in message for message in warned] == [True] * warns


async def test_status_adds_up_what_all_know_of_their_targets(pair: Pair) -> None:
    for number, app in enumerate(pair.apps, 1):
        for _ in range(number):
            app.states.begin(Target("echo", "m1"))
            app.states.first_token(Target("echo", "m1"), number / 4)
        await app.states.slots(Limit("echo/m1", 2, 2)).take()

    async def gathered(word: str, within: float) -> dict[str, Any]:
        return {"rows": [{"answer": app.counts()} for app in pair.apps], "dead": [], "restarts": 0}

    pair.apps[0].everybody = gathered
    told = json.loads((await pair.apps[0].operations["/status"].answer()).body)
    assert told["targets"] == {"echo/m1": {"open": 3, "first_token_s": 0.5}}
    assert told["concurrency"] == {"echo/m1": {"slots": 4, "taken": 2, "waiting": 0}}
    assert all("targets" not in row for row in told["workers"])
