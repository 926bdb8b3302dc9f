"""The vocabularies of targets: one row for each kind, preset or family of models that differs from the common one.

A quotation beside a cell is the vendor's page, or its refusal as users reported it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping

import msgspec

from proxy.contracts.anthropic.params import takes_late_system, takes_prefill
from proxy.contracts.anthropic.upstream_request import CALL_IDS
from proxy.wire.vocabulary import GEMINI_SEAL, WORD, IdForm, NameForm, Vocabulary

_LETTERS = string.ascii_letters

COMMON = Vocabulary()
"""What most servers of OpenAI's language take."""

OPENAI = Vocabulary(
    # "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40"
    call_ids=IdForm(longest=40),
    # "Must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64." (API reference of Chat
    # Completions)
    tool_names=NameForm(WORD, 64),
    system="anywhere",
    developer=True,
    allowed_tools=True,
    stops=4,  # "Up to 4 sequences" (platform.openai.com, API reference of Chat Completions)
    # "'required' is required to be supplied and to be an array including every key in properties", of `strict` alone
    schemas="closed",
)

OPENAI_PLAIN = msgspec.structs.replace(OPENAI, efforts=(), refused=frozenset({"verbosity"}))
"""Models that do not think: "Unrecognized request argument supplied: reasoning_effort". Of `verbosity` they take one value:
"Supported values are: 'medium'"."""

_LOW_TO_HIGH = ("low", "medium", "high")
_SAMPLING = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
_PENALTIES = frozenset({"presence_penalty", "frequency_penalty", "logit_bias", "stop"})

OPENAI_O = msgspec.structs.replace(OPENAI, refused=_SAMPLING | _PENALTIES, efforts=_LOW_TO_HIGH)
"""o1 to o4: "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is
supported", "Unsupported parameter: 'stop' is not supported with this model"."""

OPENAI_5 = msgspec.structs.replace(OPENAI_O, efforts=("minimal", *_LOW_TO_HIGH))

OPENAI_MAY_THINK = msgspec.structs.replace(
    OPENAI,
    refused=_PENALTIES,
    refused_thinking=_SAMPLING,
    no_thinking={"reasoning_effort": "none"},
    efforts=(*_LOW_TO_HIGH, "xhigh"),
)
"""GPT-5.1 to 5.3 think if asked to: "The following parameters are only supported when using GPT-5.2 with reasoning effort set
to none: temperature, top_p, logprobs" (platform.openai.com, Using GPT-5.2)."""

OPENAI_THINKS_ALONE = msgspec.structs.replace(OPENAI_MAY_THINK, effort_with_tools=False)
"""Since GPT-5.4: "Function tools with reasoning_effort are not supported for gpt-5.6-luna in /v1/chat/completions. To use
function tools, use /v1/responses or set reasoning_effort to 'none'." """

_OPENAI_MODELS = (
    (re.compile(r"gpt-3|gpt-4|.*-chat|chatgpt"), OPENAI_PLAIN),
    (re.compile(r"gpt-5\.1(?!\d)"), msgspec.structs.replace(OPENAI_MAY_THINK, efforts=_LOW_TO_HIGH)),
    (re.compile(r"gpt-5\.[23](?!\d)"), OPENAI_MAY_THINK),
    (re.compile(r"gpt-5\.\d|gpt-[6-9]"), OPENAI_THINKS_ALONE),
    (re.compile(r"gpt-5"), OPENAI_5),
    (re.compile(r"o\d"), OPENAI_O),
)


def openai(model: str) -> Vocabulary:
    """The vocabulary of a model at OpenAI or Azure."""
    return next((words for pattern, words in _OPENAI_MODELS if pattern.match(model)), OPENAI)


ANTHROPIC = Vocabulary(
    call_ids=CALL_IDS,
    # "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    tool_names=NameForm(WORD, 128),
    signatures="anthropic",
    cache_marks=4,  # "You can define up to 4 cache breakpoints" (docs.anthropic.com, Prompt caching)
    hottest=1,  # "Ranges from 0.0 to 1.0" (docs.anthropic.com, API reference of Messages)
    media=frozenset({"file", "image"}),
    result_media=True,
    images=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),
    empty_turns=False,
    prefill="trailing",
    names=False,  # its API reference has no `name` for messages
)

