"""How many streams a target is sent at once, and the queue in front of it."""

import asyncio
from collections import deque

from proxy.errors import TargetBusy
from proxy.routing.plan import Limit

ROUND = 16
"""How many first tokens are judged together, by their median: a long prompt, or one that is cached, says little."""

SLOWER = 2.0
"""A target has too much to do if the median of a round is this many times that of the quickest round of late."""

LATELY = 20
"""How many of the latest rounds the quickest is chosen from."""

AFTER_SLOW, AFTER_REFUSED = 0.8, 0.7
"""What is left of an adaptive limit after a slow round, and after a 429."""


class Slots:
    """The slots of one target in this process. The clients' keys take turns; with one key it is first come, first served.

    Where the limit adapts it grows by one when all of it was in use and answers begin as quickly as ever, and shrinks by a
    share when they begin slowly or are refused (AIMD).
    """

    def __init__(self, limit: Limit) -> None:
        self.taken = 0
        self._limit = limit
        self._size = float(limit.least)
        self._reached = False
        self._waiting: dict[
            str, deque[asyncio.Future[bool]]
        ] = {}  # by key, the one whose turn it is first; none is empty
        self._round: list[float] = []
        self._medians: deque[float] = deque(maxlen=LATELY)
        self._slow = False

    @property
    def size(self) -> int:
        """How many there are now."""
        return int(self._size)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def configure(self, limit: Limit) -> None:
        """Follow a config that was changed."""
        if limit is not self._limit:
            self._limit = limit
            self._resize(self._size)

    async def take(self, key: str = "") -> None:
        """Take a slot, waiting for one if need be. One `give` must follow.

        Raises `TargetBusy` when too many wait already, or when it took too long.
        """
        limit = self._limit
        if self.taken < self.size and not self._waiting:
            self.taken += 1
            self._reached = self._reached or self.taken >= self.size
            return
        self._reached = True
        if self.waiting >= limit.queue and not self._make_room(key):
            raise TargetBusy(limit.wait_s)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            async with asyncio.timeout(limit.wait_s):
                served = await turn
        except TimeoutError:
            self._leave(key, turn)
            raise TargetBusy(limit.wait_s) from None
        except BaseException:
            self._leave(key, turn)
            raise
        if not served:
            raise TargetBusy(limit.wait_s)

    def _make_room(self, key: str) -> bool:
        """Send away who came last of the key that has the most waiting, if `key` has fewer even then."""
        most = max(self._waiting, key=lambda one: len(self._waiting[one]), default=key)
        if len(self._waiting.get(most, ())) <= len(self._waiting.get(key, ())) + 1:
            return False
        turn = self._waiting[most].pop()
        if not turn.done():  # else it is about to leave
            turn.set_result(False)
        return True

    def give(self) -> None:
        """Free a slot, for who has waited longest of the key whose turn it is."""
        self.taken -= 1
        self._admit()

    def answered(self, first_token_s: float) -> None:
        """The target began to answer after so many seconds."""
        if self._limit.most == self._limit.least:
            return
        self._round.append(first_token_s)
        if len(self._round) == ROUND:
            self._medians.append(sorted(self._round)[ROUND // 2])
            self._round.clear()
            self._slow = self._medians[-1] > SLOWER * min(self._medians)
            if self._slow:
                self._resize(self._size * AFTER_SLOW)
        if self._reached and not self._slow:
            self._resize(self._size + 1 / self._size)

    def refused(self) -> None:
        """The target answered with a 429."""
        self._resize(self._size * AFTER_REFUSED)

    def _resize(self, size: float) -> None:
        self._size = min(max(size, self._limit.least), self._limit.most)
        self._reached = False
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.taken < self.size:
            key = next(iter(self._waiting))
            turns = self._waiting.pop(key)
            turn = turns.popleft()
            if turns:
                self._waiting[key] = turns  # after the other keys
            if not turn.done():
                turn.set_result(True)
                self.taken += 1

    def _leave(self, key: str, turn: asyncio.Future[bool]) -> None:
        """Leave the queue. A caller that was given a slot at the same moment gives it back."""
        turns = self._waiting.get(key)
        if turn.done() and not turn.cancelled():
            if turn.result():
                self.give()
        elif turns and turn in turns:  # else a slot that came free just now passed it over
            turns.remove(turn)
            if not turns:
                del self._waiting[key]
