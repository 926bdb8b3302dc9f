"""The vocabularies of models behind a preset: one row for each family that differs from the preset's own.

A quotation beside a cell is the vendor's page, or its refusal as users reported it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from msgspec.structs import replace

from proxy.backends.vocabularies import (
    BEDROCK,
    COMMON,
    DEEPSEEK,
    DISABLED,
    EFFORT_NONE,
    ENABLED,
    GEMINI,
    GROQ,
    HIGH_LOW_MAX,
    IMAGES,
    LOW_TO_HIGH,
    MISTRAL,
    MOONSHOT,
    PRESETS,
    TEXT,
    ZAI,
    anthropic,
    openai,
)
from proxy.wire.vocabulary import GEMINI_SEAL, Vocabulary

_CEREBRAS = PRESETS["cerebras"]
_FIREWORKS = PRESETS["fireworks"]
_MINIMAX = PRESETS["minimax"]
_XAI = PRESETS["xai"]

# ai.google.dev, OpenAI compatibility: "Reasoning cannot be turned off for Gemini 2.5 Pro or 3 models"
_GEMINI_THINKING = replace(GEMINI, no_thinking=None)
_GEMINI_3 = replace(
    _GEMINI_THINKING,
    # "Function call is missing a thought_signature in functionCall parts." For calls of other models the page names this
    # word (ai.google.dev, Thought signatures).
    unsigned=f"{GEMINI_SEAL}skip_thought_signature_validator",
)

_MOONSHOT_THINKING = replace(
    MOONSHOT,
    # "invalid temperature: only 1 is allowed for this model"; platform.kimi.ai, Model parameter reference, says the same
    # of the other settings
    refused=frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
    # "tool_choice 'required' is incompatible with thinking enabled", and "'specified' is incompatible"
    choices="auto",
    efforts=(),
)
_MOONSHOT_MAY_THINK = replace(_MOONSHOT_THINKING, choices="unthinking", no_thinking=DISABLED, thinking=ENABLED)
"""kimi-k2.5 and k2.6 can be told not to think; k2-thinking and k2.7-code cannot: "invalid thinking: only type=enabled is
allowed for this model"."""
_KIMI_3 = replace(_MOONSHOT_THINKING, choices="required", efforts=HIGH_LOW_MAX)
"""kimi-k3 always thinks, by `reasoning_effort` (platform.kimi.ai, Model parameter reference). It takes `required`, and of a
name says "tool_choice 'specified' is incompatible with thinking enabled"."""

# docs.x.ai, Reasoning: "presencePenalty, frequencyPenalty, and stop cannot be used with reasoning models. Requests that
# include them return an error."
_GROK = replace(
    _XAI,
    refused=frozenset({"presence_penalty", "frequency_penalty", "stop"}),
    efforts=(),  # "Model grok-4.20-0309-reasoning does not support parameter reasoningEffort."
    stops=0,
)

_BOTH_FORMATS = frozenset({"json_object", "json_schema"})

