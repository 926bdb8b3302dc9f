"""After many requests, finished or abandoned at any point, nothing is left (C07, H10)."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path

import pytest

from proxy.errors import ProxyError
from proxy.testing.script import Fin, Rst, Sleep, Stall, json_reply, openai_stream
from proxy.testing.upstream import eventually
from proxy.transport import Request
from proxy.transport.reader import ResponseReader
from tests.support.connections import connections

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def request(upstream, body=b"{}"):
    return Request(method="POST", url=upstream.url, headers={}, body=body)


async def test_descriptors_and_tasks_are_flat_after_500_requests(upstream, transport):
    upstream.decide(lambda seen: openai_stream(["a", seen.body.decode()]))

    async def client(number):
        for turn in range(25):
            nonce = f"{number}-{turn}"
            response = await transport.open(request(upstream, nonce.encode()))
            assert nonce in (await response.read_all(10_000)).decode()
            response.close()

    before, tasks = descriptors(), len(asyncio.all_tasks())
    await asyncio.gather(*(client(number) for number in range(20)))
    assert connections(transport).open == connections(transport).idle <= 20
    await transport._pool.aclose()
    await eventually(lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks)


async def test_500_abandoned_at_random_points_leave_nothing_and_disturb_nobody_c07_h10(upstream, transport):
    chance = random.Random(7)
    upstream.decide(
        lambda seen: (
            openai_stream([seen.body.decode()] * 3, gap_s=0.001)
            if seen.body.startswith(b"good")
            else chance.choice(
                [
                    [*openai_stream(["nobody's"] * 5, gap_s=0.001)],
                    [*openai_stream(["nobody's"])[:3], chance.choice([Fin(), Rst(), Stall()])],
                    [Sleep(0.005), *json_reply(200, {"nobody": "x" * 100_000})],
                    [Stall()],
                ]
            )
        )
    )

    async def leave():
        async with asyncio.timeout(chance.random() * 0.02):
            response = await transport.open(request(upstream, b"bad"))
            try:
                for _ in range(chance.randrange(6)):
                    await response.read()
            finally:
                response.close()

    async def stay(number):
        nonce = f"good-{number}"
        response = await transport.open(request(upstream, nonce.encode()))
        text = (await response.read_all(100_000)).decode()
        response.close()
        assert text.count(nonce) == 3
        assert "nobody" not in text

    before, tasks = descriptors(), len(asyncio.all_tasks())
    for _ in range(10):
        results = await asyncio.gather(
            *(leave() for _ in range(50)), *(stay(number) for number in range(5)), return_exceptions=True
        )
        odd = [result for result in results if isinstance(result, BaseException)]
        assert [error for error in odd if not isinstance(error, TimeoutError | ProxyError)] == []
        assert results[50:] == [None] * 5
    await eventually(lambda: connections(transport).in_use == 0)
    await transport._pool.aclose()
    await eventually(lambda: descriptors() <= before and len(asyncio.all_tasks()) <= tasks)


async def test_a_finished_answer_is_freed_without_the_garbage_collector(upstream, transport):
    upstream.always(openai_stream(["a"]))
    gc.collect()
    gc.disable()
    try:
        response = await transport.open(request(upstream))
        await response.read_all(10_000)
        response.close()
        assert exchanges() == 1
        del response
        assert exchanges() == 0
    finally:
        gc.enable()


def exchanges():
    return sum(type(each) is ResponseReader for each in gc.get_objects())
