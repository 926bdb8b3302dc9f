"""The names of OpenTelemetry's conventions for generative AI, in both generations that backends understand.

The older one is what the last version of the general conventions had, the latest that of their own repository
(semantic-conventions-genai 0.1.0). By the conventions' own rule the older names are the default, and
`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` asks for the latest.
"""

import os
from collections.abc import Mapping
from typing import Self

Value = str | int | float | bool | tuple[str, ...]

OPT_IN = "gen_ai_latest_experimental"

NAMES: Mapping[str, tuple[str, str]] = {
    # what it is: (older, latest); empty where a generation has no name for it
    "operation": ("gen_ai.operation.name", "gen_ai.operation.name"),
    "provider": ("gen_ai.system", "gen_ai.provider.name"),
    "model": ("gen_ai.request.model", "gen_ai.request.model"),
    "stream": ("", "gen_ai.request.stream"),
    "first_chunk_s": ("", "gen_ai.response.time_to_first_chunk"),
    "finish_reasons": ("gen_ai.response.finish_reasons", "gen_ai.response.finish_reasons"),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.input_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.output_tokens"),
    "cached_tokens": ("", "gen_ai.usage.cache_read.input_tokens"),
    "reasoning_tokens": ("", "gen_ai.usage.reasoning.output_tokens"),
    "token_type": ("gen_ai.token.type", ""),
    # metrics
    "duration": ("gen_ai.client.operation.duration", "gen_ai.client.inference.duration"),
    "embeddings_duration": ("gen_ai.client.operation.duration", "gen_ai.client.embeddings.duration"),
    "time_to_first": ("gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.inference.time_to_first_chunk"),
    "time_per_chunk": (
        "gen_ai.client.operation.time_per_output_chunk",
        "gen_ai.client.inference.time_per_output_chunk",
    ),
    "tokens_in": ("gen_ai.client.token.usage", "gen_ai.client.inference.operation.input_tokens"),
    "tokens_out": ("gen_ai.client.token.usage", "gen_ai.client.inference.operation.output_tokens"),
    "embeddings_in": ("gen_ai.client.token.usage", "gen_ai.client.embeddings.operation.input_tokens"),
    "sum_in": ("", "gen_ai.client.inference.usage.input_tokens"),
    "sum_out": ("", "gen_ai.client.inference.usage.output_tokens"),
}

_PROVIDERS: Mapping[str, tuple[str, str]] = {
    # presets, and litellm's names of providers, where the conventions have another word
    "azure": ("az.ai.openai", "azure.ai.openai"),
    "bedrock": ("aws.bedrock", "aws.bedrock"),
    "gemini": ("gcp.gemini", "gcp.gemini"),
    "mistral": ("mistral_ai", "mistral_ai"),
    "vertex_ai": ("gcp.vertex_ai", "gcp.vertex_ai"),
    "xai": ("xai", "x_ai"),
}


class Names:
    """The names of one generation."""

    def __init__(self, *, latest: bool) -> None:
        self.latest = latest
        self._names = {what: pair[latest] for what, pair in NAMES.items()}

    @classmethod
    def asked_for(cls) -> Self:
        """Those that the environment asks for."""
        asked = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
        return cls(latest=OPT_IN in (word.strip() for word in asked))

    def __getitem__(self, what: str) -> str:
        return self._names[what]

    def provider(self, name: str) -> str:
        """The conventions' word for a provider; an unknown one keeps its name."""
        return _PROVIDERS.get(name, (name, name))[self.latest]

    def attributes(self, values: Mapping[str, Value | None]) -> dict[str, Value]:
        """`values` under this generation's names, without what it has no name for and what is not known."""
        names = self._names
        return {names[what]: value for what, value in values.items() if value is not None and names[what]}
