"""Which settings of a request go to litellm, and which of them do not reach the provider.

litellm knows which of OpenAI's settings a model takes, and leaves out the others (`drop_params`). Settings that OpenAI
does not have it passes on to any provider, so they go only to providers that are known to take them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from proxy.backends.model_vocabularies import is_claude
from proxy.backends.returned_reasoning import of_provider
from proxy.backends.vocabularies import openai
from proxy.contracts.anthropic.params import SAMPLING, takes_sampling
from proxy.errors import Unsupported
from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.wire.json_body import NOT_EVERYWHERE, PARAMETERS
from proxy.wire.omissions import (
    does_not_think,
    failed_results,
    hosted_tools,
    ignored,
    ignored_settings,
    lost_reasoning,
    noticeable,
)
from proxy.wire.vocabulary import Vocabulary

PASSED_ON = frozenset(PARAMETERS) - {"n"}

_OPENAI = frozenset({"openai", "azure"})

_ONE_CALL_IS_UNSAID = frozenset({"bedrock", "gemini", "vertex_ai"})
"""Providers that litellm does not tell to call one tool alone, although it counts the setting as supported."""

_TOP_K = frozenset({"top_k"})
_MORE: Mapping[str, frozenset[str]] = {
    "anthropic": _TOP_K,
    "bedrock": _TOP_K,
    "gemini": _TOP_K,
    "vertex_ai": _TOP_K,
    "ollama": _TOP_K | {"min_p"},
    "ollama_chat": _TOP_K | {"min_p"},
    "hosted_vllm": NOT_EVERYWHERE,
    "openrouter": NOT_EVERYWHERE,
}
"""Providers that take settings OpenAI does not have."""


def passed_on(provider: str) -> frozenset[str]:
    """The settings that may go to litellm for one of this provider's models."""
    return (PASSED_ON - NOT_EVERYWHERE) | _MORE.get(provider, frozenset())


def refuse_unsupported(request: ChatRequest, names: Collection[str]) -> None:
    """Refuse settings that the target does not take, where nothing is to be dropped. Hints are not demands."""
    for name in NOT_EVERYWHERE.difference(names, request.hints, request.routed):
        if noticeable(request, name):
            raise Unsupported(f"{name}: this target does not take it", param=name)


def no_word_for_it(request: ChatRequest, words: Vocabulary) -> bool:
    """Whether an answer without thinking is asked of a model that is known to have no setting for it.

    litellm passes it on to some that answer 400.
    """
    return words.efforts == () and not words.no_thinking and does_not_think(request)


def omissions(
    request: ChatRequest,
    sent: Mapping[str, Any],
    *,
    supported: Collection[str] | None,
    provider: str,
    model: str,
    words: Vocabulary,
) -> list[Notice]:
    """What of a request does not reach the provider. `supported` are OpenAI's settings that litellm says it takes."""
    lost = {name for name in request.params if name not in sent}
    if supported is not None:
        lost |= request.params.keys() - NOT_EVERYWHERE - frozenset(supported)
    if provider in _OPENAI:  # litellm drops what its models refuse, and counts it as supported
        lost |= openai(model.rpartition("/")[2]).refused & request.params.keys()
    if not takes_sampling(model):
        lost.update(SAMPLING)
    claude = is_claude(provider, model)
    if (claude or provider == "bedrock") and request.params.get("response_format") == {"type": "json_object"}:
        lost.add("response_format")  # litellm's form of it is left out
    if not claude and provider in _ONE_CALL_IS_UNSAID:
        lost.add("parallel_tool_calls")
    if "thinking" in sent:
        lost.discard("reasoning_effort")
    notices = ignored_settings(request, [name for name in request.params if name in lost])
    if "reasoning_effort" in lost and does_not_think(request) and words.no_thinking != {}:
        notices.append(ignored("reasoning_effort", "it is not known how this target is told not to think"))
    if request.user and supported is not None and "user" not in supported:
        notices.append(ignored("user"))
    if of_provider(provider, model) is None:
        notices += lost_reasoning(request)
    return [*notices, *hosted_tools(request), *failed_results(request)]
