"""Make a row's backend, and check the order of a plug-in's events while it runs; tests check that of built-in kinds."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from pydantic import BaseModel

from proxy.backends.base import Backend, Relay, Resources, WrappedBackend, kind, kinds
from proxy.backends.limited import Limited
from proxy.events import Batch, Fault, OrderError, check_order
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.store.rules import Counting


class OrderChecked(WrappedBackend):
    """A backend whose events are checked. One in a wrong place ends the answer in an `OrderError`."""

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        """See `Backend.stream`."""
        previous: type | None = None
        has_content = False

        def checked(batch: Batch) -> bool:
            nonlocal previous
            try:
                last = check_order(batch.events, previous)
            except OrderError:
                return False  # it is yielded then, and refused there
            if relay is None or not relay(batch):
                return False
            previous = last
            return True

        async with aclosing(self._backend.stream(request, target, checked if relay else None)) as stream:
            async for batch in stream:
                try:
                    previous = check_order(batch.events, previous)
                except OrderError as error:
                    error.detail = f"backend {self.name}: {error.message}"
                    if not has_content:
                        raise
                    yield Batch([Fault(error)])
                    return
                has_content = has_content or batch.has_content
                yield batch


def build(row: BaseModel, name: str, resources: Resources, counting: Counting | None = None) -> Backend:
    """The backend of a config row, within its `limits`. One whose kind is not built in is checked while it runs."""
    which = str(getattr(row, "kind", ""))
    backend = kind(which).build(name, row, resources)
    ours = kinds()[which].value.startswith("proxy.")
    backend = backend if ours else OrderChecked(backend)
    limits = getattr(row, "limits", None)
    return Limited(backend, limits, counting) if limits is not None and counting is not None else backend
