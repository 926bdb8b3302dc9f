"""What a frontend is: where a contract is served, how its requests are read and how answers are written."""

from collections.abc import Callable, Container, Mapping
from functools import cache, lru_cache
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from proxy.errors import ProxyError
from proxy.events import Batch
from proxy.request import Answer, ChatRequest


class Head(msgspec.Struct):
    """What a frontend may know of a request besides its body. Header names are in lower case.

    `options` is what the matching route says to the contract, such as `dialect`. It is set between `decode` and
    `encoder`, when the route is known.
    """

    id: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    options: Mapping[str, Any] = {}
    models: Container[str] = ()  # that the config names


class Reply(msgspec.Struct, frozen=True):
    """A complete HTTP answer: errors, whole answers, model lists."""

    status: int
    body: bytes
    headers: Mapping[str, str]  # with Content-Type


class Encoder(Protocol):
    """Writes one answer in one contract. Made per request; remembers what part is open. No I/O."""

    headers: Mapping[str, str]  # of the stream, with Content-Type
    early: bool  # send status and headers before the upstream answers (the text dialect of the chat contract)
    abort_on_fault: bool  # after an error frame, cut the connection instead of ending it cleanly

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch; may be empty. After a terminal event it returns the contract's own end.

        Raises a `ProxyError` for an answer that the contract cannot carry; a `Fault` with it comes next.
        """

    def ping(self) -> bytes:
        """A heartbeat that leaves the answer as it is; empty where the contract has none."""

    def whole(self, answer: Answer) -> Reply:
        """The answer for a client that asked for it unstreamed. May raise a `ProxyError`, as `feed` may."""

    def failure(self, error: ProxyError) -> Reply:
        """An error before anything was sent."""


class Offer(msgspec.Struct, frozen=True):
    """What the routes offer to the client, and since when (Unix time).

    `context` is the most tokens of a conversation with a model; 0 where that is not known.
    """

    models: list[str]
    created: int
    context: Callable[[str], int] = lambda _: 0


Detects = Callable[[Head, bytes], int]
"""How surely a request (its head and body) speaks a contract: 0 is not at all. Must be cheap, and never raise."""


class Endpoint(msgspec.Struct, frozen=True):
    """One method and path of a contract.

    `chat` asks a model; `models` and `model` tell what the routes offer; for `answer` the contract itself replies, by
    the function of that name, which may raise a `RequestError`. `resume` and `stop` are for an answer that can be
    resumed (see `Resumes`); where there is none, the same function replies. `{id}` in a path stands for anything,
    slashes included. Where several contracts share a path, the one whose `detects` is surest gets a request; one of
    them may have no `detects`, and gets the requests that no other detects.
    """

    method: str
    path: str
    action: Literal["chat", "models", "model", "answer", "resume", "stop"] = "chat"
    detects: Detects | None = None
    answer: Callable[[bytes, Head, Offer], Reply] | None = None


class Frontend(Protocol):
    """A contract: `name` is what `match: {contract: …}` compares with.

    Before a request is decoded there is no encoder, so errors about its key, size or form come from
    `failure`.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    route_settings: frozenset[str]
    """The keys of a route that are for this contract. They come in `Head.options`."""

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        """Read a body. Raises `BadRequest` (or another `RequestError`) saying what is wrong and where."""

    def encoder(self, request: ChatRequest, head: Head) -> Encoder | Reply:
        """How this request wants its answer, or the answer itself where the contract asks no model for it.

        A route takes the request in any case. Raises `BadRequest` for a choice that does not exist.
        """

    def failure(self, error: ProxyError, head: Head) -> Reply: ...

    def models(self, ids: list[str], created: int) -> Reply:
        """The list of models, for contracts that have one."""

    def model(self, id: str, ids: list[str], created: int) -> Reply:
        """One model; an error reply when it is not in `ids`."""


MOST_DIGITS = 18
"""The longest number of a frame that a client may send: Python refuses to parse one of thousands of digits."""


class Frames(Protocol):
    """The encoded frames of an answer that can be resumed, as far as they have come."""

    closed: bool  # no frame follows

    def read(self, position: int) -> tuple[bytes, int]:
        """Some frames from number `position` on, and the number of the next one."""


@runtime_checkable
class Resumes(Protocol):
    """A contract whose clients ask for an answer again by a name of the contract's own."""

    def stream_name(self, request: ChatRequest) -> str | None:
        """The name: what `{id}` stands for in the path of the `resume` endpoint."""

    def resume(self, frames: Frames, head: Head) -> int | Reply:
        """The number of the first frame to send, or a reply without frames. Raises `BadRequest`."""

    def stopped(self, frames: Frames, head: Head) -> Reply:
        """The answer to a `stop`."""


def accepts(head: Head, media_type: str) -> bool:
    """Whether `Accept` names exactly this type, with a quality above 0."""
    return _accepts(head.headers.get("accept", ""), media_type)


@lru_cache(maxsize=256)  # a few clients send a few headers
def _accepts(accept: str, media_type: str) -> bool:
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        if name == media_type:
            return not any(parameter in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters)
    return False


@cache
def registered() -> Mapping[str, Any]:
    """Entry points of all frontends by name, ours and plug-ins'."""
    return {point.name: point for point in entry_points(group="proxy.frontends")}


def built_in_frontends() -> tuple[Frontend, ...]:
    """The contracts that every config has: ours and plug-ins'."""
    return tuple([point.load() for point in registered().values()])
