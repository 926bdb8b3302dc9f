"""Writing requests of Anthropic Messages, for upstreams that speak it.

https://docs.anthropic.com/en/api/messages. A request of this dialect keeps its own body, in which only the settings
that the route changes are changed. A request of another dialect is translated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.contracts.anthropic.events import DIALECT
from proxy.contracts.anthropic.params import (
    NO_SAMPLING_SINCE,
    SAMPLING,
    SMALLEST_BUDGET,
    decode_params,
    encode_params,
    max_tokens_of,
    thinking,
)
from proxy.contracts.anthropic.schema import closed
from proxy.contracts.anthropic.upstream_messages import encode_messages
from proxy.request import ChatRequest, Message, Tool
from proxy.wire.forwarding import without_destinations
from proxy.wire.ids import fitted, user_for
from proxy.wire.vocabulary import GEMINI_SEAL, WORD, IdForm

USER_ID_LENGTH = 256  # of `metadata.user_id`; Anthropic refuses more

CALL_IDS = IdForm(WORD, 1, 64)
"""The ids of calls: Anthropic takes `^[a-zA-Z0-9_-]+$`. The longest is a cautious guess."""

_IDS_OF = {"tool_use": "id", "tool_result": "tool_use_id"}
_IDS = tuple(_IDS_OF.values())

_ABSENT = object()


def request_fields(request: ChatRequest, *, model: str, version: str, max_tokens: int) -> dict[str, Any]:
    """The fields of the body for an upstream, in API version `version`, always in the same order.

    `max_tokens` is for requests that name none. Raises `Unsupported` for what Messages cannot do.
    """
    if request.dialect == DIALECT and request.raw_body is not None:
        body = _from_wire(request, request.raw_body, model, max_tokens)
    else:
        body = _from_values(request, model, max_tokens)
    if version >= NO_SAMPLING_SINCE:  # these versions answer 400 to each of them, even with its default value
        for name in SAMPLING:
            body.pop(name, None)
    return body | {"model": model, "stream": request.stream}


def _from_wire(request: ChatRequest, wire: Mapping[str, Any], model: str, max_tokens: int) -> dict[str, Any]:
    """The client's own body without fields that choose a destination, and with the settings that the route changed."""
    body = without_destinations(wire)
    body["messages"] = messages = with_fitting_ids(_without_unsigned_thinking(wire["messages"]))
    if messages != wire["messages"] and _thinks_without_thoughts(body):
        del body["thinking"]  # a turn with calls needs its thinking, and another upstream's was left out
    own = decode_params(wire)
    changed = {name: value for name, value in request.params.items() if own.get(name, _ABSENT) != value}
    if changed:
        body["max_tokens"] = limit = max_tokens_of(request.params, max_tokens)
        _merge(body, encode_params(changed, model=model, tools=bool(wire.get("tools"))))
        _merge(body, thinking(changed.get("reasoning_effort"), model=model, max_tokens=limit))
        if limit < (wire.get("max_tokens") or 0):
            _fit_thinking(body, limit)
    return body


