"""The vocabularies of targets: one row for each kind, preset or family of models that differs from the common one.

A quotation beside a cell is the vendor's refusal as users reported it. Cells under `unchecked` follow what is commonly
known of the vendor; they have not been compared with its documentation yet.
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
)

ANTHROPIC = Vocabulary(
    call_ids=CALL_IDS,
    # "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    tool_names=NameForm(WORD, 128),
    signatures="anthropic",
    cache_marks=4,  # "You can define up to 4 cache breakpoints" (docs.anthropic.com, Prompt caching)
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


MISTRAL = Vocabulary(
    # "Tool call id was call_49c89af0 but must be a-z, A-Z, 0-9, with a length of 9."
    call_ids=IdForm(_LETTERS + string.digits, 9, 9),
    # "Function name was ... but must be a-z, A-Z, 0-9, or contain underscores and dashes, with a maximum length of 64."
    tool_names=NameForm(WORD, 64),
    # docs.mistral.ai, API reference of chat completions; a field that it does not list is a 422, `extra_forbidden`
    parameters={"seed": "random_seed"},
    refused=frozenset({"user", "logit_bias", "logprobs", "top_logprobs", "service_tier", "verbosity"}),
    empty_turns=False,
    # "Unexpected role 'user' after role 'tool'", code 3230
    user_after_result=False,
    # "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
    prefill="prefix_flag",
    names=False,  # a `name` outside of results is an unknown field, which is a 422
)

GEMINI = Vocabulary(
    # "Invalid function name. Must start with a letter or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores
    # (_), dots (.), colons (:), or dashes (-), with a maximum length of 64."
    tool_names=NameForm(WORD + ".:", 64, _LETTERS + "_"),
    no_thinking={"reasoning_effort": "none"},  # ai.google.dev, OpenAI compatibility: Thinking
    signatures="gemini",
)

GEMINI_3 = msgspec.structs.replace(
    GEMINI,
    # "Function call is missing a thought_signature in functionCall parts." For calls of other models the page names this
    # word (ai.google.dev, Thought signatures).
    unsigned=f"{GEMINI_SEAL}skip_thought_signature_validator",
)
_GEMINI_3 = re.compile(r"gemini-([3-9]|\d\d)")

GROK = Vocabulary(no_thinking={"reasoning_effort": "none"})
"""grok-4.3 takes `none`; grok-4.20 refuses the field (release notes of @ai-sdk/xai)."""

MOONSHOT = Vocabulary(
    # "function name is invalid, must start with a letter and can contain letters, numbers, underscores, and dashes"
    tool_names=NameForm(WORD, 64, _LETTERS),
    # "Invalid request: the message at position 8 with role 'assistant' must not be empty", and "text content is empty"
    empty_turns=False,
)

_TEMPLATE_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_DISABLED = {"thinking": {"type": "disabled"}}

PRESETS: Mapping[str, Vocabulary] = {
    "anthropic": ANTHROPIC,
    # "Currently not supported … 400 error" (inference-docs.cerebras.ai, OpenAI compatibility)
    "cerebras": Vocabulary(
        refused=frozenset(
            {"frequency_penalty", "presence_penalty", "logit_bias", "parallel_tool_calls", "service_tier"}
        )
    ),
    "deepseek": Vocabulary(no_thinking=_DISABLED),  # api-docs.deepseek.com, Thinking Mode
    # hexdocs.pm, ReqLLM, Fireworks AI: `none` is one of its efforts
    "fireworks": Vocabulary(no_thinking={"reasoning_effort": "none"}),
    "gemini": GEMINI,
    # "Currently not supported and will result in a 400 error": and `messages[].name` (console.groq.com, OpenAI
    # compatibility). Not to think: unchecked.
    "groq": Vocabulary(
        no_thinking={"reasoning_effort": "none"},
        refused=frozenset({"logprobs", "top_logprobs", "logit_bias"}),
        names=False,
    ),
    # unchecked: not to think, and what llama.cpp calls the penalty
    "llama.cpp": Vocabulary(parameters={"repetition_penalty": "repeat_penalty"}, no_thinking=_TEMPLATE_OFF),
    # lmstudio.ai, Chat Completions: Supported payload parameters. Not to think: unchecked.
    "lmstudio": Vocabulary(parameters={"repetition_penalty": "repeat_penalty"}),
    # platform.minimax.io, Compatible OpenAI API: presence_penalty, frequency_penalty and logit_bias are ignored. `thinking`:
    # MiniMax-M3 takes it, and M2 thinks in any case.
    "minimax": Vocabulary(
        no_thinking=_DISABLED, refused=frozenset({"presence_penalty", "frequency_penalty", "logit_bias"})
    ),
    "mistral": MISTRAL,
    "moonshot": MOONSHOT,
    # unchecked
    "ollama": Vocabulary(no_thinking={"reasoning_effort": "none"}),
    # Marks: its page on prompt caching (unchecked). Not to think: unchecked.
    "openrouter": Vocabulary(no_thinking={"reasoning": {"effort": "none"}}, cache_marks=4),
    # www.alibabacloud.com/help, Deep thinking: "Set to false: The model responds directly."
    "qwen": Vocabulary(no_thinking={"enable_thinking": False}),
    # unchecked
    # Going on with an answer: docs.sglang.ai, Sampling parameters (unchecked)
    "sglang": Vocabulary(prefill="continue_final_message", no_thinking=_TEMPLATE_OFF),
    # docs.together.ai, Reasoning: "Supports both reasoning and non-reasoning modes via reasoning={"enabled": True/False}"
    "together": Vocabulary(no_thinking={"reasoning": {"enabled": False}}),
    # unchecked: `reasoning_effort: none` for newer servers, the template's switch for all
    # Going on with an answer: docs.vllm.ai, OpenAI-Compatible Server, extra parameters
    "vllm": Vocabulary(prefill="continue_final_message", no_thinking={"reasoning_effort": "none", **_TEMPLATE_OFF}),
    # unchecked
    "zai": Vocabulary(no_thinking=_DISABLED),
}
"""By the preset of a row of kind `openai-compatible`."""


def of_preset(preset: str, model: str) -> Vocabulary:
    """The vocabulary of a model behind a preset; "" for none."""
    if preset == "gemini" and _GEMINI_3.match(model):
        return GEMINI_3
    if preset == "xai" and model.startswith("grok-4.3"):
        return GROK
    return PRESETS.get(preset, COMMON)


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
