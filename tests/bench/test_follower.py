"""What a peer costs while somebody follows its events is a figure only if somebody did."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bench.measure import Follower
from bench.peers import PAGE_OPEN, Site
from bench.tools import CannotMeasure
from tests.support.app import StartProxy

CONFIG = "backends: {echo: {kind: echo}}\nroutes: [{name: all, to: echo}]"
PAGE = replace(PAGE_OPEN, headers=())


async def test_events_are_followed_to_the_end_of_the_block(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = await start_proxy(CONFIG)
    with await asyncio.to_thread(Follower, PAGE, Site(proxy.port, 0, tmp_path)):
        assert proxy.server.open_connections == 1
    async with asyncio.timeout(60):
        while proxy.server.open_connections:
            await asyncio.sleep(0.01)


async def test_a_peer_that_refuses_has_no_figure(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = await start_proxy(CONFIG)
    with pytest.raises(CannotMeasure, match="404"):
        await asyncio.to_thread(Follower, replace(PAGE, followed="/status/none"), Site(proxy.port, 0, tmp_path))


async def test_a_peer_that_ends_its_answer_early_has_no_figure(start_proxy: StartProxy, tmp_path: Path) -> None:
    proxy = await start_proxy(CONFIG)
    follower = await asyncio.to_thread(Follower, PAGE, Site(proxy.port, 0, tmp_path))
    with pytest.raises(CannotMeasure, match="ended"), follower:
        proxy.app.draining = True
        await asyncio.to_thread(follower.thread.join, 60)
