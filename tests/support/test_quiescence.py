"""Check Q must find what it is there to find."""

import asyncio
import os

import pytest

from tests.support.clients import RawClient
from tests.support.quiescence import quiescent


async def test_a_block_that_cleans_up_late_but_in_time_passes():
    active = 0
    pipe = ()

    async def work():
        nonlocal active, pipe
        active, pipe = 1, os.pipe()
        await asyncio.sleep(0.05)
        active = 0
        for fd in pipe:
            os.close(fd)

    async with quiescent(active=lambda: active):
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
    assert task.done()


async def test_a_task_left_behind_is_named():
    async def forgotten():
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match=r"lonely .*forgotten at .*test_quiescence.py:\d+"):
        async with quiescent(within=0.05):
            task = asyncio.create_task(forgotten(), name="lonely")
    task.cancel()


async def test_a_descriptor_left_open_is_named_unless_it_may_stay():
    with pytest.raises(AssertionError, match=r"fd \d+: pipe:"):
        async with quiescent(within=0.05):
            fds = os.pipe()
    for fd in fds:
        os.close(fd)
    async with quiescent(within=0.05, spare_fds=2):
        fds = os.pipe()
    for fd in fds:
        os.close(fd)


async def test_a_connection_left_open_is_shown_with_both_its_ends(upstream):
    with pytest.raises(AssertionError, match=rf"fd \d+: socket:.*127.0.0.1.*{upstream.port}"):
        async with quiescent(within=0.05):
            client = await RawClient.connect(upstream.port)
    client.fin()


async def test_a_count_that_does_not_come_back_is_named():
    active = 0
    with pytest.raises(AssertionError, match="active: 3, and it was 0"):
        async with quiescent(within=0.05, active=lambda: active):
            active = 3


async def test_an_exception_that_nobody_retrieved_is_reported():
    async def fails():
        raise ValueError("lost")

    with pytest.raises(AssertionError, match="never retrieved"):
        async with quiescent():
            task = asyncio.create_task(fails())
            while not task.done():
                await asyncio.sleep(0)
            del task


async def test_the_block_s_own_error_is_not_hidden():
    with pytest.raises(KeyError):
        async with quiescent(within=0.05, active=iter([0, 1]).__next__):
            raise KeyError("own")
