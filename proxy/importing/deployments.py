"""One deployment of LiteLLM's `model_list`: the backend row that asks as it does, the target there, and the rest."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from proxy.backends.openai.compatible import PRESETS
from proxy.config.parameters import KIND_OF_PARAMETER
from proxy.importing.source import ENVIRON, Path, Source, mapping

_SAME_NAMES = (
    "cerebras", "deepinfra", "deepseek", "gemini", "groq", "minimax", "mistral", "moonshot", "openrouter", "perplexity",
    "xai", "zai",
)  # fmt: skip
_PRESET_OF = {name: name for name in _SAME_NAMES} | {  # LiteLLM's provider: our preset
    "fireworks_ai": "fireworks", "lm_studio": "lmstudio", "nvidia_nim": "nvidia", "together_ai": "together"
}  # fmt: skip
_SERVERS = {  # that speak OpenAI's language at an address the file gives, and their preset
    **dict.fromkeys(("custom_openai", "litellm_proxy", "llamafile", "openai_like")),
    **dict.fromkeys(("hosted_vllm", "vllm"), "vllm"),
    **dict.fromkeys(("ollama", "ollama_chat"), "ollama"),
}
_GUESSED = (  # what LiteLLM makes of a name without a provider
    (re.compile(r"(gpt-|o[134](-|$)|chatgpt-|text-embedding-|ft:gpt|codex-|computer-use)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
)
BARE_NAMES = {"openai": ["gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "text-embedding-*"], "anthropic": ["claude-*"]}
"""Names that reach a wildcard such as `openai/*` in LiteLLM without the provider in front."""

_WAYS = ("responses/", "o_series/", "gpt5_series/")
"""In front of a model's name, these tell LiteLLM how to ask; they are no part of the name."""

_NO_KEY = frozenset(
    {"none", "null", "empty", "dummy", "fake", "fake-key", "anything", "not-needed", "no-key", "ollama"}
)

_AZURE_VERSION = "2025-02-01-preview"  # LiteLLM's default
_AZURE_LOGIN = frozenset({"tenant_id", "client_id", "client_secret", "azure_username", "azure_password", "azure_scope"})

_OURS = frozenset({
    "model", "custom_llm_provider", "api_key", "api_base", "base_url", "api_version", "organization", "azure_ad_token",
    "weight", "rpm", "tpm", "order", "timeout", "stream_timeout", "litellm_credential_name", "headers",
    "extra_headers", "drop_params",
})  # fmt: skip
ONE_TRY = "each target is asked once, then the next one"
_WHY = {
    "additional_drop_params": "settings pass as the client wrote them",
    **dict.fromkeys(("budget_duration", "max_budget"), "a budget is a key's or a route's here: `budget`"),
    "cooldown_time": "`server.breaker` is one for all targets",
    **dict.fromkeys(
        ("input_cost_per_token", "output_cost_per_token"), "`prices` says what models cost, for a million tokens"
    ),
    "max_parallel_requests": "a target's `concurrency` says that, or its backend's `limits`",
    "merge_reasoning_content_in_choices": "a route's `reasoning_field` says where reasoning is told",
    **dict.fromkeys(("max_retries", "num_retries"), ONE_TRY),
}
_AUTO = "a router that judges each request, and no model; write routes with `match: {content: …}` or `tokens`"
_CHANGES_ROUTES = {
    "fallbacks": "a route has the fallbacks; list them in router_settings",
    "tags": "no route looks at a request's tags",
}
_SHARES = ("weight", "rpm", "tpm", "order")
_CLOUD = ("aws_", "vertex_", "azure_", "watsonx_", "oci_", "sap_", "gigachat_")


class Deployment(msgspec.Struct):
    """Where one deployment goes."""

    row: dict[str, Any]
    provider: str
    model: str  # of the target, still with `*`
    params: Mapping[str, Any]  # LiteLLM's
    path: Path
    defaults: dict[str, Any] = {}
    notes: list[str] = []


