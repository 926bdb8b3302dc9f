"""Settings in the words of a server that speaks OpenAI Chat Completions in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.wire.omissions import does_not_think, ignored, ignored_settings
from proxy.wire.vocabulary import Vocabulary

_WHO_ASKS = frozenset({"user", "safety_identifier"})


def in_words(words: Vocabulary, request: ChatRequest, body: dict[str, Any], *, translated: bool) -> dict[str, Any]:
    """The body in the server's own words. A body that is not `translated` keeps what its client wrote."""
    if words.no_thinking and does_not_think(request):
        body = {**{name: value for name, value in body.items() if name != "reasoning_effort"}, **words.no_thinking}
    if translated:
        body = {name: value for name, value in body.items() if name not in words.refused}
        if body["messages"][-1]["role"] == "assistant":
            if words.prefill == "prefix_flag":
                body["messages"][-1]["prefix"] = True
            elif words.prefill == "continue_final_message":
                body |= {"continue_final_message": True, "add_generation_prompt": False}
    for name in words.parameters.keys() & body.keys():
        body[words.parameters[name]] = body.pop(name)
    return body


def unsaid(
    words: Vocabulary, request: ChatRequest, fields: Mapping[str, Any]
) -> tuple[Mapping[str, Any], list[Notice]]:
    """The body's fields under OpenAI's names, and notices for those that the server has no words for."""
    unnamed = request.user and "user" in words.refused and _WHO_ASKS.isdisjoint(fields)
    notices = [ignored("user")] if unnamed else []
    if not words.parameters and not words.refused and not does_not_think(request):
        return fields, notices
    sent = {**fields, **{name: None for name, theirs in words.parameters.items() if theirs in fields}}
    notices += ignored_settings(request, [name for name in words.refused if name not in sent])
    if does_not_think(request) and "reasoning_effort" not in sent:
        if not words.no_thinking:
            notices.append(ignored("reasoning_effort", "it is not known how this target is told not to think"))
        sent["reasoning_effort"] = None
    return sent, notices
