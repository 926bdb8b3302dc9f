"""How much extra work requests may cause: retries, hedges, and attempts that go on with an answer."""

PER_ATTEMPT = 0.2
"""What the first attempt of each request adds. In an outage there are at most 1.2 attempts for each request."""

AT_ONCE = 3.0
"""What is there at first, so that a quiet proxy may do extra work too."""

MOST = 10.0
"""What can be saved up. More would let a backend that slows down be asked twice as often for long."""


class ExtraWork:
    """A bucket for each backend. A draw is spent when the work is decided on, before it waits for anything."""

    def __init__(self) -> None:
        self._left: dict[str, float] = {}

    def first_attempt(self, backend: str) -> None:
        """A request asks this backend first."""
        left = self._left.get(backend, AT_ONCE)
        if left < MOST:
            self._left[backend] = left + PER_ATTEMPT

    def draw(self, backend: str) -> bool:
        """Whether a request that asked this backend first may have an extra attempt, which then counts."""
        if not self.left(backend):
            return False
        self._left[backend] = self._left.get(backend, AT_ONCE) - 1
        return True

    def left(self, backend: str) -> bool:
        """Whether a draw would be allowed now."""
        return self._left.get(backend, AT_ONCE) >= 1
