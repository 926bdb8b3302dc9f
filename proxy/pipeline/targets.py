"""Which targets are tried first: what is known of each from the attempts of all requests.

A target is a backend and a model there. One that failed several times in a row, or that asked for time with a 429, is
*held back*: others of the route are tried before it. It is never out of reach: when no other answers it is tried all
the same, as Envoy does in its panic mode, so no client and no single bad minute can shut out the others (A2).
"""

from collections import deque
from collections.abc import Callable
from math import exp

import msgspec
import structlog

from proxy.errors import ProxyError, UpstreamError
from proxy.pipeline.budget import ExtraWork
from proxy.pipeline.slots import Slots
from proxy.routing.pick import STALE_S, Stats
from proxy.routing.plan import Limit, Target

PROBE_S = 2.0
"""How long one probe keeps others from probing. It may be a request that takes minutes, or one that never answers."""

MOST_NAMED_BY_CLIENTS = 256
"""How many models that only clients name are remembered. Beyond that the oldest is forgotten."""

LATENCY_TAU_S = 10.0
"""How fast a high time to the first token is forgotten, in seconds."""

SAMPLES = 100
"""How many times to the first token are kept of a target, for percentiles."""

FEWEST_SAMPLES = 20
"""Fewer than these say nothing about a percentile."""

SLOW_START = 10
"""How many streams a target that failed has to begin before it gets its whole share again."""

Key = tuple[str, str]  # a backend and a model

log = structlog.get_logger("proxy.pipeline")


class TargetState(Stats):
    """What is known of a target. Times are those of the clock of `TargetStates`."""

    name: str = ""
    failures: int = 0  # in a row, counted at the end of an attempt
    opened: int = 0  # times in a row that its circuit was opened
    open_until: float = 0.0  # 0: closed
    probed_until: float = 0.0  # one request tries an open circuit until then
    recovering: int = 0  # first tokens until it gets its whole share again, after its circuit was open
    refusals: int = 0  # 429 in a row
    refused_at: float = 0.0
    wait_until: float = 0.0  # the time that the target asked for with a 429
    samples: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=SAMPLES))

    def sample(self, seconds: float, now: float) -> None:
        """Take a time to the first token into the peak EWMA: a longer one counts at once, a shorter one by and by."""
        self.samples.append(seconds)
        since = now - self.sampled_at
        if seconds < self.first_token_s and since < STALE_S:
            seconds += (self.first_token_s - seconds) * exp(-since / LATENCY_TAU_S)
        self.first_token_s, self.sampled_at = max(seconds, 1e-6), now


_UNKNOWN = Stats()