ANTHROPIC_WITHOUT_PREFILL = msgspec.structs.replace(ANTHROPIC, prefill="none")
"""Claude since 4.6: "This model does not support assistant message prefill. The conversation must end with a user message."
(platform.claude.com, Errors: prefill not supported)."""

ANTHROPIC_WITH_SYSTEM = msgspec.structs.replace(ANTHROPIC_WITHOUT_PREFILL, system="after_user")
"""Claude Opus since 4.8 and every model since 5 takes `system` right after a user's turn (platform.claude.com,
Mid-conversation system messages). Others answer "role 'system' is not supported on this model"."""


def anthropic(model: str) -> Vocabulary:
    """The vocabulary of a Claude model."""
    if takes_late_system(model):
        return ANTHROPIC_WITH_SYSTEM
    return ANTHROPIC if takes_prefill(model) else ANTHROPIC_WITHOUT_PREFILL


IMAGES = frozenset({"image"})
TEXT: frozenset[str] = frozenset()
_TEMPLATE_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_TEMPLATE_ON = {"chat_template_kwargs": {"enable_thinking": True}}
_DISABLED = {"thinking": {"type": "disabled"}}
_ENABLED = {"thinking": {"type": "enabled"}}
_NONE = {"reasoning_effort": "none"}

MISTRAL = Vocabulary(
    # "Tool call id was call_49c89af0 but must be a-z, A-Z, 0-9, with a length of 9."
    call_ids=IdForm(_LETTERS + string.digits, 9, 9),
    # "Function name was ... but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64."
    tool_names=NameForm(WORD, 64),
    # docs.mistral.ai, API reference of chat completions; a field that it does not list is a 422, `extra_forbidden`
    parameters={"seed": "random_seed"},
    refused=frozenset({"user", "logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity"}),
    hottest=1.5,  # the same page: "between 0.0 and 0.7", at most 1.5
    efforts=(),  # docs.mistral.ai, Reasoning, names the models that have the setting
    empty_turns=False,
    # "Unexpected role 'user' after role 'tool'", code 3230
    user_after_result=False,
    # "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
    prefill="prefix_flag",
    names=False,  # a `name` outside of results is an unknown field, which is a 422
    # The same page: its parts are `text`, `image_url`, `document_url`, `reference`, and sounds in a form of its own.
    media=IMAGES,
)

GEMINI = Vocabulary(
    # "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores
    # (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
    tool_names=NameForm(WORD + ".:", 64, _LETTERS + "_"),
    # ai.google.dev, OpenAI compatibility: Thinking
    no_thinking=_NONE,
    efforts=("minimal", *_LOW_TO_HIGH),
    signatures="gemini",
    schemas="openapi",  # "Unknown name \"$ref\"", "Unknown name \"const\"" (ai.google.dev, API reference: Schema)
    # "Unknown name \"frequency_penalty\": Cannot find field.", and the same of `seed`
    refused=frozenset({"frequency_penalty", "presence_penalty", "logit_bias", "seed", "verbosity"}),
    stops=5,  # "up to 5" (ai.google.dev, API reference: GenerationConfig)
)

GEMINI_3 = msgspec.structs.replace(
    GEMINI,
    # "Function call is missing a thought_signature in functionCall parts." For calls of other models the page names this
    # word (ai.google.dev, Thought signatures).
    unsigned=f"{GEMINI_SEAL}skip_thought_signature_validator",
)

