"""Backend kind `ollama-native`: a server that is asked at Ollama's own `POST /api/chat`. An example of a plug-in."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec
from pydantic import Field

from proxy.backends.base import BackendSettings, Relay, Resources
from proxy.backends.http import retry_after
from proxy.backends.redact import cleaner
from proxy.backends.settings import Address, Key
from proxy.errors import (
    FrameTooLarge,
    Unsupported,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRedirect,
    UpstreamTruncated,
)
from proxy.events import Batch, Fault, Finish, ReasoningDelta, Start, StreamEvent, TextDelta
from proxy.request import ChatRequest, Usage
from proxy.routing.plan import Target
from proxy.transport import Headers, Request, Response
from proxy.wire.upstream_errors import Detail, parse_error, upstream_error

ERROR_BYTES = 64 * 1024  # of an error's body


class OllamaNativeSettings(BackendSettings):
    """A row of kind `ollama-native`."""

    base_url: Address = Field(default="http://127.0.0.1:11434", description="The server's address.")
    api_key: Key | None = Field(default=None, description="The key, if the server wants one.")


class OllamaNativeBackend:
    """A server that speaks Ollama's API: JSON objects, one a line."""

    dialect = ""  # answers are never passed on byte for byte

    def __init__(self, name: str, settings: OllamaNativeSettings, resources: Resources) -> None:
        self.name = name
        self._resources = resources
        self._url = f"{settings.base_url}/api/chat"
        self._headers = Headers({"content-type": "application/json"})
        if settings.api_key is not None:
            secret = settings.api_key.get_secret_value()
            self._headers["authorization"] = f"Bearer {secret}"
            resources.secrets.learn([secret])  # from now on no message and no log line shows it
        self._clean = cleaner(resources.secrets)

    async def open(self) -> None:
        """See `Backend.open`. There is nothing to prepare."""

    async def aclose(self) -> None:
        """See `Backend.aclose`. The connections belong to the transport."""

    async def stream(
        self, request: ChatRequest, target: Target, relay: Relay | None = None
    ) -> AsyncGenerator[Batch, None]:
        """See `Backend.stream`."""
        has_content = False
        response: Response | None = None
        try:
            response = await self._resources.transport.open(self._outgoing(request, target))
            if response.status != 200:
                raise await self._refusal(response)
            yield Batch([Start(request.id, target.model)])
            async for line in self._lines(response):
                batch = Batch(self._events(line))
                has_content = has_content or batch.has_content
                yield batch
                if batch.terminal:
                    return
            raise UpstreamTruncated(f"backend {self.name} ended its answer without saying that it is complete")
        except UpstreamError as error:
            error.message = self._clean(error.message)
            if not has_content:
                raise  # nothing has been sent yet: the next target is tried
            yield Batch([Fault(error)])
        finally:
            if response is not None:
                response.close()  # a client that left ends the work of the upstream

    def _outgoing(self, request: ChatRequest, target: Target) -> Request:
        if request.tools:
            raise Unsupported(f"backend {self.name} does not call tools", param="tools")
        names = {"temperature": "temperature", "top_p": "top_p", "stop": "stop", "max_tokens": "num_predict"}
        body = {
            "model": target.model,
            "messages": [{"role": message.role, "content": message.text} for message in request.messages],
            "options": {ours: request.params[name] for name, ours in names.items() if name in request.params},
            "stream": True,
        }
        return Request(
            method="POST",
            url=self._url,
            headers=self._headers,  # these and no others: a client's headers never leave
            body=msgspec.json.encode(body),
            connect_s=target.connect_s,
        )

    async def _lines(self, response: Response) -> AsyncIterator[bytes]:
        """The lines of the answer, however its bytes arrive."""
        rest = b""
        while data := await response.read():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > self._resources.frame_bytes:
                raise FrameTooLarge(f"backend {self.name} sent a line that is too long")
        if rest.strip():
            yield rest

    def _events(self, line: bytes) -> list[StreamEvent]:
        """What one line says."""
        try:
            value: dict[str, Any] = msgspec.json.decode(line, type=dict)
            message = msgspec.convert(value.get("message") or {}, dict[str, Any])
            counts = [int(value.get(name) or 0) for name in ("prompt_eval_count", "eval_count")]
        except (ValueError, TypeError) as error:  # msgspec's errors are ValueErrors
            raise UpstreamMalformed(f"backend {self.name} sent a line that is not one of Ollama's") from error
        if value.get("error"):
            raise upstream_error(parse_error(line) or Detail(), clean=self._clean, who=f"backend {self.name}")
        events: list[StreamEvent] = []
        if thought := message.get("thinking"):
            events.append(ReasoningDelta(str(thought)))
        if text := message.get("content"):
            events.append(TextDelta(str(text)))
        if value.get("done") is True:
            events.append(Finish("length" if value.get("done_reason") == "length" else "stop", Usage(*counts)))
        return events

    async def _refusal(self, response: Response) -> UpstreamError:
        """What a status other than 200 means."""
        who = f"backend {self.name}"
        if 300 <= response.status < 400:
            return UpstreamRedirect(f"{who} answered with a redirect, which is never followed")
        body = await response.read_all(ERROR_BYTES)
        return upstream_error(
            parse_error(body) or Detail(),
            clean=self._clean,
            status=response.status,
            retry_after=retry_after(response.headers, time.time()),
            who=who,
        )


class OllamaNativeKind:
    """Registers the kind."""

    kind = "ollama-native"
    settings = OllamaNativeSettings

    def build(self, name: str, settings: OllamaNativeSettings, resources: Resources) -> OllamaNativeBackend:
        """See `BackendKind.build`."""
        return OllamaNativeBackend(name, settings, resources)


KIND = OllamaNativeKind()
