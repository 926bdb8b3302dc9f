"""The base of all backends that send JSON over HTTP and read a stream of events: one request, its answer, its end.

The bytes go through the process's one upstream transport. A status becomes an error that says whether another target
may help; an answer that is neither an event stream nor JSON goes no further. Dialects differ in `_fields`,
`_omissions`, `_decoder` and `_whole`.
"""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import msgspec

from proxy.backends.base import Relay, Resources
from proxy.backends.discovery import ModelList
from proxy.backends.redact import cleaner
from proxy.backends.settings import HttpSettings
from proxy.backends.streaming import (
    CallsRestored,
    Decoder,
    announcing,
    content_type,
    in_pieces,
    is_json,
    read_json,
    read_stream,
    sniff,
)
from proxy.backends.vocabularies import COMMON
from proxy.errors import (
    ProxyError,
    Unsupported,
    UpstreamConnect,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRedirect,
)
from proxy.events import Batch, Batches, Notice
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.transport import Headers, Request, Response
from proxy.wire.differences import differences
from proxy.wire.hops import HOPS, hops
from proxy.wire.translation import Translation, restored, translated
from proxy.wire.upstream_errors import LONGEST_DELAY_S, Clean, Detail, parse_error, upstream_error
from proxy.wire.vocabulary import Vocabulary

T = TypeVar("T")

ERROR_BYTES = 64 * 1024  # of an error's body; the rest is not read
ERROR_S = 5.0  # how long an error's body may take: the status alone says enough

_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
"""The request ids that are passed on. Some servers answer 400 to others that clients choose (llama-cpp-python)."""

_STEP = re.compile(r"[A-Za-z0-9._-]{1,256}")
"""A model that may stand in an address (A7). Encoded forms of `/`, `\\` and `..` need a `%`, which is not in it."""


class Identity(msgspec.Struct, frozen=True):
    """Where a backend's requests go and with which credentials. Header names are in lower case.

    `{model}` in the address stands for the model.
    """

    url: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    models_url: str = ""  # where the upstream lists its models; "": nowhere

    def __repr__(self) -> str:
        return f"Identity({self.url.partition('?')[0]})"  # the rest is secret

    def address(self, model: str) -> str:
        """The address for `model`. Raises `Unsupported` for a model that is not one step of a path, as it stands or decoded."""
        if "{model}" not in self.url:
            return self.url
        if not _STEP.fullmatch(model) or not model.strip("."):
            raise Unsupported(
                "this target's models are named by letters, digits, `.`, `-` and `_` alone", param="model"
            )
        return self.url.replace("{model}", model)


MOST_MODELS = 256
"""Of how many models a backend remembers what is known of them: clients may name any."""


class PerModel(dict[str, T]):
    """What is known of each model. It is found once, because every request asks several times."""

    def __init__(self, find: Callable[[str], T]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, model: str) -> T:
        if len(self) >= MOST_MODELS:
            self.clear()
        found = self[model] = self._find(model)
        return found


