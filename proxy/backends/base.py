"""What a backend is: one method that streams, and a registry of kinds that build one.

Lifecycle, as in Caddy: *load* (the kind's settings model checks the config row), *build* (no side
effects), *open* (slow or blocking preparation, such as importing an SDK off the loop), *stream*, *close*.
Built-in kinds register through the same entry-point group `proxy.backends` as anybody's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import msgspec
from pydantic import Field

from proxy.backends.discovery import Lists
from proxy.config.base import Model, setting
from proxy.config.limits import TargetLimits
from proxy.errors import ConfigError, Unsupported
from proxy.events import Batch, Batches
from proxy.request import ChatRequest, Task
from proxy.routing.plan import Target
from proxy.transport import Transport
from proxy.wire.secret_shapes import Secrets


class BackendSettings(Model):
    """The settings of every backend row. A kind's settings model extends it."""

    local: ClassVar[bool] = False
    """Whether it answers inside this process: no key is used, so everybody may ask it."""

    own_model: ClassVar[str] = ""
    """The model used when neither the target nor the request names one; "" if one has to be named."""

    kind: str = Field(description="Which driver answers: one of the registered kinds.")
    optional: bool = setting(False, "Leave the backend off, and say so at start, when a `${VAR}` it needs is not set.")
    limits: TargetLimits | None = setting(
        None, "How much it may be asked for; beyond it, a route's other targets are tried."
    )

    def issuer(self, model: str) -> str:  # noqa: ARG002 - kinds may look at it
        """Who signs or encrypts what only it can read again (`wire.issued.issuer`), or "" if no such state is known."""
        return ""

    def doubts(self) -> Iterator[tuple[str, str]]:
        """What is allowed and probably not intended: the key of the row, and a sentence that says what to write."""
        yield from ()


class Resources(msgspec.Struct, frozen=True):
    """What a process shares with its backends."""

    transport: Transport
    secrets: Secrets = msgspec.field(default_factory=Secrets)  # what clients and the log must not see
    frame_bytes: int = 4 * 1024 * 1024  # server.limits.frame_mb: one event of a stream
    answer_bytes: int = 32 * 1024 * 1024  # server.limits.answer_mb: an answer that comes in one piece
    model_lists: Lists = msgspec.field(default_factory=dict)  # what upstreams listed last


Relay = Callable[[Batch], bool]
"""Sends a batch to the client from within the callback that read it: content, no terminal event. False: not sent, yield it."""


def prefills(backend: "Backend", model: str) -> bool:
    """Whether `model` is known to go on, letter for letter, with an answer at the end of its conversation."""
    vocabulary = getattr(backend, "vocabulary", None)
    return vocabulary is not None and vocabulary(model).prefill not in {"", "none"}


class Backend(Protocol):
    """Answers requests.

    `stream` is an async generator of batches. It yields exactly one terminal event, as the last. Until it has yielded
    content it may also fail by raising a `ProxyError`; either way the pipeline tries the next target. Closing the
    generator, or cancelling the task that awaits it, closes the upstream. Once it has yielded content, it may call
    `relay`, where it is given one, instead of yielding a batch, from the callback that reads the socket: that wakes no
    task. `target.model` is the model to ask for; `request.params` include the route's `set` and `default`.

    A backend that does more than to answer chats says so in an attribute `tasks`, a set of `request.Task`.
    """

    name: str
    dialect: str  # the wire dialect it speaks; "" for none. Same dialect as the request: payloads pass untouched.

    async def open(self) -> None:
        """Prepare, slowly if need be. Raises a `ConfigError` that says what to do when the backend cannot work."""

    def stream(self, request: ChatRequest, target: Target, relay: Relay | None = None) -> Batches: ...

    async def aclose(self) -> None: ...


class WrappedBackend:
    """A backend around another: passes on all but `stream`."""

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


CHATS: frozenset[Task] = frozenset({"chat"})
EVERY_TASK: frozenset[Task] = frozenset({"chat", "completion", "embedding"})

_WANTED: Mapping[Task, str] = {"chat": "chats", "completion": "completions without messages", "embedding": "embeddings"}


def refusal(backend: Backend, task: Task) -> Unsupported | None:
    """Why a backend does not do a task; `None` if it does. One that has no `tasks` answers chats."""
    if task in getattr(backend, "tasks", CHATS):
        return None
    return Unsupported(f"backend {backend.name} gives no {_WANTED[task]}; a route must send them to another backend")


def begin(backend: Backend, request: ChatRequest, target: Target, relay: Relay | None) -> Batches:
    """The backend's answer, which is an error for a task that it does not do."""
    error = refusal(backend, request.task)
    return backend.stream(request, target, relay) if error is None else _refused(error)


async def _refused(error: Unsupported) -> Batches:
    raise error
    yield  # which makes it a generator


class KindNotInstalled(ConfigError):
    """A kind that is registered, but whose packages are not installed. An optional backend of it is off."""


@runtime_checkable
class ListsModels(Protocol):
    """A backend that knows which models its upstream has. Not every backend does."""

    def models(self) -> Sequence[str]:
        """The models that the upstream listed last; empty as long as it has not. Never waits."""


@runtime_checkable
class KnowsContexts(Protocol):
    """A backend whose upstream may say how long a conversation with a model may be."""

    def context(self, model: str) -> int:
        """The most tokens, as the upstream listed it last; 0 as long as it has not. Never waits."""


@runtime_checkable
class ChecksHealth(Protocol):
    """A backend whose upstream can be asked whether it is well."""

    async def problem(self, path: str) -> str:
        """What its server says is wrong, at `path`; empty if it is well. Raises a `ProxyError` if it cannot be asked."""


class BackendKind(Protocol):
    """A kind of backend: its name, its settings, and how to build one from them.

    `packages`, where it has them, names the packages it imports later, and `extra` the extra that installs them.
    """

    kind: str
    settings: type[BackendSettings]

    def build(self, name: str, settings: Any, resources: Resources) -> Backend: ...


class Kind(NamedTuple):
    """A kind whose packages are always there."""

    kind: str
    settings: type[BackendSettings]
    build: Callable[[str, Any, Resources], Any]


@cache
def kinds() -> Mapping[str, Any]:
    """Entry points of all registered kinds by name. Nothing is imported until a config names it."""
    return {point.name: point for point in entry_points(group="proxy.backends")}


def kind(name: str) -> BackendKind:
    """The registered kind `name`. Raises `ConfigError` for an unknown one, `KindNotInstalled` without its packages."""
    if name not in kinds():
        raise ConfigError(f"no backend kind {name!r}; known kinds: {', '.join(sorted(kinds()))}")
    try:
        loaded: BackendKind = kinds()[name].load()
    except ImportError as error:
        raise KindNotInstalled(f"kind {name} does not load: {error}; install what its package needs") from error
    for package in getattr(loaded, "packages", ()):
        if find_spec(package) is None:
            cure = f"pip install 'chat-proxy[{getattr(loaded, 'extra', name)}]'"
            raise KindNotInstalled(f"kind {name} needs the package {package}, which is not installed: {cure}")
    return loaded


def settings_for(name: str) -> type[BackendSettings]:
    """The settings model of a kind, by which `load_config` checks its rows."""
    return kind(name).settings


def own_models(rows: Mapping[str, object]) -> dict[str, str]:
    """The default model of each backend that is on, for the router."""
    return {name: row.own_model for name, row in rows.items() if isinstance(row, BackendSettings)}
