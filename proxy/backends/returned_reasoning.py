"""Which targets want earlier reasoning back, and in which form (C2). The source stands beside each row."""

import re
from collections.abc import Mapping
from functools import lru_cache

from proxy.backends.model_vocabularies import is_claude
from proxy.contracts.openai.upstream_request import ReasoningReturn

SIGNED = ReasoningReturn("thinking_blocks")

SIGNED_FORMS = frozenset({"thinking_blocks", "reasoning_details"})
"""The forms that may hold signatures, or what is encrypted."""

PRESETS: Mapping[str, ReasoningReturn] = {
    # "For turns that do perform tool calls, the reasoning_content must be fully passed back to the API in all
    # subsequent requests", else 400 (api-docs.deepseek.com, Thinking Mode). An empty one has to be there too.
    "deepseek": ReasoningReturn(always_present=True),
    # 400 "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"; the guide to
    # Kimi K2 Thinking asks to keep the reasoning of all turns.
    "moonshot": ReasoningReturn(everywhere=True),
    # "When using interleaved thinking with tools, thinking blocks should be explicitly preserved and returned together
    # with the tool results" (docs.z.ai, Thinking Mode).
    "zai": ReasoningReturn(),
    # The guide to tool use asks to keep `reasoning_details` in the history.
    "minimax": ReasoningReturn("reasoning_details", everywhere=True),
    # Its guide to reasoning tokens, "Preserving reasoning": `reasoning` on the assistant message.
    "openrouter": ReasoningReturn("reasoning"),
}
"""By the preset of a row of kind `openai-compatible`, for `return_reasoning: auto`."""

_MODELS = (
    # As the presets say of these models' own vendors, in the field that servers of open models read.
    (re.compile(r"deepseek-(reasoner|r\d|v3\.[12]|v[4-9])"), PRESETS["deepseek"]),
    (re.compile(r"kimi-k(2-thinking|2\.[5-9]|[3-9])"), PRESETS["moonshot"]),
    (re.compile(r"glm-(4\.[5-9]|[5-9])"), PRESETS["zai"]),
    (re.compile(r"minimax-m\d"), ReasoningReturn(everywhere=True)),
)
_OF_ANY_MODEL = frozenset({"", "fireworks", "sglang", "vllm"})
"""The presets whose models may be of any vendor, and that take its field; "" is a row without one. Groq answers "property
'reasoning_content' is unsupported"."""


@lru_cache(maxsize=256)  # models are few, and each request asks
def known(preset: str, model: str) -> ReasoningReturn | None:
    """How `model` behind a preset ("" for none) wants its reasoning back; None where that is not known."""
    if preset in _OF_ANY_MODEL:
        name = model.rpartition("/")[2].lower()
        return next((form for pattern, form in _MODELS if pattern.match(name)), None)
    return PRESETS.get(preset)


_PROVIDERS_OF_ANY_MODEL = frozenset({"fireworks_ai", "hosted_vllm", "openai"})
"""Providers of litellm whose models may be of any vendor, and for which litellm leaves `reasoning_content` in a message."""


def of_provider(provider: str, model: str) -> ReasoningReturn | None:
    """The same for a model of one of litellm's providers.

    Of others, litellm drops the blocks for Gemini, and AWS refuses them for DeepSeek.
    """
    if is_claude(provider, model):
        return SIGNED
    return known("" if provider in _PROVIDERS_OF_ANY_MODEL else provider, model)