MODELS: Mapping[str, tuple[tuple[re.Pattern[str], Vocabulary], ...]] = {
    "cerebras": (
        (re.compile(r"gpt-oss"), replace(_CEREBRAS, efforts=LOW_TO_HIGH)),
        # "Input should be 'none', 'low', 'medium' or 'high'"
        (re.compile(r"zai-glm|gemma-4|qwen-3\.8"), replace(_CEREBRAS, no_thinking=EFFORT_NONE, efforts=LOW_TO_HIGH)),
    ),
    # api-docs.deepseek.com, Vision
    "deepseek": (
        (
            re.compile(r".*vision|deepseek-flash"),
            replace(DEEPSEEK, media=IMAGES, images=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})),
        ),
    ),
    # docs.fireworks.ai, Reasoning: GPT-OSS takes low, medium and high alone
    "fireworks": ((re.compile(r".*gpt-oss"), replace(_FIREWORKS, no_thinking=None)),),
    "gemini": (
        (re.compile(r"gemini-2\.5-pro"), _GEMINI_THINKING),
        # ai.google.dev, Thinking: without `minimal`
        (re.compile(r"gemini-3\.[78]-flash"), replace(_GEMINI_3, efforts=LOW_TO_HIGH)),
        (re.compile(r"gemini-([3-9]|\d\d)"), _GEMINI_3),
    ),
    "groq": (
        # "`reasoning_effort` must be one of `low`, `medium`, or `high`"
        (re.compile(r"openai/gpt-oss"), replace(GROQ, efforts=LOW_TO_HIGH, formats=_BOTH_FORMATS)),
        (re.compile(r"moonshotai/|meta-llama/llama-4"), replace(GROQ, formats=_BOTH_FORMATS)),
        # "`reasoning_effort` must be one of `none` or `default`"
        (re.compile(r"qwen/"), replace(GROQ, no_thinking=EFFORT_NONE, thinking={"reasoning_effort": "default"})),
    ),
    # The preset's page: of M2, "accepted but thinking remains on"; images are for M3. platform.minimax.io, API reference of
    # Text chat, which is of M2: `temperature`, "value range (0, 1]"
    "minimax": (
        (re.compile(r"(?i:minimax-m2)"), replace(_MINIMAX, no_thinking=None, thinking={}, media=TEXT, hottest=1)),
    ),
    "mistral": (
        (re.compile(r"voxtral"), replace(MISTRAL, media=frozenset({"audio", "file"}))),
        (re.compile(r"mistral-large-[4-9]"), replace(MISTRAL, no_thinking=EFFORT_NONE, efforts=LOW_TO_HIGH)),
        (
            re.compile(r"mistral-(small-(latest|2603)|medium-3-5)"),
            replace(MISTRAL, no_thinking=EFFORT_NONE, efforts=("high",)),
        ),
    ),
    "moonshot": (
        (re.compile(r"kimi-k2(-thinking|\.7)"), _MOONSHOT_THINKING),
        (re.compile(r"kimi-k2\.[5-9]"), _MOONSHOT_MAY_THINK),
        (re.compile(r"kimi-k[3-9]"), _KIMI_3),
    ),
    "together": ((re.compile(r"openai/gpt-oss"), Vocabulary(efforts=LOW_TO_HIGH, media=IMAGES)),),
    # docs.x.ai, Reasoning, names the efforts of each model; since 4.5 "Reasoning cannot be disabled"
    "xai": (
        (re.compile(r"grok-4\.3(?!\d)"), replace(_GROK, no_thinking=EFFORT_NONE, efforts=LOW_TO_HIGH)),
        (re.compile(r"grok-4\.5(?!\d)"), replace(_GROK, efforts=LOW_TO_HIGH)),
        (re.compile(r"grok-4\.[6-9](?!\d)"), replace(_GROK, efforts=(*LOW_TO_HIGH, "xhigh"))),
        (re.compile(r"grok-.*non-reasoning"), replace(_XAI, no_thinking={}, efforts=())),
        (re.compile(r"grok-3-mini"), replace(_GROK, efforts=("low", "high"))),
        (re.compile(r"grok-[4-9]"), _GROK),
    ),
    # docs.z.ai, Thinking: 5.2 makes `high` of less and `max` of `xhigh`; 5.3 always thinks, and answers 400 with code 1210
    # to `disabled`: it names low, high and max
    "zai": (
        (re.compile(r"glm-5\.2(?!\d)"), replace(ZAI, efforts=("max", "high"))),
        (re.compile(r"glm-5\.[3-9](?!\d)"), replace(ZAI, no_thinking=None, thinking={}, efforts=HIGH_LOW_MAX)),
    ),
}
"""By preset: models that differ from it. The first pattern that fits counts."""


def of_preset(preset: str, model: str) -> Vocabulary:
    """The vocabulary of a model behind a preset; "" for none."""
    known = PRESETS.get(preset, COMMON)
    return next((words for pattern, words in MODELS.get(preset, ()) if pattern.match(model)), known)


_PRESETS_OF_PROVIDERS = {
    "dashscope": "qwen",
    "fireworks_ai": "fireworks",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "ollama_chat": "ollama",
    "together_ai": "together",
}
"""Providers of litellm under other names than ours."""
_HAVE_CLAUDE = frozenset({"azure_ai", "bedrock", "vertex_ai"})
_GEMINI_ITSELF = frozenset({"gemini", "vertex_ai"})


def is_claude(provider: str, model: str) -> bool:
    """Whether one of litellm's providers answers with Claude. An ARN of Bedrock's may stand for it."""
    return provider == "anthropic" or (provider in _HAVE_CLAUDE and ("claude" in model or "arn:" in model))


@lru_cache(maxsize=256)  # models are few, and each request asks
def of_provider(provider: str, model: str) -> Vocabulary:
    """The vocabulary of a model of one of litellm's providers, which is asked in OpenAI's form.

    litellm has a place of its own for Gemini's signatures, puts all system text at Claude's head, and gives it results of
    tools as text alone, and no files of text.
    """
    model = model.removeprefix(f"{provider}/")
    if is_claude(provider, model):
        claude = replace(anthropic(model), result_media=False, system="head", file_ids="")
        if provider == "bedrock":
            return replace(claude, tool_names=BEDROCK.tool_names, user_first=True)
        return replace(claude, files=claude.images | {"application/pdf"})
    if provider == "bedrock":
        return BEDROCK
    if provider == "azure":
        return openai(model)
    if provider == "openai":  # or any server of its language
        return openai(model, COMMON)
    if provider == "vertex_ai" and not model.startswith("gemini"):
        return _mistral_by_litellm(MISTRAL) if model.startswith(("mistral", "codestral")) else COMMON
    preset = "gemini" if provider in _GEMINI_ITSELF else _PRESETS_OF_PROVIDERS.get(provider, provider)
    known = of_preset(preset, model)
    if preset == "mistral":
        return _mistral_by_litellm(known)
    # Google's own API, which litellm asks, takes the penalties and `seed`, of which litellm knows the models.
    return replace(known, signatures="", unsigned="", refused=frozenset()) if preset == "gemini" else known


def _mistral_by_litellm(words: Vocabulary) -> Vocabulary:
    """Mistral's models behind litellm, which makes one text of content without an image, and so loses files and sounds."""
    return replace(words, parts="", media=words.media & IMAGES)
