"""The vocabularies of targets: one row for each kind, preset or family of models that differs from the common one.

The source of each cell stands beside it: the vendor's own documentation, or the words of its refusal.
"""

from __future__ import annotations

import string
from collections.abc import Mapping

import msgspec

from proxy.contracts.anthropic.upstream_request import CALL_IDS
from proxy.wire.vocabulary import WORD, IdForm, NameForm, Vocabulary

_LETTERS = string.ascii_letters

COMMON = Vocabulary()
"""What most servers of OpenAI's language take."""

OPENAI = Vocabulary(
    # "Invalid 'messages[2].tool_calls[0].id': string too long. Expected a string with maximum length 40"
    call_ids=IdForm(longest=40),
    tool_names=NameForm(WORD, 64),  # API reference, `tools.function.name`
    system="anywhere",
    developer=True,  # API reference, `messages`: developer message
    allowed_tools=True,  # API reference, `tool_choice`: allowed tools
)

ANTHROPIC = Vocabulary(
    call_ids=CALL_IDS,
    tool_names=NameForm(WORD, 128),  # "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    signatures=True,  # extended thinking: "The signature of each thinking block must be returned unchanged"
    images=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),  # vision guide
    empty_turns=False,  # "messages.0: all messages must have non-empty content"
)

ANTHROPIC_WITH_SYSTEM = msgspec.structs.replace(ANTHROPIC, system="anywhere")
"""Claude Opus since 4.8 takes `system` among the messages. Other models answer 400 to it."""

MISTRAL = Vocabulary(
    # "Tool call id was call_49c89af0 but must be a-z, A-Z, 0-9, with a length of 9."
    call_ids=IdForm(_LETTERS + string.digits, 9, 9),
    # "Function name was ... but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64."
    tool_names=NameForm(WORD, 64),
    parameters={"seed": "random_seed"},  # API reference, chat completion
    # "Extra inputs are not permitted": fields of OpenAI's that the API reference does not list
    refused=frozenset({"user", "logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity"}),
    empty_turns=False,  # "Assistant message must have either content or tool_calls, but not none."
)

GEMINI = Vocabulary(
    # "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores
    # (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
    tool_names=NameForm(WORD + ".:", 64, _LETTERS + "_"),
    no_thinking={"reasoning_effort": "none"},  # OpenAI compatibility: thinking
)

MOONSHOT = Vocabulary(
    # "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes"
    tool_names=NameForm(WORD, 64, _LETTERS),
    empty_turns=False,  # "Invalid request: the message at position 1 with role 'assistant' must not be empty"
)

_TEMPLATE_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_DISABLED = {"thinking": {"type": "disabled"}}

PRESETS: Mapping[str, Vocabulary] = {
    "anthropic": ANTHROPIC,
    "deepseek": Vocabulary(no_thinking=_DISABLED),  # guide: thinking mode
    "gemini": GEMINI,
    "groq": Vocabulary(no_thinking={"reasoning_effort": "none"}),  # reasoning: options for reasoning effort
    # Server README: `repeat_penalty`, and `chat_template_kwargs`
    "llama.cpp": Vocabulary(parameters={"repetition_penalty": "repeat_penalty"}, no_thinking=_TEMPLATE_OFF),
    "mistral": MISTRAL,
    "moonshot": MOONSHOT,
    "ollama": Vocabulary(no_thinking={"reasoning_effort": "none"}),  # OpenAI compatibility: reasoning_effort
    "openrouter": Vocabulary(no_thinking={"reasoning": {"effort": "none"}}),  # reasoning tokens
    "sglang": Vocabulary(no_thinking=_TEMPLATE_OFF),  # reasoning parser: turning thinking off
    # Reasoning outputs: `reasoning_effort: none` for newer servers, the template's switch for all
    "vllm": Vocabulary(no_thinking={"reasoning_effort": "none", **_TEMPLATE_OFF}),
    "zai": Vocabulary(no_thinking=_DISABLED),  # API reference: thinking
}
"""By the preset of a row of kind `openai-compatible`."""

PROVIDERS: Mapping[str, Vocabulary] = {
    **PRESETS,
    "azure": OPENAI,
    "bedrock": ANTHROPIC,
    "vertex_ai": GEMINI,
}
"""By the provider that a model of kind `litellm` begins with. `openai/` may be any server of that language."""
