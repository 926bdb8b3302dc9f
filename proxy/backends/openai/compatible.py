"""Kind `openai-compatible`: any server that speaks OpenAI Chat Completions. A vendor is a row of data, not code."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Literal, Self, get_args
from urllib.parse import urlencode

import msgspec
from pydantic import model_validator

from proxy.backends import model_vocabularies
from proxy.backends.base import Kind, Resources
from proxy.backends.http import Identity
from proxy.backends.openai.wire import OpenAIChatBackend
from proxy.backends.returned_reasoning import SIGNED_FORMS, known
from proxy.backends.settings import (
    BaseURL,
    Key,
    MaxTokensName,
    OpenAIChatSettings,
    missing_version,
    reasoning_return,
    revealed,
    revealed_query,
)
from proxy.config.base import setting
from proxy.contracts.openai.upstream_request import ReasoningReturn
from proxy.request import ChatRequest
from proxy.wire.issued import issuer
from proxy.wire.vocabulary import Vocabulary


class Preset(msgspec.Struct, frozen=True):
    """What is known of a vendor: its address, the usual variable of its key, its quirks."""

    base_url: str
    key_variable: str = ""  # empty: it needs no key
    include_usage: bool = True
    max_tokens_name: MaxTokensName | None = None
    ended: str = ""  # since when it answers nobody, and what to do
    takes: frozenset[str] = frozenset()  # settings that OpenAI, or some of its models, does not take


_SAMPLING = frozenset({"top_k", "min_p", "repetition_penalty"})
_WITHOUT_MIN_P = _SAMPLING - {"min_p"}
_CACHE_KEY = frozenset({"prompt_cache_key"})

PresetName = Literal[
    "ollama", "vllm", "llama.cpp", "lmstudio", "sglang", "anthropic", "cerebras", "deepinfra", "deepseek", "fireworks",
    "gemini", "groq", "huggingface", "minimax", "mistral", "moonshot", "nvidia", "openrouter", "perplexity", "qwen",
    "together", "xai", "zai",
]  # fmt: skip

PRESETS: dict[str, Preset] = {
    # On this machine, at the default ports of these servers.
    "ollama": Preset("http://127.0.0.1:11434/v1", max_tokens_name="max_tokens"),
    "vllm": Preset("http://127.0.0.1:8000/v1", takes=_SAMPLING),
    "llama.cpp": Preset("http://127.0.0.1:8080/v1", takes=_SAMPLING),
    "lmstudio": Preset("http://127.0.0.1:1234/v1", max_tokens_name="max_tokens", takes=_WITHOUT_MIN_P),
    "sglang": Preset("http://127.0.0.1:30000/v1", takes=_SAMPLING),
    # Elsewhere.
    "anthropic": Preset("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "cerebras": Preset("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", max_tokens_name="max_completion_tokens"),
    "deepinfra": Preset("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY", max_tokens_name="max_tokens"),
    "deepseek": Preset("https://api.deepseek.com", "DEEPSEEK_API_KEY", max_tokens_name="max_tokens"),
    "fireworks": Preset(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        max_tokens_name="max_tokens",
        takes=_SAMPLING | _CACHE_KEY,
    ),
    "gemini": Preset("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": Preset("https://api.groq.com/openai/v1", "GROQ_API_KEY", max_tokens_name="max_completion_tokens"),
    "huggingface": Preset("https://router.huggingface.co/v1", "HF_TOKEN", max_tokens_name="max_tokens"),
    "minimax": Preset("https://api.minimax.io/v1", "MINIMAX_API_KEY", max_tokens_name="max_tokens"),
    # Mistral sends usage by itself and refuses fields it does not know.
    "mistral": Preset(
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        include_usage=False,
        max_tokens_name="max_tokens",
        takes=_CACHE_KEY,
    ),
    "moonshot": Preset("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", max_tokens_name="max_tokens"),
    "nvidia": Preset("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", max_tokens_name="max_tokens"),
    "openrouter": Preset(
        "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", max_tokens_name="max_tokens", takes=_SAMPLING
    ),
    # Perplexity sends usage by itself. The end: docs.perplexity.ai, Migrate from Sonar to the Agent API, and the release
    # notes of @ai-sdk/perplexity 3.1.0.
    "perplexity": Preset(
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        include_usage=False,
        max_tokens_name="max_tokens",
        ended="Perplexity ended its Chat Completions (Sonar) on 27 September 2026: its Agent API has another form; "
        "reach its models through `preset: openrouter`",
    ),
    # Outside China; there it is dashscope.aliyuncs.com (docs.qwencloud.com, OpenAI compatibility).
    "qwen": Preset(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        max_tokens_name="max_tokens",
        takes=_WITHOUT_MIN_P,
    ),
    "together": Preset(
        "https://api.together.xyz/v1", "TOGETHER_API_KEY", max_tokens_name="max_tokens", takes=_WITHOUT_MIN_P
    ),
    "xai": Preset("https://api.x.ai/v1", "XAI_API_KEY"),
    "zai": Preset("https://api.z.ai/api/paas/v4", "ZAI_API_KEY", max_tokens_name="max_tokens"),
}
"""The presets. A server without one needs only its `base_url`."""


class CompatibleSettings(OpenAIChatSettings):
    """A row of kind `openai-compatible`."""

    preset: PresetName | None = setting(
        None,
        "A known server or vendor, whose address and quirks need not be spelled out: "
        + ", ".join(f"`{name}`" for name in get_args(PresetName))
        + ".",
    )
    base_url: BaseURL | None = setting(
        None, "The server's address, up to what comes before `/chat/completions`. Needed without a `preset`."
    )
    api_key: Key | None = setting(None, "The key, sent as `Authorization: Bearer`.")

    @property
    def address(self) -> str:
        """The address: `base_url`, else the preset's."""
        return self.base_url or (PRESETS[self.preset].base_url if self.preset else "")

    def issuer(self, model: str) -> str:
        preset = self.preset or ""
        returned = reasoning_return(self, known(preset, model))
        signed = model_vocabularies.of_preset(preset, model).signatures or (returned and returned.form in SIGNED_FORMS)
        return issuer(self.kind, self.address, preset) if signed else ""

    def doubts(self) -> Iterator[tuple[str, str]]:
        if self.base_url and self.base_url not in {preset.base_url for preset in PRESETS.values()}:
            yield from missing_version(self.base_url)
        if self.preset and self.base_url is None and (ended := PRESETS[self.preset].ended):
            yield "preset", ended

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.preset is None and self.base_url is None:
            raise ValueError("give a `base_url`, or a `preset`")
        if self.preset is not None and self.base_url is None and self.api_key is None:
            variable = PRESETS[self.preset].key_variable
            if variable and not any(name.lower() == "authorization" for name in self.headers):
                raise ValueError(f"{self.preset} needs a key: api_key: ${{{variable}}}")
        return self


