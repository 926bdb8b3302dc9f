"""Which targets are tried first: what is known of each from the attempts of all requests.

A target is a backend and a model there. One that failed several times in a row, or that asked for time with a 429, is
*held back*: others of the route are tried before it. It is never out of reach: when no other answers it is tried all
the same, as Envoy does in its panic mode, so no client and no single bad minute can shut out the others (A2).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from proxy.errors import ProxyError, UpstreamError
from proxy.routing.plan import Target

PROBE_S = 2.0
"""How long one probe keeps others from probing. It may be a request that takes minutes, or one that never answers."""

MOST_NAMED_BY_CLIENTS = 256
"""How many models that only clients name are remembered. Beyond that the oldest is forgotten."""

Key = tuple[str, str]

log = structlog.get_logger("proxy.pipeline")


class CircuitBreaker(msgspec.Struct):
    """What is known of a target that failed lately. Times are those of the clock of `TargetStates`."""

    name: str
    failures: int = 0  # in a row, counted at the end of an attempt
    opened: int = 0  # times in a row that it was opened
    open_until: float = 0.0  # 0: closed
    probed_until: float = 0.0  # one request tries an open circuit until then
    refusals: int = 0  # 429 in a row
    wait_until: float = 0.0  # the time that the target asked for with a 429


class TargetStates:
    """The state of every target, over all configs. Only targets that failed lately take room."""

    def __init__(
        self, clock: Callable[[], float], *, failures: int = 5, open_s: float = 1.0, longest_s: float = 30.0
    ) -> None:
        self.configure(failures=failures, open_s=open_s, longest_s=longest_s)
        self._clock = clock
        self._states: dict[Key, CircuitBreaker] = {}
        self._named_by_clients: dict[Key, None] = {}  # the oldest first

    def configure(self, *, failures: int, open_s: float, longest_s: float) -> None:
        """After how many failures in a row a circuit opens (0: never), for how long at first, and at most."""
        self.failures, self.open_s, self.longest_s = failures, open_s, longest_s

    def held_back(self, target: Target) -> str:
        """Why other targets are tried before this one: `circuit_open` or `rate_limit_wait`; else empty.

        When its time is over, an open circuit lets one request through: the probe.
        """
        if not self._states:
            return ""
        state = self._states.get((target.backend, target.model))
        if state is None:
            return ""
        now = self._clock()
        if state.wait_until > now:
            return "rate_limit_wait"
        if self.failures and state.open_until and max(state.open_until, state.probed_until) > now:
            return "circuit_open"
        return ""

    def begin(self, target: Target) -> None:
        """An attempt begins. Exactly one of `end` and `left` follows."""
        state = self._states.get((target.backend, target.model)) if self._states else None
        if state is not None and state.open_until:
            now = self._clock()
            if state.open_until <= now and state.probed_until <= now:
                state.probed_until = now + PROBE_S

    def first_token(self, target: Target, seconds: float) -> None:  # noqa: ARG002 - for pickers that measure
        """The answer has begun, `seconds` after its attempt: the target works, however the answer ends."""
        state = self._states.get((target.backend, target.model)) if self._states else None
        if state is None:
            return
        state.refusals, state.wait_until = 0, 0.0
        if state.open_until:
            state.open_until = state.probed_until = 0.0
            log.info("circuit_closed", target=state.name)

    def end(self, target: Target, error: ProxyError | None) -> None:
        """An attempt is over: with a whole answer, or with an error, which says whether the target is at fault."""
        if error is None:
            if self._states:
                self._forget((target.backend, target.model))
        elif not isinstance(error, UpstreamError):
            self.left(target)
        elif error.status == 429:
            self._asked_for_time(self._known(target), error)
        elif error.trips:
            self._failed(self._known(target), error)
        else:
            self.left(target)

    def left(self, target: Target) -> None:
        """An attempt ended without showing anything of the target, as when the client left."""
        state = self._states.get((target.backend, target.model)) if self._states else None
        if state is not None:
            state.probed_until = 0.0

    def open_circuits(self) -> dict[str, float]:
        """Targets that are held back because they failed, and for how many more seconds."""
        now = self._clock()
        return {one.name: max(0.0, one.open_until - now) for one in self._states.values() if one.open_until}

    def _failed(self, state: CircuitBreaker, error: ProxyError) -> None:
        probe, state.probed_until = state.probed_until > 0, 0.0
        state.failures += 1
        if not self.failures or (state.failures < self.failures and not probe):
            return
        if state.open_until and not probe:
            return  # it was tried for want of another target, or began before the circuit opened
        open_s = min(self.open_s * 2.0**state.opened, self.longest_s)
        state.opened = min(state.opened + 1, 32)
        state.open_until = self._clock() + open_s
        log.warning("circuit_opened", target=state.name, failures=state.failures, open_s=open_s, error_code=error.code)

    def _asked_for_time(self, state: CircuitBreaker, error: ProxyError) -> None:
        """A 429 is no failure. The target is held back for as long as it says, else for longer each time."""
        state.probed_until = 0.0
        wait_s = error.retry_after
        if wait_s is None:
            wait_s = min(self.open_s * 2.0**state.refusals, self.longest_s)
        state.refusals = min(state.refusals + 1, 32)
        state.wait_until = max(state.wait_until, self._clock() + wait_s)

    def _known(self, target: Target) -> CircuitBreaker:
        """The state of a target that failed. Names from the config are few; those from clients get limited room."""
        key = target.backend, target.model
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = CircuitBreaker(str(target))
            if target.asked:
                self._named_by_clients[key] = None
                if len(self._named_by_clients) > MOST_NAMED_BY_CLIENTS:
                    self._forget(next(iter(self._named_by_clients)))
        return state

    def _forget(self, key: Key) -> None:
        self._states.pop(key, None)
        self._named_by_clients.pop(key, None)
