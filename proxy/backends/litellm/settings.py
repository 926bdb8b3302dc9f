"""The settings of kind `litellm`, and which of them are secret."""

from typing import Any

from pydantic import field_validator

from proxy.backends.base import BackendSettings
from proxy.backends.quirks import ConversationQuirks
from proxy.backends.returned_reasoning import SIGNED_FORMS, of_provider
from proxy.backends.settings import Address, Key
from proxy.config.base import setting
from proxy.wire.issued import issuer

_RESERVED = frozenset({
    # Arguments of `acompletion` that this package sets itself, or that would undo what it guarantees.
    "acompletion", "api_base", "api_key", "api_version", "base_url", "caching", "callbacks", "client",
    "context_window_fallback_dict", "custom_llm_provider", "drop_params", "fallbacks", "logger_fn", "max_retries",
    "messages", "mock_delay", "mock_response", "mock_timeout", "mock_tool_calls", "model", "model_list", "n",
    "num_retries", "shared_session", "stream", "stream_options", "timeout", "tools",
})  # fmt: skip


class LiteLLMSettings(BackendSettings):
    """A row of kind `litellm`."""

    models: list[str] = setting(
        list,
        "The models a client may name, each as litellm does (`anthropic/claude-sonnet-4-5`), where a route "
        "leaves the model to the client. None by default: the name decides where a request and the key go.",
    )
    api_key: Key | None = setting(None, "The provider's key. Default: the variable litellm reads for it, if set.")
    api_base: Address | None = setting(None, "The provider's address, where it is not the usual one.")
    api_version: str | None = setting(None, "The API version, for Azure.", min_length=1)
    drop_params: bool = setting(
        True, "Leave out settings the provider does not know, such as `seed`. `false`: refuse the request."
    )
    include_usage: bool = setting(True, "Ask for token counts in streams, where it needs asking.")
    quirks: ConversationQuirks | None = setting(
        None,
        "What the target takes in a conversation, where it differs from what is known of the model's provider "
        "([translation](translation.md)). Settings are in litellm's words.",
    )
    options: dict[str, Any] = setting(
        dict,
        "More arguments of `litellm.acompletion` for every request, such as `aws_region_name`, "
        "`vertex_project` or `extra_headers`. A client cannot give any of these.",
        repr=False,  # may hold credentials
    )

    def issuer(self, model: str) -> str:
        provider = model.partition("/")[0]
        form = of_provider(provider, model)
        signs = form is not None and form.form in SIGNED_FORMS
        return issuer(self.kind, self.api_base or "", provider) if signs else ""

    @field_validator("options")
    @classmethod
    def _not_reserved(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name in _RESERVED or name.startswith("_"):
                raise ValueError(f"{name} cannot be given here")
        return options


def secrets(settings: LiteLLMSettings) -> list[str]:
    """The secrets of a row: the key, and every text among the options."""
    key = [settings.api_key.get_secret_value()] if settings.api_key else []
    return key + list(_texts(settings.options))


def _texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value] if len(value) >= 8 else []
        case dict():
            return [text for inner in value.values() for text in _texts(inner)]
        case list():
            return [text for inner in value for text in _texts(inner)]
        case _:
            return []