def read(source: Source, path: Path, params: Mapping[str, Any], *, drop_params: bool) -> Deployment:
    """Convert `litellm_params`. What is not carried over is noted in the source."""
    numbers = {
        name: source.number(params[name], (*path, name), routes=name in _SHARES)
        for name in (*_SHARES, "timeout", "stream_timeout")
        if name in params
    }
    params = {**params, **numbers}
    provider, model = _split(params)
    build = _BUILDERS.get(provider) or (
        _preset if provider in _PRESET_OF else _server if provider in _SERVERS else _any
    )
    if params.get("api_base", params.get("base_url")) is None and provider in {
        "hosted_vllm",
        "openai_like",
        "custom_openai",
    }:
        build = _any
    if model.startswith(_WAYS):
        build = _any
    made = Deployment(build(source, provider, params), provider, model, params, path)
    if made.row["kind"] == "litellm":
        made.row["drop_params"] = bool(params.get("drop_params", drop_params))
        named = provider and not str(params["model"]).startswith(f"{provider}/")
        written = f"{provider}/{model}" if named else str(params["model"])
        made.model = source.text(written, name="model", variable="MODEL")
    if provider == "auto_router":
        made.notes.append(source.leave((*path, "model"), _AUTO, routes=True))
    _headers(source, made)
    _rest(source, made)
    return made


def _split(params: Mapping[str, Any]) -> tuple[str, str]:
    """Whose model it is, and its name there."""
    name = str(params["model"])
    head, slash, rest = name.partition("/")
    if custom := params.get("custom_llm_provider"):
        return str(custom), rest if head == custom and slash else name
    if slash:
        return ("", name) if head == "os.environ" else (head, rest)
    return next((provider for form, provider in _GUESSED if form.match(name)), ""), name


