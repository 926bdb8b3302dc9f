"""Registers kind `litellm`. Imports neither litellm nor what it brings, which may not be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.backends.base import Resources
from proxy.backends.litellm.settings import LiteLLMSettings

if TYPE_CHECKING:
    from proxy.backends.litellm.backend import LiteLLMBackend


class LiteLLMKind:
    """Registers the kind."""

    kind = "litellm"
    settings = LiteLLMSettings
    packages = ("litellm", "httpx")
    extra = "litellm"

    def build(self, name: str, settings: LiteLLMSettings, resources: Resources) -> LiteLLMBackend:
        from proxy.backends.litellm.backend import LiteLLMBackend  # noqa: PLC0415 - needs the packages

        return LiteLLMBackend(name, settings, resources)


KIND = LiteLLMKind()
