"""Houses of several workers behave as one: they take up a config at one moment and share one limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.workers.app import Gathered, WorkerApp
from proxy.workers.board import SharedState, Turn
from proxy.workers.child import WorkerSpec


def config(number: int, connections: int = 10) -> bytes:
    return (
        f"server: {{limits: {{connections: {connections}, connections_per_peer: 7}}}}\n"
        f"backends: {{echo: {{kind: echo}}}}\nroutes: [{{name: default, to: echo/m{number}}}]\n"
    ).encode()


async def nobody() -> Gathered:
    raise ConnectionResetError


class Pair:
    """Two workers' houses and the board that they share."""

    def __init__(self, folder: Path) -> None:
        self.board = SharedState()
        self.board.generation = 1
        self.houses = [
            WorkerApp(
                WorkerSpec(
                    number, 3, True, str(folder / "config.yaml"), None, None, 1, config(1), 1000, self.board, Turn()
                ),
                nobody,
            )
            for number in (1, 2)
        ]

    async def prepare(self, number: int, content: bytes) -> None:
        for app in self.houses:
            app.hold(await app.build_beside(content, number, 2000))

    @property
    def served(self) -> list[str]:
        return [app.generation.config.settings.routes[0].to[0].target for app in self.houses]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    for app in pair.houses:
        await app.start()
    yield pair
    for app in pair.houses:
        await app.aclose()


async def test_all_take_up_a_config_at_the_moment_the_board_says_so_without_being_told(pair: Pair) -> None:
    await pair.prepare(2, config(2))
    assert pair.served == ["echo/m1"] * 2
    pair.board.generation = 2
    assert pair.served == ["echo/m2"] * 2
    assert [app.generation.number for app in pair.houses] == [2, 2]
    assert [app.generation.loaded_at for app in pair.houses] == [2000, 2000], "also what `/v1/models` shows of it"


async def test_what_is_rejected_is_let_go_and_the_next_may_have_its_number(pair: Pair) -> None:
    await pair.prepare(2, config(2))
    for app in pair.houses:
        app.reject(["bad"], tell=False)
    await pair.prepare(2, config(3))
    pair.board.generation = 2
    assert pair.served == ["echo/m3"] * 2


async def test_the_limit_on_connections_is_shared_and_a_clients_own_is_not(pair: Pair) -> None:
    limits = pair.houses[0].connection_limits()
    assert (limits.connections, limits.connections_per_peer) == (4, 7), "a third of ten, rounded up"
    await pair.prepare(2, config(2, connections=30))
    pair.board.generation = 2
    assert pair.houses[0].connection_limits().connections == 10


async def test_none_is_ready_once_the_board_says_draining(pair: Pair) -> None:
    assert [(await app._readyz()).status for app in pair.houses] == [200, 200]
    pair.board.draining = True
    assert [(await app._readyz()).status for app in pair.houses] == [503, 503]


async def test_without_a_parent_there_are_no_sums(pair: Pair) -> None:
    assert (await pair.houses[0]._metrics()).status == 503
    assert (await pair.houses[0]._status()).status == 200
