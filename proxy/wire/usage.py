"""Token counts: those that cannot be true, and the camel-case names that the UI contracts share."""

import msgspec

from proxy.request import Usage


def believable(usage: Usage | None, estimate: int) -> Usage | None:
    """The upstream's counts, or an estimate for output that it did not count.

    `estimate` is about how many tokens the content has. Some upstreams count 0 for an answer with content, or fewer
    tokens than they count for the reasoning in it.
    """
    if usage is None or usage.output_tokens >= max(usage.reasoning_tokens, min(estimate, 1)):
        return usage
    return msgspec.structs.replace(usage, output_tokens=max(usage.reasoning_tokens, estimate), estimated=True)


def camel_counts(usage: Usage) -> dict[str, int]:
    """Token counts. Cached and reasoning tokens are named only if there are any, for not every model has them."""
    counts = {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens, "totalTokens": usage.total_tokens}
    if usage.cached_tokens:
        counts["cachedInputTokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        counts["reasoningTokens"] = usage.reasoning_tokens
    return counts