MOONSHOT = Vocabulary(
    # "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes"
    tool_names=NameForm(WORD, 64, _LETTERS),
    # "Invalid request: the message at position 8 with role 'assistant' must not be empty", and "text content is empty"
    empty_turns=False,
    stops=5,  # "the number of stop_sequences must not exceed 5"
    hottest=1,  # platform.moonshot.ai, API reference of Chat: "Between 0 and 1"
    # "At path 'properties.x': conflicting keywords found after $ref expansion", "unsupported keywords: $schema"
    schemas="inline",
    media=IMAGES,
)
MOONSHOT_THINKING = msgspec.structs.replace(
    MOONSHOT,
    # "invalid temperature: only 1 is allowed for this model"; the model list says the same of the other settings
    refused=frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"}),
    # "tool_choice 'required' is incompatible with thinking enabled", and "'specified' is incompatible"
    choices="auto",
    efforts=(),
)
MOONSHOT_MAY_THINK = msgspec.structs.replace(
    MOONSHOT_THINKING, choices="unthinking", no_thinking=_DISABLED, thinking=_ENABLED
)
"""kimi-k2.5, k2.6 and k3 can be told not to think; k2-thinking and k2.7-code cannot: "invalid thinking: only type=enabled is
allowed for this model"."""

DEEPSEEK = Vocabulary(
    # api-docs.deepseek.com, Thinking Mode
    no_thinking=_DISABLED,
    thinking=_ENABLED,
    efforts=("high", "max"),
    choices="unthinking",  # "Thinking mode does not support this tool_choice"
    formats=frozenset({"json_object"}),  # "This response_format type is unavailable now", of `json_schema`
    stops=16,  # api-docs.deepseek.com, Create Chat Completion: "Up to 16 sequences"
    media=TEXT,  # "messages[0]: unknown variant `image_url`, expected `text`"
)

# console.groq.com, OpenAI compatibility: "Currently not supported and will result in a 400 error": and `messages[].name`
GROQ = Vocabulary(
    refused=frozenset({"logprobs", "top_logprobs", "logit_bias", "verbosity"}),  # "property 'verbosity' is unsupported"
    names=False,
    stops=4,  # its API reference: "Up to 4 sequences"
    efforts=(),  # console.groq.com, Reasoning, names the models that have the setting
    formats=frozenset({"json_object"}),  # "This model does not support response format `json_schema`"
    media=IMAGES,
)

