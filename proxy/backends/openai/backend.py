"""Kind `openai`: OpenAI and Azure OpenAI.

The official SDK decides where requests go and which headers they have: a client of it is made once, read, and closed.
The bytes go through our own transport, because the SDK's costs milliseconds of CPU per request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from pydantic import Field, SecretStr, model_validator

from proxy.backends import vocabularies
from proxy.backends.base import Kind
from proxy.backends.http import Identity
from proxy.backends.openai.wire import OpenAIChatBackend
from proxy.backends.redact import cleaner
from proxy.backends.settings import (
    Address,
    BaseURL,
    HeaderText,
    Key,
    OpenAIChatSettings,
    missing_version,
    revealed,
    revealed_query,
)
from proxy.config.base import Model, setting
from proxy.errors import ConfigError
from proxy.request import ChatRequest
from proxy.wire.secret_shapes import Secrets
from proxy.wire.vocabulary import Vocabulary

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_CREDENTIALS = frozenset({"authorization", "api-key"})
_OLDER = ("gpt-3", "gpt-4")
_OURS = _CREDENTIALS | {"accept", "content-type", "user-agent"}


class AzureSettings(Model):
    """Where an Azure OpenAI resource is."""

    endpoint: Address = Field(description="The resource's address, such as `https://example.openai.azure.com`.")
    api_version: str = Field(min_length=1, description="The API version, such as `2024-10-21`.")
    deployment: str | None = setting(
        None,
        "The deployment that answers. Default: the one named like the target's model.",
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
    )
    ad_token: Key | None = setting(None, "A Microsoft Entra ID token, in place of `api_key`. It is not renewed.")


class OpenAISettings(OpenAIChatSettings):
    """A row of kind `openai`."""

    api_key: Key | None = setting(None, "The API key. Default: the SDK's own, the variable OPENAI_API_KEY.")
    base_url: BaseURL | None = setting(
        None,
        "Another address than OpenAI's, up to and with `/v1`. Default: the SDK's own, "
        "OPENAI_BASE_URL or `https://api.openai.com/v1`.",
    )
    organization: HeaderText | None = setting(None, "Whose usage it is, for keys of several organizations.")
    project: HeaderText | None = setting(None, "The project it is booked under.")
    azure: AzureSettings | None = setting(None, "Use Azure OpenAI: where the resource is.")

    def doubts(self) -> Iterator[tuple[str, str]]:
        if self.base_url:
            yield from missing_version(self.base_url)

    @model_validator(mode="after")
    def _one_place(self) -> OpenAISettings:
        if self.azure is not None and self.base_url is not None:
            raise ValueError("give either `base_url` or `azure`, not both")
        if self.azure is not None and (self.api_key is None) == (self.azure.ad_token is None):
            raise ValueError("Azure OpenAI takes either `api_key` or `azure.ad_token`: give one of them")
        return self


_CACHED = frozenset({"prompt_cache_key"})


class OpenAIBackend(OpenAIChatBackend):
    """OpenAI, or Azure OpenAI, at the address that the SDK uses."""

    _settings: OpenAISettings

    async def open(self) -> None:
        """Import the SDK, which takes a second, in a thread. Raises `ConfigError` if there is no key."""
        client = await asyncio.to_thread(_client, self.name, self._settings)
        try:
            identity = _identity(client, self._settings)
        finally:
            await client.close()
        if not _CREDENTIALS & identity.headers.keys():
            raise _no_key(self.name)
        self.identify(identity)

    def _name_of_max_tokens(self, request: ChatRequest, model: str) -> str | None:
        """Models that think refuse `max_tokens`. All of OpenAI's models take the other name; older ones elsewhere may not."""
        if self._max_tokens_name is None and request.dialect != self.dialect:
            azure = self._settings.azure
            newer = azure is not None and not (azure.deployment or model).startswith(_OLDER)
            words = self.vocabulary(model)
            if self._at_openai or newer or "temperature" in words.refused | words.refused_thinking:
                return "max_completion_tokens"
        return self._max_tokens_name

    def _vocabulary(self, model: str) -> Vocabulary:
        azure = self._settings.azure
        return vocabularies.openai((azure and azure.deployment) or model)

    def _hints(self, request: ChatRequest, model: str) -> frozenset[str]:  # noqa: ARG002 - the same for all models
        # Models that can answer without thinking do so by default, and the others refuse `none`.
        return _CACHED if request.params.get("reasoning_effort") == "none" else _CACHED | {"reasoning_effort"}

    @property
    def _at_openai(self) -> bool:
        return urlsplit(self._identity.url).hostname == "api.openai.com"


