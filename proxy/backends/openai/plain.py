"""What servers of OpenAI's family do beside chats, under the same base URL: completions without messages, embeddings."""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.backends.base import Resources
from proxy.backends.http import HttpBackend, Identity
from proxy.backends.settings import HttpSettings
from proxy.contracts.openai import completions, embeddings
from proxy.contracts.openai.chunks import decode_text_chunk
from proxy.contracts.openai.stream import StreamDecoder
from proxy.contracts.openai.whole import decode_whole
from proxy.errors import UpstreamMalformed
from proxy.events import Batch, Notice
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.wire.omissions import unread_notices

_CHATS = "/chat/completions"


class PlainBackend(HttpBackend):
    """A task beside chats. `path` takes the place of `/chat/completions` in the address."""

    path: str

    def beside(self, chats: Identity) -> None:
        """Use the server and the credentials of `chats`."""
        place, mark, query = chats.url.partition("?")
        url = place.removesuffix(_CHATS) + self.path + mark + query
        self.identify(msgspec.structs.replace(chats, url=url, models_url=""))

    def _omissions(self, request: ChatRequest, fields: Mapping[str, Any], target: Target) -> list[Notice]:  # noqa: ARG002
        return unread_notices(request)  # else it is the client's own body


class CompletionsBackend(PlainBackend):
    """Completions without messages."""

    dialect = completions.DIALECT
    path = "/completions"

    def __init__(self, name: str, settings: HttpSettings, resources: Resources, *, include_usage: bool) -> None:
        super().__init__(name, settings, resources)
        self._include_usage = include_usage

    def _fields(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        return completions.request_fields(request, model=target.model, include_usage=self._include_usage)

    def _decoder(self, request: ChatRequest) -> StreamDecoder:
        return StreamDecoder(
            self._resources.frame_bytes,
            choices=completions.choices_expected(request),
            hide_usage=self._include_usage and not request.wants_usage,
            clean=self._clean,
            dialect=self.dialect,
            decode=decode_text_chunk,
        )

    def _whole(self, request: ChatRequest, body: bytes) -> Batch:
        return decode_whole(
            body,
            keep=not request.stream,
            choices=completions.choices_expected(request),
            clean=self._clean,
            dialect=self.dialect,
            decode=decode_text_chunk,
        )


class EmbeddingsBackend(PlainBackend):
    """Embeddings."""

    dialect = embeddings.DIALECT
    path = "/embeddings"

    def _fields(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        return embeddings.request_fields(request, model=target.model)

    def _decoder(self, request: ChatRequest) -> StreamDecoder:  # noqa: ARG002
        raise UpstreamMalformed(f"backend {self.name} answered with a stream where embeddings were asked for")

    def _whole(self, request: ChatRequest, body: bytes) -> Batch:  # noqa: ARG002
        return embeddings.decode_vectors(body, self._clean)
