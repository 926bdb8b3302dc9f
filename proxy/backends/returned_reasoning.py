"""Which targets want earlier reasoning back, and in which form (C2). The source stands beside each row."""

from __future__ import annotations

from collections.abc import Mapping

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

PROVIDERS: Mapping[str, ReasoningReturn] = {
    **PRESETS,
    "anthropic": SIGNED,
    "bedrock": SIGNED,
    "vertex_ai": SIGNED,
}
"""By the provider that a model of kind `litellm` begins with."""
