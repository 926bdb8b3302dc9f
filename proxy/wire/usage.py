"""Token counts by the camel-case names that the contracts of user interfaces share. Unknown is not zero."""

from __future__ import annotations

from proxy.request import Usage


def camel_counts(usage: Usage) -> dict[str, int]:
    """What is to be told of tokens: those of kinds that not every model has are named only where there are some."""
    counts = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
    }
    if usage.cached_tokens:
        counts["cachedInputTokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        counts["reasoningTokens"] = usage.reasoning_tokens
    return counts