def _client(name: str, settings: OpenAISettings) -> AsyncOpenAI:
    import openai  # noqa: PLC0415 - takes a second of CPU, for this kind alone

    common: dict[str, Any] = {
        "api_key": _plain(settings.api_key),
        "organization": settings.organization,
        "project": settings.project,
        "default_headers": revealed(settings.headers),
        "default_query": revealed_query(settings.query),
    }
    azure = settings.azure
    try:
        if azure is None:
            return openai.AsyncOpenAI(base_url=settings.base_url, **common)
        return openai.AsyncAzureOpenAI(
            azure_endpoint=azure.endpoint,
            azure_deployment=azure.deployment,
            api_version=azure.api_version,
            azure_ad_token=_plain(azure.ad_token),
            **common,
        )
    except openai.OpenAIError as error:
        if azure is None and settings.api_key is None:
            raise _no_key(name) from None
        keys = filter(None, [common["api_key"], _plain(azure.ad_token) if azure else None])
        secrets = Secrets([*keys, *common["default_headers"].values(), *common["default_query"].values()])
        raise ConfigError(
            f"backend {name}: the OpenAI SDK refuses these settings: {cleaner(secrets)(str(error))}"
        ) from None


def _identity(client: AsyncOpenAI, settings: OpenAISettings) -> Identity:
    """What the SDK would send, without its details of this machine (`x-stainless-*`)."""
    extra, authorization = revealed(settings.headers), _authorization(client, settings)
    headers = {
        name.lower(): value
        for name, value in client.default_headers.items()
        if isinstance(value, str)  # others are the SDK's mark for "leave this one out"
    }
    headers = {name: value for name, value in headers.items() if name not in _OURS and "x-stainless-" not in name}
    headers["user-agent"] = f"chat-proxy/{version('chat-proxy')} openai-python/{version('openai')}"
    headers.update(authorization)
    headers.update(extra)
    path = "chat/completions"
    if settings.azure is not None and settings.azure.deployment is None:
        path = "deployments/{model}/" + path
    base = str(client.base_url).rstrip("/")
    query = ""
    if client.default_query:
        query = "?" + urlencode({name: str(value) for name, value in client.default_query.items()})
    # Azure lists base models, which are not the deployments that answer.
    models_url = f"{base}/models{query}" if settings.azure is None else ""
    secrets = [value.rpartition(" ")[2] for value in authorization.values()]
    return Identity(
        f"{base}/{path}{query}",
        headers,
        (*secrets, *extra.values(), *revealed_query(settings.query).values()),
        models_url=models_url,
    )


def _authorization(client: AsyncOpenAI, settings: OpenAISettings) -> dict[str, str]:
    azure = settings.azure
    if azure is None:
        return {name.lower(): value for name, value in client.auth_headers.items()}
    # The Azure client's `auth_headers` is right in SDK 3 only; in 2.x it puts a key behind Bearer instead of in `api-key`.
    if azure.ad_token is not None:
        return {"authorization": f"Bearer {azure.ad_token.get_secret_value()}"}
    return {"api-key": _plain(settings.api_key) or ""}


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _no_key(name: str) -> ConfigError:
    return ConfigError(f"backend {name}: no key; give `api_key`, or set the variable OPENAI_API_KEY")


KIND = Kind("openai", OpenAISettings, OpenAIBackend)
