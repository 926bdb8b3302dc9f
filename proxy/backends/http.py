"""What all backends that speak a streaming wire dialect over HTTP share: one request, its answer, its end.

The bytes go through the process's one upstream transport. Here a status becomes an error that says whether
another target may help, and what is neither an event stream nor a whole answer goes no further. What differs
between dialects is how a request is written and an answer is read: `_body`, `_decoder` and `_whole`.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, ClassVar, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from proxy.backends.base import Relay, Resources
from proxy.backends.redact import cleaner
from proxy.errors import ProxyError, UpstreamConnect, UpstreamError, UpstreamFailed, UpstreamMalformed, UpstreamRedirect
from proxy.events import Batch, Fault, Notice, Start
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.transport import Headers, Request, Response
from proxy.wire.upstream_errors import Detail, parse_error, upstream_error

ERROR_BYTES = 64 * 1024  # of an error's body; the rest is not read
ERROR_S = 5.0  # how long an error's body may take: the status alone says enough
FINISHED_S = 2.0  # after every finish reason: how long usage and the end sentinel may take
LAST_BYTES_S = 0.05  # after the end sentinel: how long the end of the body may take
RETRY_AFTER_CAP_S = 600.0

_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)
"""The ids that are passed on. A client may choose others, to which some servers answer 400 (llama-cpp-python)."""

NOTHING = Batch([])

_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


class Identity(msgspec.Struct, frozen=True):
    """Where a backend's requests go and as whom. Header names are in lower case.

    `{model}` in the address stands for the model, percent-encoded.
    """

    url: str
    headers: Mapping[str, str]
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Identity({self.url.partition('?')[0]})"  # the rest is secret

    def address(self, model: str) -> str:
        if "{model}" not in self.url:
            return self.url
        return self.url.replace("{model}", quote(model, safe=""))


class Decoder(Protocol):
    """Reads one streamed answer: bytes in, batches out, however they fall. Errors come as `Fault`, never raised.

    `finished`: the upstream said that the answer is complete, so no trouble from here on is one; usage and an end
    sentinel may still come. `done`: the terminal event was given.
    """

    done: bool
    finished: bool

    def feed(self, chunk: bytes) -> Batch:
        """What one read brought. The batch may be empty."""

    def finish(self) -> Batch:
        """The upstream has ended its body."""

    def fail(self, error: UpstreamError) -> Batch:
        """Nothing more will come, because of `error`."""


class HttpBackend(ABC):
    """An upstream that is asked by a POST and answers in a stream of events, or whole."""

    dialect: ClassVar[str]

    def __init__(self, name: str, resources: Resources, *, forward_headers: Collection[str] = ()) -> None:
        self.name = name
        self._resources = resources
        self._forward = frozenset(name.lower() for name in forward_headers)
        self.identify(Identity("", {}))

    def identify(self, identity: Identity) -> None:
        """Say where to go and as whom. Part of opening."""
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

    async def aclose(self) -> None:  # noqa: B027
        """See `Backend.aclose`. The connections are the transport's."""

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        """See `Backend.stream`."""
        try:
            fields = self._fields(request, target)
            response = await self._resources.transport.open(self._outgoing(request, target, fields))
        except UpstreamError as error:
            raise self._told(error) from error.__cause__
        notices = self._omissions(request, fields, target)
        del fields  # the stream may last for an hour
        complete = False
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(response)
            is_stream, first = await self._sniff(response)
            if not is_stream:
                try:
                    body = first + await response.read_all(self._resources.answer_bytes)
                except UpstreamError as error:
                    raise self._told(error) from error.__cause__
                yield announcing(notices, self._whole(request, body))
                return
            decoder = self._decoder(request)
            del request  # it may be large, and was sent
            response.headers = {}  # were read
            feed, read = decoder.feed, response.read
            pushed = _Pushed(decoder, relay) if relay is not None else None
            batch = feed(first) if first else NOTHING
            spoken = False
            while True:
                if not spoken and batch.events:
                    if notices:
                        batch, notices = announcing(notices, batch), []
                    if batch.has_content:
                        spoken = True
                        response.pace(on=True)  # from the first token on
                if decoder.done:
                    end = batch.terminal
                    if isinstance(end, Fault) and not spoken:
                        raise end.error  # nothing was said yet: another target may still be tried
                    complete = not isinstance(end, Fault)
                    response.pace(on=False)
                    yield batch
                    return
                if batch.events or batch.payloads:
                    yield batch
                if decoder.finished:
                    batch = await _next(response, decoder)
                    continue
                try:
                    if spoken and pushed is not None:
                        await response.push(pushed)
                        batch, pushed.left = pushed.left, NOTHING
                        if batch is not NOTHING:
                            continue
                    data = await read()
                except UpstreamError as error:
                    batch = decoder.fail(self._told(error))
                else:
                    batch = feed(data) if data else decoder.finish()
        finally:
            if complete and not response.at_end:
                await _read_last_bytes(response)
            response.close()

    def omissions(self, request: ChatRequest, target: Target) -> list[Notice]:
        """What of a request `target` is not sent, known without sending it. Raises `Unsupported` as `stream` does."""
        return self._omissions(request, self._fields(request, target), target)

    def _told(self, error: UpstreamError) -> UpstreamError:
        """The transport's error as clients may read it: with the backend's name for its address (I01)."""
        who = f"backend {self.name}"
        error.detail = error.message
        error.message = (
            f"{who} cannot be reached; the proxy's log says why"
            if isinstance(error, UpstreamConnect)  # it may tell of name servers and forward proxies too
            else self._clean(error.message.replace(self._origin, who))
        )
        return error

    def _forwarded(self, request: ChatRequest) -> Mapping[str, str]:
        """The client's headers that go on."""
        return (
            {name: request.headers[name] for name in self._forward if name in request.headers} if self._forward else {}
        )

    @abstractmethod
    def _fields(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        """The body as this dialect writes it. Raises `Unsupported` for what it has no words for."""

    @abstractmethod
    def _omissions(self, request: ChatRequest, fields: Mapping[str, Any], target: Target) -> list[Notice]:
        """What of the request is not in that body, where its client may miss it."""

    @abstractmethod
    def _decoder(self, request: ChatRequest) -> Decoder:
        """What reads the streamed answer to `request`."""

    @abstractmethod
    def _whole(self, request: ChatRequest, body: bytes) -> Batch:
        """All events of an answer that came in one piece. Raises an `UpstreamError` for what is none."""

    def _outgoing(self, request: ChatRequest, target: Target, fields: Mapping[str, Any]) -> Request:
        """The request to send. Its headers are these and no others: a client's key or cookie never leaves (H05)."""
        more = {"x-request-id": request.id} if _UUID.fullmatch(request.id) else {}
        if forwarded := self._forwarded(request):
            more |= {name: value for name, value in forwarded.items() if name not in self._streamed}
        return Request(
            method="POST",
            url=self._identity.address(target.model),
            headers=self._streamed if request.stream else self._unstreamed,
            more=more,
            body=msgspec.json.encode(fields),
            connect_s=target.connect_s,
            tick_s=target.tick_s if request.stream else 0,
        )

    async def _sniff(self, response: Response) -> tuple[bool, bytes]:
        """Whether the answer is an event stream (else JSON), and what had to be read to tell.

        Not everybody sets the content type. What is neither, such as a login page, is never passed on (A07).
        """
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return True, b""
        if kind == "application/json":
            return False, b""
        first = await response.read()
        start = first.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start[:1] == b"{":
            return False, first
        if start and any(start.startswith(field) or field.startswith(start) for field in _SSE_STARTS):
            return True, first
        raise UpstreamMalformed(
            f"backend {self.name} answered with {self._clean(kind) or 'something'} that is neither an event stream "
            "nor JSON; check its base_url"
        )

    async def _refusal(self, response: Response) -> UpstreamError:
        """What a status other than 2xx means."""
        status = response.status
        who = f"backend {self.name}"
        if not 400 <= status <= 599:
            if 300 <= status < 400:
                return UpstreamRedirect(f"{who} answered with a redirect ({status}), which is never followed")
            return UpstreamMalformed(f"{who} answered with status {status}")
        detail = parse_error(await _error_body(response))
        if detail is None and status == 404:  # a mistake in our config, not in the request
            return UpstreamFailed(f"{who} has nothing at its address (404); check its base_url", status=502)
        wait = retry_after(response.headers, time())
        return upstream_error(detail or Detail(), clean=self._clean, status=status, retry_after=wait, who=who)


def announcing(notices: Sequence[Notice], batch: Batch) -> Batch:
    """The first batch of an answer, with what its reader should know right behind its beginning."""
    if notices and batch.events and type(batch.events[0]) is Start:
        batch.events[1:1] = notices
    return batch


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """When to try again, in seconds: from `retry-after-ms`, or `retry-after` as seconds or as a date; capped.

    A date counts from the upstream's own clock where it tells it.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError, TypeError):
            seconds = float(headers[name]) * unit
            return min(seconds, RETRY_AFTER_CAP_S) if seconds >= 0 else None
    with suppress(KeyError, ValueError, TypeError, OverflowError):
        at = parsedate_to_datetime(headers["retry-after"]).timestamp()
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            now = parsedate_to_datetime(headers["date"]).timestamp()
        return min(max(0.0, at - now), RETRY_AFTER_CAP_S)
    return None


class _Pushed:
    """What body bytes are given to as they come: decodes and relays them, and keeps what is not to be relayed."""

    __slots__ = ("_decoder", "_feed", "_relay", "left")

    def __init__(self, decoder: Decoder, relay: Relay) -> None:
        self._decoder = decoder
        self._feed: Callable[[bytes], Batch] = decoder.feed
        self._relay = relay
        self.left = NOTHING

    def __call__(self, data: bytes) -> bool:
        batch = self._feed(data)
        if not self._decoder.finished and (not (batch.events or batch.payloads) or self._relay(batch)):
            return True
        self.left = batch
        return False


async def _next(response: Response, decoder: Decoder) -> Batch:
    """What the next read brings once the answer is complete: trouble is none any more, nor is silence (R3)."""
    try:
        async with asyncio.timeout(FINISHED_S):
            data = await response.read()
    except TimeoutError:
        data = b""
    except UpstreamError as error:
        return decoder.fail(error)
    return decoder.feed(data) if data else decoder.finish()


async def _error_body(response: Response) -> bytes:
    try:
        async with asyncio.timeout(ERROR_S):
            return await response.read_all(ERROR_BYTES)
    except (TimeoutError, ProxyError):
        return b""


async def _read_last_bytes(response: Response) -> None:
    """Meet the end of a body whose end sentinel has come, so that its connection can be used again."""
    with suppress(TimeoutError, ProxyError):
        async with asyncio.timeout(LAST_BYTES_S):
            await response.read()