def _fit_thinking(body: dict[str, Any], limit: int) -> None:
    """Think no longer than an answer that the route made shorter has room for: Anthropic refuses it otherwise."""
    asked = body.get("thinking")
    if not isinstance(asked, dict) or type(budget := asked.get("budget_tokens")) is not int or budget < limit:
        return
    if limit // 2 < SMALLEST_BUDGET:
        del body["thinking"]
    else:
        body["thinking"] = {**asked, "budget_tokens": limit // 2}


def _from_values(request: ChatRequest, model: str, max_tokens: int) -> dict[str, Any]:
    limit = max_tokens_of(request.params, max_tokens)
    system, turns = encode_messages(request.messages)
    body: dict[str, Any] = {"max_tokens": limit, "messages": turns}
    if system:
        body["system"] = system
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.user:
        body["metadata"] = {"user_id": user_for(request.user, USER_ID_LENGTH)}
    return body | settings_fields(request, model=model, limit=limit)


def settings_fields(request: ChatRequest, *, model: str, limit: int) -> dict[str, Any]:
    """The settings of a request of another dialect as fields, `max_tokens` apart, which is `limit`."""
    fields = encode_params(request.params, model=model, tools=bool(request.tools), hints=request.hints)
    if "thinking" not in fields:
        _think(fields, request, model, limit)
    return fields


def _think(body: dict[str, Any], request: ChatRequest, model: str, limit: int) -> None:
    """Ask for as much thinking as the request does, where Anthropic does not refuse it.

    Anthropic refuses thinking together with a tool that has to be called, with sampling settings, and (with a budget)
    after a call whose thinking is missing: clients of other dialects do not keep it.
    """
    fields = thinking(request.params.get("reasoning_effort"), model=model, max_tokens=limit)
    if not fields or body.get("tool_choice", {}).get("type") in {"any", "tool"}:
        return
    if fields["thinking"]["type"] == "enabled" and _has_open_call(request.messages):
        return
    for name in SAMPLING:
        body.pop(name, None)
    _merge(body, fields)


def _has_open_call(messages: Sequence[Message]) -> bool:
    """Whether the turn that the model continues has a call without its signed thinking."""
    for message in reversed(messages):
        if message.role == "user":
            return False
        if message.tool_calls and not message.reasoning_signature:
            return True
    return False


def _merge(body: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Add `fields` to `body`. Two settings share `output_config`, and neither may replace the other."""
    for name, value in fields.items():
        before = body.get(name)
        if name == "output_config" and isinstance(before, dict) and isinstance(value, dict):
            value = before | value
        body[name] = value


def _without_unsigned_thinking(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Thinking without a signature comes from an upstream of another dialect. Anthropic refuses it."""
    kept = []
    for message in messages:
        content = message.get("content")
        if message.get("role") == "assistant" and isinstance(content, list) and any(map(_is_unsigned, content)):
            content = [block for block in content if not _is_unsigned(block)]
            if not content:
                continue
            message = message | {"content": content}
        kept.append(message)
    return kept


def _thinks_without_thoughts(body: Mapping[str, Any]) -> bool:
    """Whether thinking is asked for with a budget, and the turn that goes on has a call without its thinking."""
    asked = body.get("thinking")
    if not isinstance(asked, dict) or asked.get("type") != "enabled":
        return False
    for message in reversed(body["messages"]):
        content = message.get("content")
        kinds = [block.get("type") for block in content] if isinstance(content, list) else []
        if message.get("role") == "assistant":
            return "tool_use" in kinds and not {"thinking", "redacted_thinking"}.intersection(kinds)
        if "tool_result" not in kinds:
            return False
    return False


def with_fitting_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The client's own messages with ids that Anthropic takes: those of other upstreams have `.` and `:`."""
    blocks = [block for message in messages if isinstance(message.get("content"), list) for block in message["content"]]
    ids = {block[name] for block in blocks for name in _IDS if isinstance(block.get(name), str)}
    fitting = fitted(sorted(ids), CALL_IDS)
    if not fitting:
        return messages
    return [
        message | {"content": [_with_ids(block, fitting) for block in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in messages
    ]


def _with_ids(block: dict[str, Any], fitting: Mapping[str, str]) -> dict[str, Any]:
    name = _IDS_OF.get(str(block.get("type")))
    return block | {name: fitting[block[name]]} if name and block.get(name) in fitting else block


def _is_unsigned(block: Mapping[str, Any]) -> bool:
    """Whether a block is thinking without a signature of Anthropic's own."""
    signature = block.get("signature")
    return block.get("type") == "thinking" and (not signature or str(signature).startswith(GEMINI_SEAL))


def _tool(tool: Tool) -> dict[str, Any]:
    schema = {"type": "object", **(tool.parameters or {"properties": {}})}
    optional: dict[str, Any] = {"description": tool.description} if tool.description else {}
    if tool.strict:
        optional["strict"] = True
        schema = closed(schema)  # "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if tool.cache:
        optional["cache_control"] = tool.cache
    return {"name": tool.name, **optional, "input_schema": schema}
