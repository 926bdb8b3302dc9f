"""The arguments of one `litellm.acompletion`: an allow-list (H08).

The config says where to go and how; of the request only what is listed here is passed on.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import msgspec

from proxy.backends.litellm.http import TAKES_HANDLER
from proxy.backends.litellm.params import no_word_for_it, passed_on, refuse_unsupported
from proxy.backends.litellm.settings import LiteLLMSettings
from proxy.backends.model_vocabularies import is_claude
from proxy.backends.openai.words import going_on, nearest_effort, refused
from proxy.backends.returned_reasoning import of_provider
from proxy.contracts.anthropic.params import SAMPLING, max_tokens_of
from proxy.contracts.anthropic.upstream_request import settings_fields
from proxy.contracts.openai.upstream_request import choices_expected, encode_request
from proxy.errors import Unsupported
from proxy.request import ChatRequest, File, Image, Message
from proxy.wire.vocabulary import Vocabulary

_MAX_TOKENS = 8192
"""How long an answer of Claude's may be where the request does not say: the least that litellm makes of it."""
_NO_TIMEOUT_S = 86_400.0  # the pipeline owns the timers, the transport the one of connecting

_TAKES_ADDRESSES = frozenset({"openai", "azure"})  # of images: for others litellm fetches what is there

_LOOKED_UP: Mapping[str, Mapping[str, Any]] = {
    # The details of a model that litellm does not know. Without them it asks a server on this machine,
    # against the config, and blocks until it answers.
    provider: {"litellm_provider": provider, "mode": "chat", "supports_function_calling": True}
    for provider in ("ollama", "ollama_chat")
}


def arguments(
    litellm: Any,
    settings: LiteLLMSettings,
    request: ChatRequest,
    *,
    backend: str,
    model: str,
    provider: str,
    handler: Any,
    words: Vocabulary,
) -> dict[str, Any]:
    """All that litellm is given. Raises `Unsupported` for what would get lost or be fetched on the way."""
    _refuse(request, provider, backend)
    if provider in _LOOKED_UP:
        litellm.model_cost.setdefault(model, dict(_LOOKED_UP[provider]))
    allowed = passed_on(provider)
    if settings.drop_params:
        allowed -= refused(words, request)
    else:
        refuse_unsupported(request, allowed)
    if no_word_for_it(request, words):
        allowed -= {"reasoning_effort"}
    thinking: dict[str, Any] = {}
    if is_claude(provider, model):
        of_claude = settings_fields(request, model=model, limit=max_tokens_of(request.params, _MAX_TOKENS))
        allowed -= {name for name in SAMPLING if name not in of_claude}
        if "effort" not in of_claude.get("output_config", {}):
            allowed -= {"reasoning_effort"}
        if of_claude.get("thinking", {}).get("type") == "enabled":
            thinking = {"thinking": of_claude["thinking"]}
    # Encoded and decoded again: litellm changes what it is given.
    body = msgspec.json.decode(
        encode_request(
            msgspec.structs.replace(request, dialect="", raw_body=None),
            model="",
            hints=allowed if settings.drop_params else (),
            reasoning=of_provider(provider, model),
        )
    )
    if effort := body.get("reasoning_effort"):
        body["reasoning_effort"] = nearest_effort(words, effort)
    fixed: dict[str, Any] = {
        **deepcopy(settings.options),
        **{name: value for name, value in body.items() if name in allowed and value is not None},
        **thinking,
        **going_on(words, body["messages"]),
        "messages": body["messages"],
        "model": model,
        "stream": True,
        **_one_try(settings),
        # Two detours that need packages which litellm does not require: the client runs the tools, over chat.
        "_skip_mcp_handler": True,
        "_skip_responses_api_bridge": True,
    }
    optional = {
        "tools": body.get("tools"),
        "user": body.get("user"),
        "stream_options": {"include_usage": True} if settings.include_usage else None,
        **_destination(settings, provider, handler),
    }
    return fixed | {name: value for name, value in optional.items() if value is not None}


def embedding_arguments(
    settings: LiteLLMSettings, request: ChatRequest, *, model: str, provider: str, handler: Any
) -> dict[str, Any]:
    """The same for one `litellm.aembedding`."""
    raw = request.raw_body or {}
    fixed = {**deepcopy(settings.options), "model": model, "input": deepcopy(raw.get("input")), **_one_try(settings)}
    optional = {
        "dimensions": raw.get("dimensions"),
        "encoding_format": raw.get("encoding_format"),
        "user": request.user,
        **_destination(settings, provider, handler),
    }
    return fixed | {name: value for name, value in optional.items() if value is not None}


def _one_try(settings: LiteLLMSettings) -> dict[str, Any]:
    """What keeps litellm from trying again, and from waiting less or longer than the pipeline."""
    return {"drop_params": settings.drop_params, "num_retries": 0, "max_retries": 0, "timeout": _NO_TIMEOUT_S}


def _destination(settings: LiteLLMSettings, provider: str, handler: Any) -> dict[str, Any]:
    """Where to go, with which key, and over which client. `None` is left out."""
    return {
        "api_key": settings.api_key.get_secret_value() if settings.api_key else None,
        "api_base": settings.api_base,
        "api_version": settings.api_version,
        "client": handler if provider in TAKES_HANDLER else None,
    }


def _refuse(request: ChatRequest, provider: str, backend: str) -> None:
    if choices_expected(request) > 1:
        raise Unsupported(f"backend {backend} gives one answer, not several (n)", param="n")
    if request.params.get("logprobs") is True:
        raise Unsupported(f"backend {backend} gives no log probabilities", param="logprobs")
    if provider not in _TAKES_ADDRESSES:
        _refuse_addresses(request.messages)


def _refuse_addresses(messages: tuple[Message, ...]) -> None:
    """For most providers litellm fetches files and images from the address that the client gives (H08)."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, Image) and not part.url.startswith("data:"):
                raise Unsupported("this target takes images as data: URLs, not by address")
            if isinstance(part, File) and any("://" in (value or "")[:256] for value in (part.data, part.id)):
                raise Unsupported("this target takes files as data, not by address")
