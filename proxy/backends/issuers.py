"""State that belongs to whoever made it (`wire.issued`): which routes tag it, and a backend whose answers have tags.

A route whose targets make such state in more than one place tags it. All routes take tags back: a conversation may come
from another route, or from before a reload.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing

from proxy.backends.base import Backend, BackendSettings, Relay, WrappedBackend
from proxy.backends.streaming import announcing
from proxy.config.rules import RouteSettings
from proxy.events import Batch, Batches, Notice
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.wire.issued import holds_tags, own_state, tag_answer
from proxy.wire.vocabulary import GEMINI_SEAL

FOREIGN_STATE = Notice(
    "ignored_state",
    "signed or encrypted reasoning of earlier answers was left out: another target made it, and only that one reads it",
    "messages",
)


class Issuers:
    """Who makes state in one config."""

    def __init__(self, rows: Mapping[str, object] | None = None, routes: Iterable[RouteSettings] = ()) -> None:
        """`rows` are the backends that are on."""
        self._rows = {name: row for name, row in (rows or {}).items() if isinstance(row, BackendSettings)}
        self._several = frozenset(route.name for route in routes if len(self._of(route)) > 1)

    def several(self, route: str) -> bool:
        """Whether the targets of a route make state in more than one place."""
        return route in self._several

    def sorting(self, backend: Backend, route: str, request: ChatRequest, target: Target) -> Backend:
        """The backend itself, unless state has to be tagged, or has tags."""
        tags = route in self._several
        if not tags and not holds_tags(request):
            return backend
        return IssuedBackend(backend, self._issuer(target), tags=tags)

    def foreign_state(self, request: ChatRequest, target: Target) -> Sequence[Notice]:
        """What `target` is not sent of a conversation."""
        return [FOREIGN_STATE] if own_state(request, self._issuer(target))[1] else []

    def _issuer(self, target: Target) -> str:
        row = self._rows.get(target.backend)
        return row.issuer(target.model) if row else ""

    def _of(self, route: RouteSettings) -> set[str]:
        """All that may make state for a route, with each model that its targets may be asked for."""
        found = set()
        for target in route.to:
            if (row := self._rows.get(target.backend)) is not None:
                models = [target.model] if target.model else [row.own_model, *getattr(row, "models", ())]
                found |= {row.issuer(model) for model in models}
        return found - {""}


class IssuedBackend(WrappedBackend):
    """A backend that is sent its own state alone. With `tags`, the state in its answers is tagged."""

    def __init__(self, backend: Backend, issuer: str, *, tags: bool) -> None:
        super().__init__(backend)
        self._issuer, self._tags = issuer, tags and bool(issuer)

    async def stream(self, request: ChatRequest, target: Target, relay: Relay | None = None) -> Batches:
        """See `Backend.stream`."""
        vocabulary = getattr(self._backend, "vocabulary", None)
        unsigned = vocabulary(target.model).unsigned.removeprefix(GEMINI_SEAL) if vocabulary else ""
        request, lost = own_state(request, self._issuer, unsigned=unsigned)
        notices = [FOREIGN_STATE] if lost else []
        tag = self._tagged
        tagging = relay if relay is None or not self._tags else lambda batch: relay(tag(batch))
        batches = self._backend.stream(request, target, tagging)
        del request  # it may be large, and has been sent
        async with aclosing(batches):
            async for batch in batches:
                if notices and batch.events:
                    batch, notices = announcing(notices, batch), []
                yield tag(batch)

    def _tagged(self, batch: Batch) -> Batch:
        return tag_answer(batch, self._issuer) if self._tags else batch
