"""A backend around another: what all wrappers have in common."""

from typing import Any

from proxy.backends.base import Backend


class WrappedBackend:
    """Passes on all but `stream`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.dialect = backend.name, backend.dialect

    def __getattr__(self, name: str) -> Any:
        """What a backend may have besides, such as `models`."""
        return getattr(self._backend, name)

    async def open(self) -> None:
        """See `Backend.open`."""
        await self._backend.open()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._backend.aclose()
