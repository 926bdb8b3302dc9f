"""Token counts under the camel-case names that the UI contracts share."""

from __future__ import annotations

from proxy.request import Usage


def camel_counts(usage: Usage) -> dict[str, int]:
    """Token counts. Cached and reasoning tokens are named only if there are any, for not every model has them."""
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
