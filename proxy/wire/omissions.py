"""Notices for the parts of a request that are not sent to the upstream and that the client may miss.

Something that a contract or an upstream cannot carry is left out silently if it makes no difference, announced if the
client could notice, and refused (`Unsupported`) if the answer would not be what was asked for. Each dialect knows
what it leaves out; this module decides whether to announce it. Nobody misses a value that asks for what happens
anyway, or a value that the route chose.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.wire.conversation import INTERRUPTED
from proxy.wire.json_text import json_string

_ANYWAY: Mapping[str, tuple[Any, ...]] = {
    "temperature": (1,),
    "top_p": (1,),
    "min_p": (0,),
    "repetition_penalty": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "n": (1,),
    "logprobs": (False,),
    "logit_bias": ({},),
    "stop": ("", []),
    "response_format": ({"type": "text"},),
    "tool_choice": ("auto", "none"),
    "parallel_tool_calls": (True,),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "include": (["reasoning.encrypted_content"],),  # of Responses: it comes in any case
    "truncation": ("disabled",),
}
"""The values that change nothing, by setting."""

_NOTHING: tuple[Any, ...] = (None, False, "", [], {})

SETTINGS = frozenset({
    "audio", "logprobs", "modalities", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    "store", "thinking", "top_logprobs", "web_search_options",
})  # fmt: skip
"""Settings of chats that not every contract has. In a body that is shared with an application, others are its own."""

MOST_UNREAD = 16  # names in one list: a client may send any number of fields

_NEEDS_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})
_NEEDS_LOGPROBS = "top_logprobs"
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def noticeable(request: ChatRequest, name: str) -> bool:
    """Whether the client would miss this setting."""
    value = request.params.get(name)
    if value is None or name in request.routed or value in _ANYWAY.get(name, ()):
        return False
    if name == _NEEDS_LOGPROBS:
        return request.params.get("logprobs") is True
    return name not in _NEEDS_TOOLS or bool(request.tools)


def unread(fields: Mapping[str, Any], known: frozenset[str], at: str = "") -> tuple[str, ...]:
    """The names of what is asked for beside `known`, for `ChatRequest.unread`. `at` stands before each."""
    return () if known.issuperset(fields) else _asking(fields, fields.keys() - known, at)


def unread_settings(fields: Mapping[str, Any], at: str = "") -> tuple[str, ...]:
    """The same for a body with fields of an application: the settings in it that its contract does not have."""
    return () if SETTINGS.isdisjoint(fields) else _asking(fields, SETTINGS & fields.keys(), at)


def _asking(fields: Mapping[str, Any], names: Iterable[str], at: str) -> tuple[str, ...]:
    found = [name for name in sorted(names) if fields[name] not in (*_NOTHING, *_ANYWAY.get(name, ()))]
    return tuple([at + name if _WORD.fullmatch(name) else f"{at}a setting" for name in found[:MOST_UNREAD]])


def unread_notices(request: ChatRequest) -> list[Notice]:
    """Notices for what only an upstream of the request's own dialect would get."""
    return [ignored(name) for name in request.unread]


def does_not_think(request: ChatRequest) -> bool:
    """Whether the client asks for an answer without thinking."""
    return request.params.get("reasoning_effort") == "none" and "reasoning_effort" not in request.routed


def ignored(name: str, why: str = "this target does not take it") -> Notice:
    return Notice("ignored_setting", f"{name} was left out: {why}", name)


def changed(request: ChatRequest, name: str, message: str) -> Iterator[Notice]:
    """A notice for a setting that goes on in another form, unless its value is the route's."""
    if name not in request.routed:
        yield Notice("changed_setting", message, name)


def ignored_settings(request: ChatRequest, names: Iterable[str]) -> list[Notice]:
    """Notices for the settings in `names`, which are not sent, as far as the client would miss them."""
    return [ignored(name) for name in names if noticeable(request, name)]


def notice_json(notice: Notice) -> bytes:
    """A notice for programs."""
    param = b',"param":%b' % json_string(notice.param) if notice.param else b""
    return b'{"code":%b,"message":%b%b}' % (json_string(notice.code), json_string(notice.message), param)


def hosted_tools(request: ChatRequest) -> Iterator[Notice]:
    """Notices for tools that the client wants the upstream to run: only an upstream of its own dialect can."""
    for kind in dict.fromkeys(request.hosted_tools):
        name = kind if _WORD.fullmatch(kind) else "a tool"
        yield Notice("ignored_tool", f"{name} was left out: this target runs no such tool", name)


_NOT_KNOWN = "this target is not known to take it back; `return_reasoning: always` on its backend sends it"


def lost_reasoning(request: ChatRequest, why: str = _NOT_KNOWN, *, signed: bool = False) -> Iterator[Notice]:
    """A notice for an upstream that does not get back what the model thought before it called a tool.

    `signed`: it gets back what has a signature.
    """
    if any(
        message.reasoning and message.tool_calls and not (signed and message.reasoning_signature)
        for message in request.messages
    ):
        yield Notice("ignored_setting", f"the reasoning before earlier calls was left out: {why}", "messages")


def failed_results(request: ChatRequest) -> Iterator[Notice]:
    """A notice for an upstream that has no field for a tool's failure."""
    if any(message.failed and message.text != INTERRUPTED for message in request.messages):
        why = "this target has no field for it; the result's text has to say so"
        yield Notice("ignored_setting", f"that a tool failed was left out: {why}", "messages")
