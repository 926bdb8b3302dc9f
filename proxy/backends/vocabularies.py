"""The vocabularies of targets: one row for each kind or preset that differs from the common one.

A quotation beside a cell is the vendor's page, or its refusal as users reported it.
"""

import re
import string
from collections.abc import Mapping

import msgspec

from proxy.contracts.anthropic.params import takes_late_system, takes_prefill
from proxy.contracts.anthropic.upstream_request import CALL_IDS
from proxy.wire.vocabulary import WORD, IdForm, NameForm, Vocabulary

_LETTERS = string.ascii_letters

COMMON = Vocabulary()
"""What most servers of OpenAI's language take."""

_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})

OPENAI = Vocabulary(
    images=_PICTURES,  # "Supported types: PNG, JPEG, WEBP, non-animated GIF" (platform.openai.com, Images and vision)
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

OPENAI_PLAIN = msgspec.structs.replace(OPENAI, no_thinking={}, efforts=(), refused=frozenset({"verbosity"}))
"""Models that do not think: "Unrecognized request argument supplied: reasoning_effort". Of `verbosity` they take one value:
"Supported values are: 'medium'"."""

LOW_TO_HIGH = ("low", "medium", "high")
HIGH_LOW_MAX = ("high", "low", "max")  # `medium` and `xhigh` become `high` there
_SAMPLING = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
_PENALTIES = frozenset({"presence_penalty", "frequency_penalty", "logit_bias", "stop"})

OPENAI_O = msgspec.structs.replace(OPENAI, refused=_SAMPLING | _PENALTIES, efforts=LOW_TO_HIGH)
"""o1 to o4: "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) value is
supported", "Unsupported parameter: 'stop' is not supported with this model"."""

OPENAI_5 = msgspec.structs.replace(OPENAI_O, efforts=("minimal", *LOW_TO_HIGH))

OPENAI_MAY_THINK = msgspec.structs.replace(
    OPENAI,
    refused=_PENALTIES,
    refused_thinking=_SAMPLING,
    no_thinking={"reasoning_effort": "none"},
    efforts=(*LOW_TO_HIGH, "xhigh"),
)
"""GPT-5.1 to 5.3 think if asked to: "The following parameters are only supported when using GPT-5.2 with reasoning effort set
to none: temperature, top_p, logprobs" (platform.openai.com, Using GPT-5.2)."""

OPENAI_THINKS_ALONE = msgspec.structs.replace(OPENAI_MAY_THINK, effort_with_tools=False)
"""Since GPT-5.4: "Function tools with reasoning_effort are not supported for gpt-5.6-luna in /v1/chat/completions. To use
function tools, use /v1/responses or set reasoning_effort to 'none'." """

_OPENAI_MODELS = (
    (re.compile(r"gpt-3|gpt-4|.*-chat|chatgpt"), OPENAI_PLAIN),
    (re.compile(r"gpt-5\.1(?!\d)"), msgspec.structs.replace(OPENAI_MAY_THINK, efforts=LOW_TO_HIGH)),
    (re.compile(r"gpt-5\.[23](?!\d)"), OPENAI_MAY_THINK),
    (re.compile(r"gpt-5\.\d|gpt-[6-9]"), OPENAI_THINKS_ALONE),
    (re.compile(r"gpt-5"), OPENAI_5),
    (re.compile(r"o\d"), OPENAI_O),
)


def openai(model: str, unknown: Vocabulary = OPENAI) -> Vocabulary:
    """The vocabulary of a model at OpenAI or Azure; `unknown` for a name that is none of OpenAI's."""
    return next((words for pattern, words in _OPENAI_MODELS if pattern.match(model)), unknown)


ANTHROPIC = Vocabulary(
    call_ids=CALL_IDS,
    # "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    tool_names=NameForm(WORD, 128),
    signatures="anthropic",
    no_thinking={},
    cache_marks=4,  # "You can define up to 4 cache breakpoints" (platform.claude.com, Prompt caching)
    hottest=1,  # "Ranges from `0.0` to `1.0`" (platform.claude.com, API reference of Messages)
    media=frozenset({"file", "image"}),
    file_ids="anthropic",
    result_media=True,
    images=_PICTURES,
    empty_turns=False,
    prefill="trailing",
    names=False,  # its API reference has no `name` for messages
    blank_stops=False,  # "stop_sequences: each stop sequence must contain non-whitespace"
)

ANTHROPIC_WITHOUT_PREFILL = msgspec.structs.replace(ANTHROPIC, prefill="none")
"""Claude since 4.6: "This model does not support assistant message prefill. The conversation must end with a user message."
(platform.claude.com, Errors: prefill not supported)."""

ANTHROPIC_WITH_SYSTEM = msgspec.structs.replace(ANTHROPIC_WITHOUT_PREFILL, system="after_user")
"""Claude Opus since 4.8 and every model since 5 but Sonnet 5 take `system` right after a user's turn (platform.claude.com,
Mid-conversation system messages). Others answer "role 'system' is not supported on this model"."""


# Converse, which litellm asks: "failed to satisfy constraint: Member must satisfy regular expression pattern:
# [a-zA-Z0-9_-]+", "Member must have length less than or equal to 64", of names and ids; "The text field in the
# ContentBlock object at messages.1.content.0 is blank"; "A conversation must start with a user message. Try again with a
# conversation that starts with a user message.", of Claude and of Nova; its API reference: of `temperature`, "Maximum value of 1", and the image formats.
BEDROCK = Vocabulary(
    call_ids=CALL_IDS,
    tool_names=NameForm(WORD, 64),
    hottest=1,
    media=ANTHROPIC.media,
    file_ids="",
    images=ANTHROPIC.images,
    empty_turns=False,
    user_first=True,
    names=False,
)


def anthropic(model: str) -> Vocabulary:
    """The vocabulary of a Claude model."""
    if takes_late_system(model):
        return ANTHROPIC_WITH_SYSTEM
    return ANTHROPIC if takes_prefill(model) else ANTHROPIC_WITHOUT_PREFILL


IMAGES = frozenset({"image"})
TEXT: frozenset[str] = frozenset()
_TEMPLATE_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_TEMPLATE_ON = {"chat_template_kwargs": {"enable_thinking": True}}
DISABLED = {"thinking": {"type": "disabled"}}
ENABLED = {"thinking": {"type": "enabled"}}
EFFORT_NONE = {"reasoning_effort": "none"}

MISTRAL = Vocabulary(
    # "Tool call id was call_49c89af0 but must be a-z, A-Z, 0-9, with a length of 9."
    call_ids=IdForm(_LETTERS + string.digits, 9, 9),
    # "Function name was ... but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64."
    tool_names=NameForm(WORD, 64),
    # docs.mistral.ai, API reference of chat completions; a field that it does not list is a 422, `extra_forbidden`
    parameters={"seed": "random_seed"},
    refused=frozenset({"user", "logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity"}),
    hottest=1.5,  # the same page: at most 1.5; "we recommend between 0.0 and 0.7"
    efforts=(),  # docs.mistral.ai, Reasoning, names the models that have the setting
    empty_turns=False,
    # "Unexpected role 'user' after role 'tool'", code 3230
    user_after_result=False,
    # "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
    prefill="prefix_flag",
    names=False,  # a `name` outside of results is an unknown field, which is a 422
    # The same page: its parts are `text`, `image_url`, `document_url`, `reference`, `file`, and `input_audio`. docs.mistral.ai,
    # Document QnA, has PDFs for every model; Audio, sounds for Voxtral alone
    media=frozenset({"file", "image"}),
    files=frozenset({"application/pdf"}),
    file_ids="",
    parts="mistral",
    images=_PICTURES,
)

GEMINI = Vocabulary(
    # "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores
    # (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
    tool_names=NameForm(WORD + ".:", 64, _LETTERS + "_"),
    # ai.google.dev, OpenAI compatibility: "set reasoning_effort to "none" for 2.5 models"
    no_thinking=EFFORT_NONE,
    efforts=("minimal", *LOW_TO_HIGH),
    signatures="gemini",
    schemas="openapi",  # "Unknown name \"$ref\"", "Unknown name \"const\"" (ai.google.dev, API reference: Schema)
    # "Unknown name \"frequency_penalty\": Cannot find field.", and the same of `seed`
    refused=frozenset({"frequency_penalty", "presence_penalty", "logit_bias", "seed", "verbosity"}),
    file_ids="",  # its form of OpenAI's language takes `file_data`
    # "Unsupported MIME type: image/gif", and of image/svg+xml (ai.google.dev, Image understanding: Supported image formats)
    images=frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"}),
    stops=5,  # "character sequences (up to 5) that will stop output" (ai.google.dev, API reference: GenerationConfig)
)

MOONSHOT = Vocabulary(
    # "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes"
    tool_names=NameForm(WORD, 64, _LETTERS),
    # "Invalid request: the message at position 8 with role 'assistant' must not be empty", and "text content is empty"
    empty_turns=False,
    stops=5,  # platform.kimi.ai, API reference of Chat: "A maximum of 5 strings is allowed"
    hottest=1,  # platform.kimi.ai, Migrating from OpenAI: [0, 1]
    # "URL-formatted images: Not supported" (platform.kimi.ai, Use Kimi vision model)
    image_addresses=False,
    # "At path 'properties.x': conflicting keywords found after $ref expansion", "unsupported keywords: $schema"
    schemas="inline",
    media=IMAGES,
)

DEEPSEEK = Vocabulary(
    # api-docs.deepseek.com, Thinking Mode
    no_thinking=DISABLED,
    thinking=ENABLED,
    efforts=HIGH_LOW_MAX,
    # "no longer supported. It will not take effect" (Create Chat Completion)
    refused=frozenset({"frequency_penalty", "presence_penalty"}),
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
    no_thinking=DISABLED,
    thinking=ENABLED,
    efforts=(),
    choices="auto",  # "The default value is auto, and only auto is supported"
    formats=frozenset({"json_object"}),  # "Supports two formats", `text` and `json_object`
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

# From its source, openai/openai.go: `invalid reasoning value: '%s' (must be "high", "medium", "low", or "none")`,
# "invalid image input" for addresses and other types, "invalid message format" for other parts. docs.ollama.com, OpenAI
# compatibility: `tool_choice`, `logit_bias`, `user` and `n` are not among its fields.
OLLAMA = Vocabulary(
    no_thinking=EFFORT_NONE,
    efforts=LOW_TO_HIGH,
    choices="auto",
    refused=frozenset({"logit_bias", "n"}),
    media=IMAGES,
    images=frozenset({"image/jpeg", "image/png", "image/webp"}),
    image_addresses=False,
)

PRESETS: Mapping[str, Vocabulary] = {
    "anthropic": ANTHROPIC,
    # inference-docs.cerebras.ai, OpenAI compatibility: "currently not supported and will result in a 400 error". Its API
    # reference of Chat Completions: "Up to 4 sequences"
    "cerebras": Vocabulary(refused=frozenset({"frequency_penalty", "presence_penalty", "logit_bias"}), stops=4),
    "deepseek": DEEPSEEK,
    # docs.fireworks.ai, Reasoning: `none` is one of the efforts of most models
    "fireworks": Vocabulary(no_thinking=EFFORT_NONE, efforts=LOW_TO_HIGH),
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
        efforts=LOW_TO_HIGH,
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
    # platform.minimax.io, Compatible OpenAI API: presence_penalty, frequency_penalty and logit_bias are ignored; `thinking`
    # is `disabled` or `adaptive`; "audio input is not" supported. Its `temperature` goes up to 2; users report that 0
    # is refused, as it was while the range was (0, 1]: "Values outside this range will return an error"
    "minimax": Vocabulary(
        coldest=0.01,
        no_thinking=DISABLED,
        thinking={"thinking": {"type": "adaptive"}},
        efforts=(),
        refused=frozenset({"presence_penalty", "frequency_penalty", "logit_bias"}),
        media=IMAGES,
    ),
    "mistral": MISTRAL,
    "moonshot": MOONSHOT,
    "ollama": OLLAMA,
    # openrouter.ai, Reasoning tokens: `reasoning.effort`, "Can be xhigh, high, medium, low, minimal or none". Marks: its
    # page on prompt caching.
    "openrouter": Vocabulary(
        parameters={"reasoning_effort": "reasoning.effort"},
        no_thinking={"reasoning": {"effort": "none"}},
        efforts=("minimal", *LOW_TO_HIGH, "xhigh"),
        file_ids="",
        cache_marks=4,
    ),
    # www.alibabacloud.com/help, Deep thinking: "Set to false: The model responds directly." "The tool_choice parameter does
    # not support being set to required or object in thinking mode".
    "qwen": Vocabulary(
        no_thinking={"enable_thinking": False}, thinking={"enable_thinking": True}, efforts=(), choices="unthinking"
    ),
    # qwen.readthedocs.io, SGLang: `chat_template_kwargs`, `enable_thinking`
    # Going on with an answer: from its source, openai/serving_chat.py
    "sglang": Vocabulary(
        prefill="continue_final_message",
        no_thinking=_TEMPLATE_OFF,
        thinking=_TEMPLATE_ON,
        efforts=LOW_TO_HIGH,
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
        no_thinking=EFFORT_NONE | _TEMPLATE_OFF,
        thinking=_TEMPLATE_ON,
        efforts=LOW_TO_HIGH,
        media=frozenset({"audio", "image"}),
    ),
    "xai": Vocabulary(media=IMAGES, stops=4),  # "Up to 4" (docs.x.ai, API reference of Chat Completions)
    "zai": ZAI,
}
"""By the preset of a row of kind `openai-compatible`."""