class HttpBackend(ABC):
    """An upstream that answers a POST in a stream of events, or whole."""

    dialect: ClassVar[str]

    def __init__(self, name: str, settings: HttpSettings, resources: Resources) -> None:
        self._settings = settings
        self._vocabularies = PerModel(self._found_vocabulary)
        self.name = name
        self._list = ModelList(
            name, resources.transport, self._list_request, every_s=settings.discover_every_s, kept=resources.model_lists
        )
        self._resources = resources
        self._forward = frozenset(name.lower() for name in settings.forward_headers)
        self.identify(Identity("", {}))

    def identify(self, identity: Identity) -> None:
        """Set where requests go and with which credentials. Part of opening."""
        self._identity = identity
        common = {"content-type": "application/json", "accept-encoding": "identity"}
        self._streamed = Headers({**common, "accept": "text/event-stream", **identity.headers})
        self._unstreamed = Headers({**common, "accept": "application/json", **identity.headers})
        parts = urlsplit(identity.url)
        self._resources.secrets.learn(identity.secrets)
        self._clean = cleaner(self._resources.secrets, hidden=[parts.netloc] if parts.netloc else [])
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    async def open(self) -> None:  # noqa: B027 - most have nothing to prepare
        """See `Backend.open`."""

    async def aclose(self) -> None:
        """See `Backend.aclose`. The connections are the transport's."""
        await self._list.aclose()

    def models(self) -> Sequence[str]:
        """The models that the upstream listed last, at once; a list that is old is asked for again in the background."""
        return [model.id for model in self._list.models()]

    def context(self, model: str) -> int:
        """See `KnowsContexts.context`. Asks for no list."""
        return next((one.context for one in self._list.last if one.id == model), 0)

    def _list_request(self) -> Request | None:
        url = self._identity.models_url
        return Request(method="GET", url=url, headers=self._unstreamed) if url else None

    async def problem(self, path: str) -> str:
        """See `ChecksHealth`."""
        request = Request(method="GET", url=self._origin + path, headers=self._unstreamed)
        response = await self._resources.transport.open(request)
        try:
            if 200 <= response.status < 300:
                await response.read_all(ERROR_BYTES)  # so that the connection can be used again
                return ""
            return f"status {response.status}"
        finally:
            response.close()

    async def stream(self, request: ChatRequest, target: Target, relay: Relay | None = None) -> Batches:
        """See `Backend.stream`."""
        translation = self._translated(request, target)
        request, names, used = translation.request, translation.names, translation.used
        try:
            fields = self._fields(request, target)
            response = await self._resources.transport.open(self._outgoing(request, target, fields))
        except UpstreamError as error:
            raise self._reported(error) from error.__cause__
        notices = [*translation.notices, *self._omissions(request, fields, target)]
        del translation, fields  # the stream may last for an hour
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(response)
            try:
                is_stream, first = await self._sniff(response)
                if not is_stream:
                    first = await read_json(response, first, self._resources.answer_bytes)
            except UpstreamError as error:
                raise self._reported(error) from error.__cause__
            if not is_stream and not in_pieces(first) and _is_whole(response, first):
                yield announcing(notices, restored(self._whole(request, first), names, {*used}))
                return
            decoder = self._decoder(request)
            if names or used:
                decoder = CallsRestored(decoder, names, used)
            del request  # it may be large, and has been sent
            response.headers = {}  # have been read
            batches = read_stream(response, first, decoder, notices=notices, relay=relay, reported=self._reported)
            async with aclosing(batches):
                async for batch in batches:
                    yield batch
        finally:
            response.close()

    def written(self, request: ChatRequest, target: Target) -> tuple[dict[str, Any], list[Notice]]:
        """The body for `target` and what it leaves out, without sending. Raises `Unsupported` as `stream` does."""
        translation = self._translated(request, target)
        fields = self._fields(translation.request, target)
        return fields, [*translation.notices, *self._omissions(translation.request, fields, target)]

    def differences(self, request: ChatRequest, target: Target) -> list[str]:
        """How the request is said to `target` in other words than the client's, for people."""
        return [*differences(request, self._translated(request, target), self.vocabulary(target.model))]

    def _translated(self, request: ChatRequest, target: Target) -> Translation:
        """The request in the target's vocabulary. One of this dialect stays the client's."""
        if request.dialect == self.dialect:
            return Translation(request)
        return translated(request, self._vocabularies[target.model])

    def vocabulary(self, model: str) -> Vocabulary:
        """What `model` takes in a request: what is known of it, and what the row says of it."""
        return self._vocabularies[model]

    def _found_vocabulary(self, model: str) -> Vocabulary:
        known, quirks = self._vocabulary(model), self._settings.quirks
        return known if quirks is None else quirks.over(known)

    def _vocabulary(self, model: str) -> Vocabulary:  # noqa: ARG002 - kinds may look at it
        """What is known of `model`."""
        return COMMON

    def _reported(self, error: UpstreamError) -> UpstreamError:
        return reported(error, who=f"backend {self.name}", origin=self._origin, clean=self._clean)

    def _forwarded(self, request: ChatRequest) -> Mapping[str, str]:
        """The client's headers that are passed on."""
        if not self._forward:
            return {}
        return {name: request.headers[name] for name in self._forward if name in request.headers}

    @abstractmethod
    def _fields(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        """The body in this dialect. Raises `Unsupported` for what it cannot say."""

    @abstractmethod
    def _omissions(self, request: ChatRequest, fields: Mapping[str, Any], target: Target) -> list[Notice]:
        """Notices for what is not in that body and the client may miss."""

    @abstractmethod
    def _decoder(self, request: ChatRequest) -> Decoder:
        """The decoder of a streamed answer to `request`."""

    @abstractmethod
    def _whole(self, request: ChatRequest, body: bytes) -> Batch:
        """All events of an answer that came in one piece. Raises an `UpstreamError` for anything else."""

    def _outgoing(self, request: ChatRequest, target: Target, fields: Mapping[str, Any]) -> Request:
        """The request to send. It has no headers but these, so a client's key or cookie is never sent on (H05)."""
        more = {"x-request-id": request.id} if _UUID.fullmatch(request.id) else {}
        if forwarded := self._forwarded(request):
            more |= {name: value for name, value in forwarded.items() if name not in self._streamed}
        if passed := hops(request.headers):
            more[HOPS] = str(passed + 1)
        if request.trace:
            more |= request.trace
        return Request(
            method="POST",
            url=self._identity.address(target.model),
            headers=self._streamed if request.stream else self._unstreamed,
            more=more,
            body=msgspec.json.encode(fields),
            connect_s=target.connect_s,
            tick_s=target.tick_s if request.stream else 0,
            connected=request.connected,
        )

    async def _sniff(self, response: Response) -> tuple[bool, bytes]:
        """As `sniff`. What is neither an event stream nor JSON, such as a login page, is never passed on (A07)."""
        is_stream, first = await sniff(response)
        if is_stream is None:
            kind = self._clean(content_type(response)) or "something"
            raise UpstreamMalformed(
                f"backend {self.name} answered with {kind} that is neither an event stream nor JSON; check its base_url"
            )
        return is_stream, first

    async def _refusal(self, response: Response) -> UpstreamError:
        """The error for a status other than 2xx."""
        status = response.status
        who = f"backend {self.name}"
        if not 400 <= status <= 599:
            if 300 <= status < 400:
                return UpstreamRedirect(f"{who} answered with a redirect ({status}), which is never followed")
            return UpstreamMalformed(f"{who} answered with status {status}")
        detail = parse_error(await error_body(response))
        if detail is None and status == 404:  # the mistake is in the config, not in the request
            return UpstreamFailed(f"{who} has nothing at its address (404); check its base_url", status=502)
        wait = retry_after(response.headers, time())
        return upstream_error(detail or Detail(), clean=self._clean, status=status, retry_after=wait, who=who)


def _is_whole(response: Response, body: bytes) -> bool:
    """Whether a body that begins as JSON is an answer in one piece: one that is called a stream may be any part of one."""
    return content_type(response) != "text/event-stream" or is_json(body)


def reported(error: UpstreamError, *, who: str, origin: str, clean: Clean) -> UpstreamError:
    """The transport's error in words for clients: `who` stands for the address (I01). `detail` keeps the log's words."""
    error.detail = error.message
    error.message = (
        f"{who} cannot be reached; the proxy's log says why"
        if isinstance(error, UpstreamConnect)  # it may name name servers and forward proxies too
        else clean(error.message.replace(origin, who) if origin else error.message)
    )
    return error


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """When to try again, in seconds: from `retry-after-ms`, or `retry-after` as seconds or as a date; capped.

    A date counts from the upstream's own clock where it tells it.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError, TypeError):
            seconds = float(headers[name]) * unit
            return min(seconds, LONGEST_DELAY_S) if seconds >= 0 else None
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        at = parsedate_to_datetime(headers["retry-after"]).timestamp()
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            now = parsedate_to_datetime(headers["date"]).timestamp()
        return min(max(0.0, at - now), LONGEST_DELAY_S)
    return None


async def error_body(response: Response) -> bytes:
    """The body of an error, as far as it comes in time: the status alone says enough."""
    try:
        async with asyncio.timeout(ERROR_S):
            return await response.read_all(ERROR_BYTES)
    except (TimeoutError, ProxyError):
        return b""