class CompatibleBackend(OpenAIChatBackend):
    """A server that speaks OpenAI Chat Completions."""

    _settings: CompatibleSettings

    def __init__(self, name: str, settings: CompatibleSettings, resources: Resources) -> None:
        preset = PRESETS[settings.preset] if settings.preset else Preset("")
        super().__init__(
            name, settings, resources, include_usage=preset.include_usage, max_tokens_name=preset.max_tokens_name
        )
        self._takes = preset.takes
        self._preset = settings.preset or ""
        self.identify(_identity(settings))

    def _vocabulary(self, model: str) -> Vocabulary:
        return model_vocabularies.of_preset(self._preset, model)

    def _returned(self, model: str) -> ReasoningReturn | None:
        return reasoning_return(self._settings, known(self._preset, model))

    def _hints(self, request: ChatRequest, model: str) -> frozenset[str]:  # noqa: ARG002 - the same for all models
        return self._takes


def _identity(settings: CompatibleSettings) -> Identity:
    base_url = settings.address
    headers = {"user-agent": f"chat-proxy/{version('chat-proxy')}"}
    parameters = revealed_query(settings.query)
    secrets = [*revealed(settings.headers).values(), *parameters.values()]
    if settings.api_key is not None:
        key = settings.api_key.get_secret_value()
        headers["authorization"] = f"Bearer {key}"
        secrets.append(key)
    headers |= revealed(settings.headers)
    query = "?" + urlencode(parameters) if parameters else ""
    return Identity(
        f"{base_url}/chat/completions{query}", headers, tuple(secrets), models_url=f"{base_url}/models{query}"
    )


KIND = Kind("openai-compatible", CompatibleSettings, CompatibleBackend)
