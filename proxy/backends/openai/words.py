"""Settings in the words of a server that speaks OpenAI Chat Completions in its own way."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.wire.omissions import does_not_think, ignored, ignored_settings
from proxy.wire.vocabulary import EFFORTS, Vocabulary

_WHO_ASKS = frozenset({"user", "safety_identifier"})
_EFFORT = "reasoning_effort"


def in_words(words: Vocabulary, request: ChatRequest, body: dict[str, Any], *, translated: bool) -> dict[str, Any]:
    """The body in the server's own words. A body that is not `translated` keeps what its client wrote."""
    if words.no_thinking and does_not_think(request):
        body = {name: value for name, value in body.items() if name != _EFFORT} | dict(words.no_thinking)
    if translated:
        if _EFFORT in request.params:
            body = _with_effort(words, request, body)
        lost = refused(words, request)
        if not lost.isdisjoint(body):
            body = {name: value for name, value in body.items() if name not in lost}
        body |= going_on(words, body["messages"])
    for name, theirs in words.parameters.items():
        if name in body:
            _place(body, theirs, body.pop(name))
    return body


def _with_effort(words: Vocabulary, request: ChatRequest, body: dict[str, Any]) -> dict[str, Any]:
    """The body with an effort to think in the server's words: the nearest one that it has."""
    effort = request.params.get(_EFFORT)
    if words.efforts is None or effort not in ("none", *EFFORTS) or (effort == "none" and words.no_thinking):
        return body
    if effort == "none":
        return {name: value for name, value in body.items() if name != _EFFORT}
    body = {name: value for name, value in body.items() if name != _EFFORT} | dict(words.thinking)
    if words.efforts:
        body[_EFFORT] = nearest_effort(words, effort)
    return body


def nearest_effort(words: Vocabulary, effort: Any) -> Any:
    """The server's word for an effort of OpenAI's; another value comes back as it is."""
    if not words.efforts or effort not in EFFORTS:
        return effort
    asked = EFFORTS.index(effort)
    return min(words.efforts, key=lambda one: abs(EFFORTS.index(one) - asked))


def going_on(words: Vocabulary, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The fields that make a model go on with an answer at the end of `messages`, or a mark on that answer."""
    if messages[-1]["role"] == "assistant":
        if words.prefill == "prefix_flag":
            messages[-1]["prefix"] = True
        elif words.prefill == "continue_final_message":
            return {"continue_final_message": True, "add_generation_prompt": False}
    return {}


def refused(words: Vocabulary, request: ChatRequest) -> frozenset[str]:
    """The settings that the server answers with an error beside what else is asked, or ignores."""
    thinks = request.params.get(_EFFORT) not in (None, "none")
    return words.refused | words.refused_thinking if thinks else words.refused


def _place(body: dict[str, Any], name: str, value: Any) -> None:
    """Put a value under a name, which may be that of a field in another one: `reasoning.effort`."""
    name, _, inner = name.partition(".")
    outer = body.get(name)
    body[name] = {**(outer if isinstance(outer, dict) else {}), inner: value} if inner else value


def unsaid(
    words: Vocabulary, request: ChatRequest, fields: Mapping[str, Any]
) -> tuple[Mapping[str, Any], list[Notice]]:
    """The body's fields under OpenAI's names, and notices for those that the server has no words for."""
    if not (request.params or request.hints or request.user):
        return fields, []
    without = refused(words, request)
    unnamed = request.user and "user" in without and _WHO_ASKS.isdisjoint(fields)
    notices = [ignored("user")] if unnamed else []
    said = dict.fromkeys(_said(words, request, fields))
    sent = {**fields, **said} if said else fields
    lost = {*without, *((_EFFORT,) if words.efforts == () else ())}.difference(sent, request.hints)
    notices += ignored_settings(request, sorted(lost))
    if does_not_think(request) and words.no_thinking is None and _EFFORT not in fields:
        notices.append(ignored(_EFFORT, "it is not known how this target is told not to think"))
    return sent, notices


def _said(words: Vocabulary, request: ChatRequest, fields: Mapping[str, Any]) -> Iterator[str]:
    """The settings that the body has under other names, or that `unsaid` announces itself."""
    for name, theirs in words.parameters.items():
        if theirs.partition(".")[0] in fields:
            yield name
    if _EFFORT in request.params and (does_not_think(request) or words.thinking):
        yield _EFFORT