def _openai(source: Source, provider: str, params: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    base = params.get("api_base") or params.get("base_url")
    if base and _no_key(params):
        return _server(source, "openai_like", params)
    row = {"kind": "openai", "api_key": _key(source, params, "OPENAI_API_KEY")}
    if base:
        row["base_url"] = source.text(base, name="api_base", variable="OPENAI_BASE_URL", holds="address")
    if organization := params.get("organization"):
        row["organization"] = source.text(organization, name="organization", variable="OPENAI_ORGANIZATION")
    return row


def _anthropic(source: Source, provider: str, params: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    row = {"kind": "anthropic", "api_key": _key(source, params, "ANTHROPIC_API_KEY")}
    if base := params.get("api_base") or params.get("base_url"):
        row["base_url"] = source.text(base, name="api_base", variable="ANTHROPIC_API_BASE", holds="address")
    return row


def _azure(source: Source, provider: str, params: Mapping[str, Any]) -> dict[str, Any]:
    if _AZURE_LOGIN & params.keys():
        return _any(source, provider, params)
    base = params.get("api_base") or params.get("base_url") or "os.environ/AZURE_API_BASE"
    azure = {
        "endpoint": source.text(base, name="api_base", variable="AZURE_API_BASE", holds="address"),
        "api_version": source.text(
            params.get("api_version") or _AZURE_VERSION, name="version", variable="AZURE_API_VERSION"
        ),
    }
    if token := params.get("azure_ad_token"):
        azure["ad_token"] = source.text(token, name="token", variable="AZURE_AD_TOKEN", holds="key")
        return {"kind": "openai", "azure": azure}
    return {"kind": "openai", "api_key": _key(source, params, "AZURE_API_KEY"), "azure": azure}


def _preset(source: Source, provider: str, params: Mapping[str, Any]) -> dict[str, Any]:
    name = _PRESET_OF[provider]
    preset = PRESETS[name]
    row: dict[str, Any] = {"kind": "openai-compatible", "preset": name}
    if base := params.get("api_base") or params.get("base_url"):
        row["base_url"] = source.text(base, name="api_base", variable=f"{_upper(name)}_API_BASE", holds="address")
    if params.get("api_key") or preset.key_variable:
        row["api_key"] = _key(source, params, preset.key_variable or f"{_upper(name)}_API_KEY")
    return row


def _server(source: Source, provider: str, params: Mapping[str, Any]) -> dict[str, Any]:
    preset = _SERVERS[provider]
    row: dict[str, Any] = {"kind": "openai-compatible"} | ({"preset": preset} if preset else {})
    if base := params.get("api_base") or params.get("base_url"):
        address = source.text(base, name="api_base", variable=f"{_upper(provider)}_API_BASE", holds="address")
        if provider in {"ollama", "ollama_chat"} and not address.rstrip("/").endswith("/v1"):
            address = address.rstrip("/") + "/v1"
        row["base_url"] = address
    if params.get("api_key") and not _no_key(params):
        row["api_key"] = _key(source, params, f"{_upper(provider)}_API_KEY")
    return row


def _any(source: Source, provider: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Kind `litellm`, which asks as LiteLLM itself does."""
    row: dict[str, Any] = {"kind": "litellm"}
    upper = _upper(provider or "provider")
    if params.get("api_key"):
        row["api_key"] = _key(source, params, f"{upper}_API_KEY")
    if base := params.get("api_base") or params.get("base_url"):
        row["api_base"] = source.text(base, name="api_base", variable=f"{upper}_API_BASE", holds="address")
    if version := params.get("api_version"):
        row["api_version"] = source.text(version, name="api_version", variable=f"{upper}_API_VERSION")
    options = {
        name: source.text(value, name=name, variable=name.upper()) if isinstance(value, str) else value
        for name, value in params.items()
        if (name.startswith(_CLOUD) or name in _AZURE_LOGIN) and not isinstance(value, (dict, list))
    }
    if isinstance(login := params.get("vertex_credentials"), dict):
        options["vertex_credentials"] = source.text(
            json.dumps(login), name="vertex_credentials", variable="VERTEX_CREDENTIALS", holds="key"
        )
    return row | ({"options": options} if options else {})


Builder = Callable[[Source, str, Mapping[str, Any]], dict[str, Any]]
_BUILDERS: dict[str, Builder] = {
    "openai": _openai,
    "text-completion-openai": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
}


def _key(source: Source, params: Mapping[str, Any], variable: str) -> str:
    """The key, or the variable in which LiteLLM looks for it."""
    return source.text(
        params.get("api_key") or f"os.environ/{variable}", name="api_key", variable=variable, holds="key"
    )


def _no_key(params: Mapping[str, Any]) -> bool:
    """Whether the key is a word for none, which LiteLLM needs for servers that ask for no key."""
    return str(params.get("api_key")).lower() in _NO_KEY


def _headers(source: Source, made: Deployment) -> None:
    given = {**mapping(made.params.get("headers")), **mapping(made.params.get("extra_headers"))}
    if not given:
        return
    headers = {
        str(name): source.text(value, name=str(name), variable=_upper(str(name))) for name, value in given.items()
    }
    if made.row["kind"] == "litellm":
        made.row["options"] = {**made.row.get("options", {}), "extra_headers": headers}
    else:
        made.row["headers"] = headers


def _rest(source: Source, made: Deployment) -> None:
    """Settings of the model become defaults of the route; what has no place here is noted."""
    options = made.row.get("options", {})
    for name, value in made.params.items():
        if name in _OURS or name in options or value is None:
            continue
        if isinstance(value, str) and value.startswith(ENVIRON):
            made.notes.append(source.leave((*made.path, name), "a setting's value is written out here"))
        elif name in KIND_OF_PARAMETER:
            made.defaults[name] = value
        else:
            mocked = "answers are never made up" if name.startswith("mock_") else _CHANGES_ROUTES.get(name)
            why = mocked or _WHY.get(name, "this proxy has nothing like it")
            made.notes.append(source.leave((*made.path, name), why, routes=mocked is not None))


def _upper(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