# docs.z.ai, API reference of Chat Completion
ZAI = Vocabulary(
    no_thinking=_DISABLED,
    thinking=_ENABLED,
    efforts=(),
    choices="auto",  # "The default and only supported value is auto"
    formats=frozenset({"json_object"}),  # "Supports two formats: text, json_object"
    stops=1,  # "Currently, only one stop word is supported"
    hottest=1,  # "value range is [0.0, 1.0]"
    refused=frozenset(
        [
            *("frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "seed", "n"),
            *("parallel_tool_calls", "service_tier", "verbosity", "user"),
        ]
    ),
    names=False,
)

GROK = Vocabulary(
    # docs.x.ai, Reasoning: "The presencePenalty, frequencyPenalty and stop parameters are not supported by reasoning models."
    refused=frozenset({"presence_penalty", "frequency_penalty", "stop"}),
    efforts=(),  # "Model grok-4.20-0309-reasoning does not support parameter reasoningEffort."
    media=IMAGES,
)

# From its source, openai/openai.go: `invalid reasoning value: '%s' (must be "high", "medium", "low", or "none")`,
# "invalid image input" for addresses and other types, "invalid message format" for other parts. docs.ollama.com, OpenAI
# compatibility: `tool_choice`, `logit_bias`, `user` and `n` are not among its fields.
OLLAMA = Vocabulary(
    no_thinking=_NONE,
    efforts=_LOW_TO_HIGH,
    choices="auto",
    refused=frozenset({"logit_bias", "n"}),
    media=IMAGES,
    images=frozenset({"image/jpeg", "image/png", "image/webp"}),
    image_addresses=False,
)

PRESETS: Mapping[str, Vocabulary] = {
    "anthropic": ANTHROPIC,
    # "Currently not supported … 400 error" (inference-docs.cerebras.ai, OpenAI compatibility)
    "cerebras": Vocabulary(
        refused=frozenset(
            {"frequency_penalty", "presence_penalty", "logit_bias", "parallel_tool_calls", "service_tier"}
        ),
        hottest=1.5,  # its API reference of Chat Completions: "between 0 and 1.5"
        stops=4,  # the same page
    ),
    "deepseek": DEEPSEEK,
    # hexdocs.pm, ReqLLM, Fireworks AI: `none` is one of its efforts
    "fireworks": Vocabulary(no_thinking=_NONE, efforts=_LOW_TO_HIGH),
    "gemini": GEMINI,
    "groq": GROQ,
    # Its server's README: `chat_template_kwargs`, "For example: {"enable_thinking": false}"; `repeat_penalty`. A choice that
    # names a tool becomes `auto` there; it knows `image_url` and `input_audio`.
    "llama.cpp": Vocabulary(
        parameters={
            "repetition_penalty": "repeat_penalty",
            "reasoning_effort": "chat_template_kwargs.reasoning_effort",
        },
        no_thinking=_TEMPLATE_OFF,
        thinking=_TEMPLATE_ON,
        efforts=_LOW_TO_HIGH,
        choices="required",
        media=frozenset({"audio", "image"}),
    ),
    # lmstudio.ai, Chat Completions: Supported payload parameters. "Invalid tool_choice type: 'object'. Supported string
    # values: none, auto, required", "'response_format.type' must be 'json_schema' or 'text'". It names no field
    # that stops a model from thinking.
    "lmstudio": Vocabulary(
        parameters={"repetition_penalty": "repeat_penalty"},
        choices="required",
        formats=frozenset({"json_schema"}),
        media=IMAGES,
    ),
    # platform.minimax.io, Compatible OpenAI API: presence_penalty, frequency_penalty and logit_bias are ignored. `thinking`:
    # MiniMax-M3 takes it, and M2 thinks in any case. "(0.0, 1.0]" of the temperature.
    "minimax": Vocabulary(
        no_thinking=_DISABLED, refused=frozenset({"presence_penalty", "frequency_penalty", "logit_bias"}), hottest=1
    ),
    "mistral": MISTRAL,
    "moonshot": MOONSHOT,
    "ollama": OLLAMA,
    # openrouter.ai, Reasoning tokens: `reasoning.effort`, "Can be xhigh, high, medium, low, minimal or none". Marks: its
    # page on prompt caching.
    "openrouter": Vocabulary(
        parameters={"reasoning_effort": "reasoning.effort"},
        no_thinking={"reasoning": {"effort": "none"}},
        efforts=("minimal", *_LOW_TO_HIGH, "xhigh"),
        cache_marks=4,
    ),
    # www.alibabacloud.com/help, Deep thinking: "Set to false: The model responds directly." "The tool_choice parameter does
    # not support being set to required or object in thinking mode".
    "qwen": Vocabulary(
        no_thinking={"enable_thinking": False},
        thinking={"enable_thinking": True},
        efforts=(),
        choices="unthinking",
    ),
    # qwen.readthedocs.io, SGLang: `chat_template_kwargs`, `enable_thinking`
    # Going on with an answer: docs.sglang.ai, Sampling parameters
    "sglang": Vocabulary(
        prefill="continue_final_message",
        no_thinking=_TEMPLATE_OFF,
        thinking=_TEMPLATE_ON,
        efforts=_LOW_TO_HIGH,
        media=frozenset({"audio", "image"}),
    ),
    # docs.together.ai, Reasoning: "Supports both reasoning and non-reasoning modes via reasoning={"enabled": True/False}"
    "together": Vocabulary(
        no_thinking={"reasoning": {"enabled": False}},
        thinking={"reasoning": {"enabled": True}},
        efforts=(),
        media=IMAGES,
    ),
    # docs.vllm.ai, Reasoning Outputs: "To disable it, you must pass enable_thinking=False in your chat_template_kwargs";
    # `reasoning_effort: none` does the same in newer servers
    # Going on with an answer: docs.vllm.ai, OpenAI-Compatible Server, extra parameters
    "vllm": Vocabulary(
        prefill="continue_final_message",
        no_thinking=_NONE | _TEMPLATE_OFF,
        thinking=_TEMPLATE_ON,
        efforts=_LOW_TO_HIGH,
        media=frozenset({"audio", "image"}),
    ),
    "xai": Vocabulary(media=IMAGES),
    "zai": ZAI,
}
"""By the preset of a row of kind `openai-compatible`."""

_replaced = msgspec.structs.replace

MODELS: Mapping[str, tuple[tuple[re.Pattern[str], Vocabulary], ...]] = {
    "cerebras": ((re.compile(r"gpt-oss"), _replaced(PRESETS["cerebras"], efforts=_LOW_TO_HIGH)),),
    "deepseek": ((re.compile(r".*vision"), _replaced(DEEPSEEK, media=IMAGES)),),
    "gemini": ((re.compile(r"gemini-([3-9]|\d\d)"), GEMINI_3),),
    "groq": (
        # "`reasoning_effort` must be one of `low`, `medium`, or `high`"
        (
            re.compile(r"openai/gpt-oss"),
            _replaced(GROQ, efforts=_LOW_TO_HIGH, formats=frozenset({"json_object", "json_schema"})),
        ),
        (
            re.compile(r"moonshotai/|meta-llama/llama-4"),
            _replaced(GROQ, formats=frozenset({"json_object", "json_schema"})),
        ),
        # "`reasoning_effort` must be one of `none` or `default`"
        (re.compile(r"qwen/"), _replaced(GROQ, no_thinking=_NONE, thinking={"reasoning_effort": "default"})),
    ),
    "mistral": (
        (re.compile(r"mistral-large-[4-9]"), _replaced(MISTRAL, no_thinking=_NONE, efforts=_LOW_TO_HIGH)),
        (
            re.compile(r"mistral-(small-(latest|2603)|medium-3-5)"),
            _replaced(MISTRAL, no_thinking=_NONE, efforts=("high",)),
        ),
    ),
    "moonshot": (
        (re.compile(r"kimi-k2(-thinking|\.7)"), MOONSHOT_THINKING),
        (re.compile(r"kimi-k(2\.[5-9]|[3-9])"), MOONSHOT_MAY_THINK),
    ),
    "together": ((re.compile(r"openai/gpt-oss"), Vocabulary(efforts=_LOW_TO_HIGH, media=IMAGES)),),
    "xai": (
        # Grok 4.3, 4.5 and 4.6 take efforts and `none`; 4.20 refuses the field (release notes of @ai-sdk/xai)
        (re.compile(r"grok-4\.[3-9](?!\d)"), _replaced(GROK, no_thinking=_NONE, efforts=(*_LOW_TO_HIGH, "xhigh"))),
        (re.compile(r"grok-.*non-reasoning"), Vocabulary(efforts=(), media=IMAGES)),
        (re.compile(r"grok-3-mini"), _replaced(GROK, efforts=("low", "high"))),
        (re.compile(r"grok-[4-9]"), GROK),
    ),
}
"""By preset: models that differ from it. The first pattern that fits counts."""


def of_preset(preset: str, model: str) -> Vocabulary:
    """The vocabulary of a model behind a preset; "" for none."""
    known = PRESETS.get(preset, COMMON)
    return next((words for pattern, words in MODELS.get(preset, ()) if pattern.match(model)), known)


PROVIDERS: Mapping[str, Vocabulary] = {
    **PRESETS,
    "azure": OPENAI,
    # litellm is asked in OpenAI's form, whose results are text alone.
    "anthropic": msgspec.structs.replace(ANTHROPIC, result_media=False),
    "bedrock": msgspec.structs.replace(ANTHROPIC, result_media=False),
    "vertex_ai": msgspec.structs.replace(GEMINI, signatures=""),
    "gemini": msgspec.structs.replace(GEMINI, signatures=""),  # litellm has a place of its own for its signatures
}
"""By the provider that a model of kind `litellm` begins with. `openai/` may be any server of that language."""
