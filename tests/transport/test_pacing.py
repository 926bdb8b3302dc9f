"""Fast streams are read when the timer ticks; the first piece, slow ones and the end are not held up by it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from proxy.testing.script import LAST_CHUNK, Stall, chunked, sse_head
from proxy.testing.upstream import eventually
from proxy.transport.pacing import AT_EASE, BUSY, LATE_S, PATIENCE, SAMPLE_S, STEPS_S, AutoTick, Load, Pacer, Pacing
from proxy.transport.reader import ResponseReader
from tests.support.connections import connections
from tests.transport.paced import LONG_S, Far


async def begun(far: Far) -> ResponseReader:
    """An answer whose first two pieces came unhindered."""
    response = await far.open()
    await far.send()
    assert await response.read() == b"0"
    response.pace(on=True)
    await far.send()
    assert await response.read() == b"1"
    return response


async def test_pieces_of_a_fast_stream_are_read_together_at_the_tick(far):
    response = await begun(far)
    reading = asyncio.create_task(response.read())
    for _ in range(3):
        await far.send()
    assert not reading.done()
    assert not response._pieces  # they wait in the kernel, and cost nothing
    far.tick()
    assert await reading == b"234"


async def test_a_stream_that_stays_fast_stays_held(far):
    response = await begun(far)
    for expected in (b"23", b"45", b"67"):
        reading = asyncio.create_task(response.read())
        await far.send()
        await far.send()
        assert not reading.done()
        far.tick()
        assert await reading == expected


async def test_a_stream_with_one_piece_a_tick_is_let_go(far):
    response = await begun(far)
    for expected in (b"2", b"3"):  # the first may have been a short one: it is the second that tells
        reading = asyncio.create_task(response.read())
        await far.send()
        far.tick()
        assert await reading == expected
    reading = asyncio.create_task(response.read())
    await far.send()
    assert await reading == b"4"  # without a tick


async def test_a_piece_that_comes_after_its_tick_does_not_wait_for_another(far):
    response = await begun(far)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    far.tick()
    await far.send()
    assert await reading == b"2"


async def test_what_is_no_longer_paced_is_read_at_once(far):
    response = await begun(far)
    reading = asyncio.create_task(response.read())
    await far.send()
    assert not reading.done()
    response.pace(on=False)
    assert await reading == b"2"


async def test_a_held_answer_can_be_closed_and_the_tick_finds_nothing(far, transport):
    response = await begun(far)
    reading = asyncio.create_task(response.read())
    await far.send()
    reading.cancel()
    await asyncio.wait([reading])
    response.close()
    await eventually(lambda: connections(transport).open == 0)
    far.tick()


async def test_an_answer_whose_end_has_come_is_not_held(upstream, ask, transport):
    upstream.play(sse_head(), chunked(b"0"), chunked(b"1") + LAST_CHUNK)
    response = await ask(tick_s=LONG_S)
    response.pace(on=True)
    assert await response.read_all(10) == b"01"
    response.close()
    assert connections(transport).idle == 1


async def test_closing_the_transport_lets_go_of_what_is_held(far, transport):
    response = await begun(far)
    reading = asyncio.create_task(response.read())
    await far.send()
    await transport.aclose()
    with pytest.raises(Exception, match="closed"):
        while await reading:
            reading = asyncio.create_task(response.read())


async def test_a_tick_of_zero_holds_nobody(upstream, ask):
    upstream.play(sse_head(), *(chunked(b"x") for _ in range(50)), Stall())
    response = await ask(tick_s=0.0)
    response.pace(on=True)
    seen = b""
    async with asyncio.timeout(60):
        while len(seen) < 50:
            seen += await response.read()


async def test_held_streams_are_released_by_one_timer_on_multiples_of_the_tick():
    class Stream:
        def __init__(self) -> None:
            self.released = asyncio.Event()

        def release(self) -> None:
            self.released.set()

    pacer = Pacer(0.02)
    streams = [Stream() for _ in range(3)]
    for stream in streams:
        pacer.hold(stream)
    timer = pacer._timer
    assert timer is not None
    assert timer.when() / 0.02 == pytest.approx(round(timer.when() / 0.02), abs=0.06)
    async with asyncio.timeout(60):
        await asyncio.gather(*(stream.released.wait() for stream in streams))
    assert pacer._timer is None  # nothing ticks for nobody


# -- by load


def steps(tick: AutoTick, samples: Iterable[Load]) -> list[float]:
    return [tick.sample(load) for load in samples]


HIGH, LOW, FAIR = Load(BUSY + 0.1, 0.0), Load(AT_EASE - 0.1, 0.0), Load((BUSY + AT_EASE) / 2, 0.0)


def test_auto_is_off_until_the_load_is_high_and_grows_to_a_frame():
    tick = AutoTick()
    assert steps(tick, [LOW, FAIR]) == [0.0, 0.0]
    assert steps(tick, [HIGH] * 5) == [*STEPS_S[1:], STEPS_S[-1], STEPS_S[-1]]
    assert steps(AutoTick(), [Load(0.1, LATE_S * 2)]) == [STEPS_S[1]]  # a loop that is late is busy, whoever keeps it


def test_auto_goes_back_only_after_a_while_of_ease_and_one_step_at_a_time():
    tick = AutoTick()
    steps(tick, [HIGH] * 3)
    assert steps(tick, [FAIR] * 100)[-1] == STEPS_S[-1]  # neither up nor down in between
    assert steps(tick, [LOW] * (PATIENCE - 1) + [FAIR])[-1] == STEPS_S[-1]  # one fair sample begins the wait anew
    assert steps(tick, [LOW] * PATIENCE)[-1] == STEPS_S[-2]
    assert steps(tick, [LOW] * PATIENCE * 5)[-1] == 0.0


async def test_auto_measures_only_while_there_are_streams_for_it(monkeypatch):
    monkeypatch.setattr("proxy.transport.pacing.SAMPLE_S", 0.01)
    monkeypatch.setattr("proxy.transport.pacing.LATE_S", 3600)  # this machine may be busy
    spent = iter(range(10**6))
    pacing = Pacing(cpu_s=lambda: float(next(spent)))  # a second of CPU each time it is asked
    auto = pacing.pacer(None)
    assert auto is not None
    assert pacing._timer is None
    pacing.began(auto)
    await eventually(lambda: pacing.auto_tick_s == STEPS_S[-1])
    pacing._cpu_s = lambda: 0.0
    pacing.ended(auto)
    await eventually(lambda: pacing._timer is None)
    assert pacing.auto_tick_s == 0.0
    pacing.close()


def test_a_sample_is_short_against_the_patience():
    assert pytest.approx(3.0) == SAMPLE_S * PATIENCE
