"""The vocabularies of targets: one row for each kind, preset or family of models that differs from the common one.

A quotation beside a cell is the vendor's refusal as users reported it. Cells under `unchecked` follow what is commonly
known of the vendor; they have not been compared with its documentation yet.
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
    # unchecked
    tool_names=NameForm(WORD, 64),
    system="anywhere",
    developer=True,
    allowed_tools=True,
)

ANTHROPIC = Vocabulary(
    call_ids=CALL_IDS,
    # unchecked
    tool_names=NameForm(WORD, 128),
    signatures=True,
    images=frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"}),
    empty_turns=False,
)

ANTHROPIC_WITH_SYSTEM = msgspec.structs.replace(ANTHROPIC, system="anywhere")
"""Claude Opus since 4.8 takes `system` among the messages (unchecked). Other models answer 400 to it."""

MISTRAL = Vocabulary(
    # "Tool call id was call_49c89af0 but must be a-z, A-Z, 0-9, with a length of 9."
    call_ids=IdForm(_LETTERS + string.digits, 9, 9),
    # "Function name was ... but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64."
    tool_names=NameForm(WORD, 64),
    # unchecked
    parameters={"seed": "random_seed"},
    refused=frozenset({"user", "logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity"}),
    empty_turns=False,
)

GEMINI = Vocabulary(
    # "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores
    # (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
    tool_names=NameForm(WORD + ".:", 64, _LETTERS + "_"),
    no_thinking={"reasoning_effort": "none"},  # unchecked
)

MOONSHOT = Vocabulary(
    # "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes"
    tool_names=NameForm(WORD, 64, _LETTERS),
    empty_turns=False,  # unchecked
)

_TEMPLATE_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_DISABLED = {"thinking": {"type": "disabled"}}

PRESETS: Mapping[str, Vocabulary] = {
    "anthropic": ANTHROPIC,
    # unchecked: how each of these is told not to think, and what llama.cpp calls the penalty
    "deepseek": Vocabulary(no_thinking=_DISABLED),
    "gemini": GEMINI,
    "groq": Vocabulary(no_thinking={"reasoning_effort": "none"}),
    "llama.cpp": Vocabulary(parameters={"repetition_penalty": "repeat_penalty"}, no_thinking=_TEMPLATE_OFF),
    "mistral": MISTRAL,
    "moonshot": MOONSHOT,
    "ollama": Vocabulary(no_thinking={"reasoning_effort": "none"}),
    "openrouter": Vocabulary(no_thinking={"reasoning": {"effort": "none"}}),
    "sglang": Vocabulary(no_thinking=_TEMPLATE_OFF),
    # `reasoning_effort: none` for newer servers, the template's switch for all
    "vllm": Vocabulary(no_thinking={"reasoning_effort": "none", **_TEMPLATE_OFF}),
    "zai": Vocabulary(no_thinking=_DISABLED),
}
"""By the preset of a row of kind `openai-compatible`."""

PROVIDERS: Mapping[str, Vocabulary] = {
    **PRESETS,
    "azure": OPENAI,
    "bedrock": ANTHROPIC,
    "vertex_ai": GEMINI,
}
"""By the provider that a model of kind `litellm` begins with. `openai/` may be any server of that language."""
