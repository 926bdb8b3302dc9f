"""Which targets are worth trying: a circuit breaker each, after Envoy's outlier detection.

A target that failed several times in a row is left alone for a while that doubles each time, then one request
may probe it. Only failures to answer count: a request that is refused for what it says proves nothing about
the target. Holds no clock but the one passed in.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from proxy.errors import ProxyError, UpstreamError
from proxy.routing.plan import Target

log = structlog.get_logger("proxy.health")


class CircuitBreaker(msgspec.Struct):
    failures: int = 0  # in a row, counted at the end of an attempt
    opened: int = 0  # times in a row that it was opened
    open_until: float = 0.0
    probing: bool = False


class TargetStates:
    """The circuits of all targets. Names come from the config, so there are as many as it names."""

    def __init__(
        self, clock: Callable[[], float], *, failures: int = 5, open_s: float = 1.0, longest_s: float = 30.0
    ) -> None:
        self.configure(failures=failures, open_s=open_s, longest_s=longest_s)
        self._clock = clock
        self._circuits: dict[str, CircuitBreaker] = {}

    def configure(self, *, failures: int, open_s: float, longest_s: float) -> None:
        """After how many failures in a row a circuit opens (0: never), for how long at first, and at most."""
        self.failures, self.open_s, self.longest_s = failures, open_s, longest_s

    def wait_s(self, target: Target) -> float:
        """Zero when `target` may be tried now, else the seconds until it may.

        After its time an open circuit lets one attempt through: the probe.
        """
        circuit = self._circuits.get(target.circuit)
        if circuit is None or not circuit.open_until or not self.failures:
            return 0.0
        left = circuit.open_until - self._clock()
        if left > 0:
            return left
        return self.open_s if circuit.probing else 0.0

    def begin(self, target: Target) -> None:
        """An attempt begins. Exactly one of `end` and `left` follows."""
        circuit = self._circuits.get(target.circuit)
        if circuit is not None and circuit.open_until:
            circuit.probing = True

    def first_token(self, target: Target, seconds: float) -> None:  # noqa: ARG002 - for pickers that measure
        """The answer has begun, `seconds` after its attempt: the target works, however the answer ends."""
        circuit = self._circuits.get(target.circuit)
        if circuit is not None and circuit.open_until:
            circuit.open_until, circuit.probing = 0.0, False
            log.info("circuit_closed", target=target.circuit)

    def end(self, target: Target, error: ProxyError | None) -> None:
        """An attempt is over: with a whole answer, or with an error, which says whether the target is at fault."""
        if error is None:
            self._circuits.pop(target.circuit, None)
        elif isinstance(error, UpstreamError) and error.trips:
            self._failed(target.circuit, error)
        else:
            self.left(target)

    def left(self, target: Target) -> None:
        """An attempt ended without showing anything of the target, as when the client left."""
        circuit = self._circuits.get(target.circuit)
        if circuit is not None:
            circuit.probing = False

    def _failed(self, name: str, error: ProxyError) -> None:
        circuit = self._circuits.setdefault(name, CircuitBreaker())
        circuit.failures += 1
        if not self.failures or (circuit.failures < self.failures and not circuit.probing):
            return
        if circuit.open_until and not circuit.probing:
            return  # an attempt from before the circuit opened
        open_s = min(self.open_s * 2**circuit.opened, self.longest_s)
        circuit.opened += 1
        circuit.probing = False
        circuit.open_until = self._clock() + open_s
        log.warning("circuit_opened", target=name, failures=circuit.failures, open_s=open_s, error_code=error.code)

    def open_circuits(self) -> dict[str, float]:
        """Targets that are not asked now, and for how many more seconds."""
        now = self._clock()
        return {name: max(0.0, one.open_until - now) for name, one in self._circuits.items() if one.open_until}
