"""Kind `anthropic`: Anthropic, or any server that speaks its Messages API."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlencode

import msgspec
from pydantic import AfterValidator, model_validator

from proxy.backends import vocabularies
from proxy.backends.base import Kind, Resources
from proxy.backends.http import HttpBackend, Identity
from proxy.backends.settings import BaseURL, HttpSettings, Key, revealed, revealed_query
from proxy.config.base import setting
from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.omissions import omissions
from proxy.contracts.anthropic.stream import StreamDecoder, decode_whole
from proxy.contracts.anthropic.upstream_request import request_fields
from proxy.events import Batch, Notice
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.transport import Request
from proxy.wire.issued import issuer
from proxy.wire.vocabulary import Vocabulary

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")
_KEY_HEADERS = frozenset({"x-api-key", "authorization"})


def _version(text: str) -> str:
    if not _VERSION.fullmatch(text):
        raise ValueError(f"an API version is a date such as {VERSION}")
    return text


def _without_version(url: str) -> str:
    """OpenAI's addresses end in `/v1`, Anthropic's do not; both are accepted."""
    return url.removesuffix("/v1")


class AnthropicSettings(HttpSettings):
    """A row of kind `anthropic`."""

    api_key: Key | None = setting(None, "The API key.")
    auth: Literal["x-api-key", "bearer"] = setting(
        "x-api-key", "How the key is sent: in the header `x-api-key`, or as `Authorization: Bearer`."
    )
    base_url: Annotated[BaseURL, AfterValidator(_without_version)] = setting(
        BASE_URL, "Another server's address, up to what comes before `/v1/messages`."
    )
    version: Annotated[str, AfterValidator(_version)] | None = setting(
        None,
        "The API version (`anthropic-version`). Default: the client's, where it speaks this API itself, "
        f"else `{VERSION}`. From 2026-10-21 on, `temperature`, `top_p` and `top_k` are refused, so they are left out.",
    )
    max_tokens: int = setting(
        16_384, "The longest answer, in tokens, where the request does not say: this API requires a limit.", gt=0
    )

    def issuer(self, model: str) -> str:  # noqa: ARG002 - the same for all its models
        return issuer(self.kind, self.base_url, "anthropic")

    @model_validator(mode="after")
    def _has_a_key(self) -> Self:
        if self.base_url == BASE_URL and self.api_key is None and not _KEY_HEADERS & revealed(self.headers).keys():
            raise ValueError("Anthropic needs a key: api_key: ${ANTHROPIC_API_KEY}")
        return self


class AnthropicBackend(HttpBackend):
    """A server that speaks Anthropic Messages."""

    dialect = DIALECT

    def __init__(self, name: str, settings: AnthropicSettings, resources: Resources) -> None:
        super().__init__(name, settings, resources)
        self._version = settings.version
        self._max_tokens = settings.max_tokens
        self._betas = revealed(settings.headers).get("anthropic-beta", "")
        self.identify(_identity(settings))

    def _forwarded(self, request: ChatRequest) -> Mapping[str, str]:
        """The config's list, and the headers that say how a body of this dialect is read."""
        named = {"anthropic-version": self._version_for(request)}
        betas = [self._betas]
        if request.dialect == DIALECT:
            betas.append(request.headers.get("anthropic-beta", ""))
        if joined := ",".join(beta for beta in betas if beta):
            named["anthropic-beta"] = joined
        return {**super()._forwarded(request), **named}

    def _list_request(self) -> Request | None:
        asked = super()._list_request()
        version = {"anthropic-version": self._version or VERSION}
        return asked and msgspec.structs.replace(asked, more=version)

    def _version_for(self, request: ChatRequest) -> str:
        asked = request.headers.get("anthropic-version", "") if request.dialect == DIALECT else ""
        return self._version or (asked if _VERSION.fullmatch(asked) else VERSION)

    def _fields(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        return request_fields(
            request, model=target.model, version=self._version_for(request), max_tokens=self._max_tokens
        )

    def _omissions(self, request: ChatRequest, fields: Mapping[str, Any], target: Target) -> list[Notice]:
        return omissions(request, fields, model=target.model)

    def _vocabulary(self, model: str) -> Vocabulary:
        return vocabularies.anthropic(model)

    def _decoder(self, request: ChatRequest) -> StreamDecoder:
        return StreamDecoder(self._resources.frame_bytes, keep=request.dialect == DIALECT, clean=self._clean)

    def _whole(self, request: ChatRequest, body: bytes) -> Batch:
        return decode_whole(body, keep=not request.stream, clean=self._clean)


def _identity(settings: AnthropicSettings) -> Identity:
    headers = {"user-agent": f"chat-proxy/{version('chat-proxy')}"}
    parameters = revealed_query(settings.query)
    extra = revealed(settings.headers)
    secrets = [*extra.values(), *parameters.values()]
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        headers |= {"authorization": f"Bearer {key}"} if settings.auth == "bearer" else {"x-api-key": key}
        secrets.append(key)
    headers |= {name: value for name, value in extra.items() if name != "anthropic-beta"}
    query = "?" + urlencode(parameters) if parameters else ""
    models_url = f"{settings.base_url}/v1/models" + (f"{query}&limit=1000" if query else "?limit=1000")
    return Identity(f"{settings.base_url}/v1/messages{query}", headers, tuple(secrets), models_url)


KIND = Kind("anthropic", AnthropicSettings, AnthropicBackend)