class TargetStates:
    """The state of every target, over all configs."""

    def __init__(
        self, clock: Callable[[], float], *, failures: int = 5, open_s: float = 1.0, longest_s: float = 30.0
    ) -> None:
        self.configure(failures=failures, open_s=open_s, longest_s=longest_s)
        self.now = clock
        self.extra = ExtraWork()
        self._begun = 0
        self._states: dict[Key, TargetState] = {}
        self._unwell: set[str] = set()  # backends
        self._slots: dict[str, Slots] = {}  # by the target's name in the config
        self._named_by_clients: dict[Key, None] = {}  # the oldest first

    def configure(self, *, failures: int, open_s: float, longest_s: float) -> None:
        """After how many failures in a row a circuit opens (0: never), for how long at first, and at most."""
        self.failures, self.open_s, self.longest_s = failures, open_s, longest_s

    def stats(self, target: Target) -> Stats:
        """For pickers, which only read them."""
        return self._states.get((target.backend, target.model), _UNKNOWN)

    def slots(self, limit: Limit) -> Slots:
        """The slots of a target with `concurrency`."""
        slots = self._slots.get(limit.target)
        if slots is None:
            slots = self._slots[limit.target] = Slots(limit)
        slots.configure(limit)
        return slots

    def queues(self) -> dict[str, dict[str, int]]:
        """What `/status` shows of each target with `concurrency` that was asked."""
        return {
            name: {"slots": slots.size, "taken": slots.taken, "waiting": slots.waiting}
            for name, slots in self._slots.items()
        }

    def percentile(self, target: Target, percent: float) -> float | None:
        """The time to the first token that so many of the latest answers did not exceed; `None`: too few are known."""
        state = self._states.get((target.backend, target.model))
        if state is None or len(state.samples) < FEWEST_SAMPLES:
            return None
        return sorted(state.samples)[int(len(state.samples) * percent / 100)]

    def held_back(self, target: Target) -> str:
        """Why other targets are tried before this one: `unwell`, `circuit_open`, `slow_start`, `rate_limit_wait`; or "".

        When its time is over, an open circuit lets one request through: the probe. After it the target may have two
        streams open, and one more for each that begins to answer, up to the tenth.
        """
        if self._unwell and target.backend in self._unwell:
            return "unwell"
        state = self._states.get((target.backend, target.model))
        if state is None:
            return ""
        now = self.now()
        if state.wait_until > now:
            return "rate_limit_wait"
        if self.failures and state.open_until and max(state.open_until, state.probed_until) > now:
            return "circuit_open"
        if state.recovering and state.open > 1 + SLOW_START - state.recovering:
            return "slow_start"
        return ""

    def begin(self, target: Target) -> None:
        """An attempt begins. Exactly one of `end` and `left` follows."""
        state = self._known(target)
        self._begun += 1
        state.open, state.begun = state.open + 1, self._begun
        if state.open_until:
            now = self.now()
            if state.open_until <= now and state.probed_until <= now:
                state.probed_until = now + PROBE_S

    def first_token(self, target: Target, seconds: float | None) -> None:
        """The answer has begun: the target works, however the answer ends.

        `seconds` is the time since its attempt began; `None` if it came in one piece, which says nothing of a first token.
        """
        state, now = self._known(target), self.now()
        if seconds is not None:
            state.sample(seconds, now)
        if now - (seconds or 0.0) >= state.refused_at:  # else it was let in before the 429
            state.refusals, state.wait_until = 0, 0.0
        state.recovering = max(0, state.recovering - 1)
        if state.open_until:
            state.open_until = state.probed_until = 0.0
            state.recovering = SLOW_START
            log.info("circuit_closed", target=state.name)

    def end(self, target: Target, error: ProxyError | None) -> None:
        """An attempt is over: with a whole answer, or with an error, which says whether the target is at fault."""
        state = self._known(target)
        state.open = max(0, state.open - 1)
        if error is None:
            state.failures = state.opened = 0
        elif not isinstance(error, UpstreamError):
            state.probed_until = 0.0
        elif error.status == 429:
            self._asked_for_time(state, error)
        elif error.trips:
            state.sample(target.first_token_s, self.now())
            self._failed(state, error)
        else:
            state.probed_until = 0.0

    def left(self, target: Target, waited_s: float = 0.0) -> None:
        """An attempt ended without showing anything of the target, as when the client left.

        `waited_s` is how long its first token was waited for in vain, where another was quicker.
        """
        state = self._known(target)
        if waited_s > state.first_token_s:
            state.sample(waited_s, self.now())
        state.open, state.probed_until = max(0, state.open - 1), 0.0

    def unwell(self, backend: str) -> None:
        """A backend fails its health checks."""
        self._unwell.add(backend)

    def well(self, backend: str) -> bool:
        """A backend passes its health check: a target of it that failed need not wait any longer. True if it is news."""
        news = backend in self._unwell
        self._unwell.discard(backend)
        for (of, _), state in self._states.items():
            if of == backend and state.open_until:
                state.open_until = min(state.open_until, self.now())
        return news

    def live(self) -> dict[str, dict[str, float]]:
        """What `/status` shows of each target that was asked."""
        return {
            state.name: {"open": state.open, "first_token_s": round(state.first_token_s, 3)}
            for state in self._states.values()
        }

    def open_circuits(self) -> dict[str, float]:
        """Targets that are held back because they failed, and for how many more seconds."""
        now = self.now()
        return {one.name: max(0.0, one.open_until - now) for one in self._states.values() if one.open_until}

    def _failed(self, state: TargetState, error: ProxyError) -> None:
        probe, state.probed_until = state.probed_until > 0, 0.0
        state.failures += 1
        if not self.failures or (state.failures < self.failures and not probe):
            return
        if state.open_until and not probe:
            return  # it was tried for want of another target, or began before the circuit opened
        open_s = min(self.open_s * 2.0**state.opened, self.longest_s)
        state.opened = min(state.opened + 1, 32)
        state.open_until = self.now() + open_s
        log.warning("circuit_opened", target=state.name, failures=state.failures, open_s=open_s, error_code=error.code)

    def _asked_for_time(self, state: TargetState, error: ProxyError) -> None:
        """A 429 is no failure. The target is held back for as long as it says, else for longer each time."""
        state.probed_until = 0.0
        wait_s = error.retry_after
        if wait_s is None:
            wait_s = min(self.open_s * 2.0**state.refusals, self.longest_s)
        state.refusals = min(state.refusals + 1, 32)
        state.refused_at = self.now()
        state.wait_until = max(state.wait_until, state.refused_at + wait_s)

    def _known(self, target: Target) -> TargetState:
        """The state of a target. Names from the config are few; those from clients get limited room."""
        key = target.backend, target.model
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = TargetState(name=str(target))
            if target.asked:
                self._named_by_clients[key] = None
                if len(self._named_by_clients) > MOST_NAMED_BY_CLIENTS:
                    self._forget_one()
        return state

    def _forget_one(self) -> None:
        """Forget the oldest that is not being asked. While all are, there are more than the limit."""
        for key in self._named_by_clients:
            if not self._states[key].open and self._states[key].begun:
                del self._states[key], self._named_by_clients[key]
                return
