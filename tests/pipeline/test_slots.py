"""Slots and their queue: first come, first served, bounded, and none is ever lost."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.errors import TargetBusy
from proxy.pipeline.slots import Slots
from proxy.routing.plan import Limit
from tests.support.virtual_time import VirtualLoop, run

TWO = Limit("a/m", 2, 2, queue=3, wait_s=5.0)


class Slotted(RuleBasedStateMachine):
    """Requests that come, wait, leave and end at any moment, also several in one turn of the loop."""

    keys = ("",)

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.slots = Slots(TWO)
        self.most = 2
        self.ends: dict[int, asyncio.Event] = {}
        self.tasks: dict[int, asyncio.Task[str]] = {}
        self.asking: set[int] = set()
        self.overtook: list[int] = []
        self.came = 0

    async def _request(self, number: int, key: str) -> str:
        self.asking.add(number)
        try:
            await self.slots.take(key)
        except TargetBusy:
            return "busy"
        finally:
            self.asking.discard(number)
        try:
            # One that was let in goes on a turn of the loop later, so who still waits is told by their number.
            if len(self.keys) == 1 and self.slots.waiting > sum(other > number for other in self.asking):
                self.overtook.append(number)
            await self.ends[number].wait()
            return "served"
        finally:
            self.slots.give()

    def _turn(self, seconds: float = 0.0) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def _some(self, data: st.DataObject, among: list[int]) -> int:
        return data.draw(st.sampled_from(among))

    @property
    def _under_way(self) -> list[int]:
        return [number for number, task in self.tasks.items() if not task.done()]

    @rule(data=st.data(), turn=st.booleans())
    def comes(self, data: st.DataObject, turn: bool) -> None:
        self.came += 1
        self.ends[self.came] = asyncio.Event()
        self.tasks[self.came] = self.loop.create_task(self._request(self.came, data.draw(st.sampled_from(self.keys))))
        if turn:
            self._turn()

    @precondition(lambda self: self._under_way)
    @rule(data=st.data(), turn=st.booleans())
    def leaves(self, data: st.DataObject, turn: bool) -> None:
        self.tasks[self._some(data, self._under_way)].cancel()
        if turn:
            self._turn()

    @precondition(lambda self: self._under_way)
    @rule(data=st.data(), turn=st.booleans())
    def is_answered(self, data: st.DataObject, turn: bool) -> None:
        self.ends[self._some(data, self._under_way)].set()
        if turn:
            self._turn()

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.9, 5.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self._turn(seconds)

    @rule(most=st.integers(1, 4))
    def the_config_changes(self, most: int) -> None:
        self.slots.configure(Limit("a/m", most, most, queue=3, wait_s=5.0))
        self.most = max(self.most, most)

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.slots.taken <= self.most
        assert self.slots.waiting <= 3
        assert self.overtook == [], "first come, first served"

    def teardown(self) -> None:
        for event in self.ends.values():
            event.set()
        for _ in range(5):
            self._turn(6.0)
        assert self._under_way == []
        assert [task for task in self.tasks.values() if not task.cancelled() and task.exception()] == []
        assert (self.slots.taken, self.slots.waiting) == (0, 0), "a slot was lost"
        self.slots.configure(TWO)
        self.loop.run_until_complete(self.slots.take())
        self.loop.close()


class SlottedByKey(Slotted):
    """The same with several keys, which take turns and push each other out of a full queue."""

    keys = ("a", "b", "c")


TestSlottedByKey = SlottedByKey.TestCase
TestSlottedByKey.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSlotted = Slotted.TestCase
TestSlotted.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_who_finds_all_slots_taken_waits_for_its_turn_and_no_longer_than_wait_s() -> None:
    async def asked() -> float:
        slots, loop = Slots(TWO), asyncio.get_running_loop()
        await slots.take()
        await slots.take()
        loop.call_later(2.0, slots.give)
        began = loop.time()
        await slots.take()
        assert loop.time() - began == pytest.approx(2.0)
        with pytest.raises(TargetBusy) as told:
            await slots.take()
        assert (told.value.status, told.value.retry_after, told.value.retryable) == (429, 5.0, True)
        return loop.time() - began

    assert run(asked()) == pytest.approx(7.0)


def test_without_a_queue_or_when_it_is_full_nobody_waits() -> None:
    async def asked() -> None:
        loop = asyncio.get_running_loop()
        slots = Slots(Limit("a/m", 1, 1))
        await slots.take()
        with pytest.raises(TargetBusy):
            await slots.take()
        slots = Slots(TWO)
        waiting = [asyncio.create_task(slots.take()) for _ in range(5)]
        await asyncio.sleep(0)
        began = loop.time()
        with pytest.raises(TargetBusy):
            await slots.take()
        assert loop.time() == began
        await asyncio.gather(*waiting, return_exceptions=True)

    run(asked())


def test_an_adaptive_limit_grows_only_while_all_of_it_is_in_use() -> None:
    async def asked() -> None:
        slots = Slots(Limit("a/m", 2, 20))
        for _ in range(50):
            await slots.take()
            slots.answered(0.1)
            slots.give()
        assert slots.size == 2, "one at a time needs no more"
        for _ in range(400):
            free = slots.size
            for _ in range(free):
                await slots.take()
            for _ in range(free):
                slots.answered(0.1)
                slots.give()
        assert slots.size == 20

    run(asked())


def test_an_adaptive_limit_finds_what_a_target_can_do() -> None:
    async def asked() -> list[int]:
        slots, sizes = Slots(Limit("a/m", 1, 64)), []
        for _ in range(600):
            free = slots.size
            for _ in range(free):
                await slots.take()
            for _ in range(free):
                slots.answered(0.1 if free <= 8 else 0.1 * free / 3)  # it does eight at once, and slows down beyond
                slots.give()
            sizes.append(slots.size)
        slots.refused()
        assert slots.size < sizes[-1]
        return sizes

    late = run(asked())[-200:]
    assert min(late) >= 3
    assert max(late) <= 10
    assert sum(late) / len(late) > 6


@pytest.mark.parametrize("uneven", [0.3, 0.6])
def test_answers_that_begin_unevenly_do_not_make_an_adaptive_limit_small(uneven: float) -> None:
    """The first tokens of real servers do: prompts differ in length, and some are cached."""

    async def asked() -> list[int]:
        slots, sizes, dice = Slots(Limit("a/m", 1, 64)), [], Random(7)
        for _ in range(600):
            free = slots.size
            for _ in range(free):
                await slots.take()
            for _ in range(free):
                slots.answered(0.1 * dice.lognormvariate(0, uneven) * max(1, free / 8))  # it does eight at once
                slots.give()
            sizes.append(slots.size)
        return sizes

    late = sorted(run(asked())[-300:])
    assert late[30] >= 5
    assert late[150] >= 8
    assert late[-30] <= 40


def test_who_leaves_at_the_moment_a_slot_comes_free_has_left() -> None:
    async def asked() -> None:
        slots = Slots(TWO)
        await slots.take()
        await slots.take()
        first, second = [asyncio.create_task(slots.take()) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        slots.give()
        await second
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (slots.taken, slots.waiting) == (2, 0)

    run(asked())


def test_A2_a_key_with_many_requests_keeps_no_other_waiting_or_out() -> None:
    async def asked() -> list[str]:
        slots, served = Slots(Limit("a/m", 1, 1, queue=4, wait_s=60.0)), []
        await slots.take("greedy")

        async def one(name: str) -> None:
            try:
                await slots.take(name.split(maxsplit=1)[0])
            except TargetBusy:
                served.append(f"{name}: busy")
                return
            served.append(name)
            slots.give()

        names = ["greedy 1", "greedy 2", "greedy 3", "greedy 4", "greedy 5", "b 1", "c 1", "b 2", "greedy 6"]
        waiting = []
        for name in names:
            waiting.append(asyncio.create_task(one(name)))
            await asyncio.sleep(0)
        slots.give()
        await asyncio.gather(*waiting)
        assert (slots.taken, slots.waiting) == (0, 0)
        return served

    assert run(asked()) == [
        *(f"{name}: busy" for name in ("greedy 5", "greedy 4", "greedy 3", "b 2", "greedy 6")),
        *("greedy 1", "b 1", "c 1", "greedy 2"),
    ]
