"""Requests of OpenAI Chat Completions, written for an upstream."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

import msgspec

from proxy.contracts.openai.parts import PART_WRITERS, PartWriter
from proxy.contracts.openai.stream import DIALECT
from proxy.events import Notice
from proxy.request import ChatRequest, Message, Text, Tool
from proxy.wire.forwarding import without_destinations
from proxy.wire.ids import user_for
from proxy.wire.json_body import PARAMETERS
from proxy.wire.omissions import failed_results, hosted_tools, ignored_settings, lost_reasoning
from proxy.wire.vocabulary import GEMINI_SEAL, PartForms

USER_LENGTH = 64
"""OpenAI refuses a `user` of more characters, and Claude Code sends one: account, machine and session."""

ReasoningForm = Literal["reasoning_content", "reasoning", "reasoning_details", "thinking_blocks"]


class ReasoningReturn(msgspec.Struct, frozen=True):
    """How earlier reasoning goes back to an upstream that wants it.

    `form`: the field of the message. `thinking_blocks` is litellm's, for signed reasoning alone. `everywhere`: on all
    messages that have reasoning, not only on those with calls. `always_present`: the field stands on a message with
    calls even where there was no reasoning.
    """

    form: ReasoningForm = "reasoning_content"
    everywhere: bool = False
    always_present: bool = False

    def fields(self, message: Message) -> dict[str, Any]:
        """The reasoning of an assistant message, as fields of it."""
        text = message.reasoning or ""
        if self.form == "thinking_blocks":
            if not message.reasoning_signature:
                return {}
            return {
                "thinking_blocks": [{"type": "thinking", "thinking": text, "signature": message.reasoning_signature}]
            }
        if not message.tool_calls and not self.everywhere:
            return {}
        if not text and not (self.always_present and message.tool_calls):
            return {}
        if self.form == "reasoning_details":
            return {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": text}]}
        return {self.form: text}


_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
_NOT_FROM_WIRE = frozenset({"model", "stream", "stream_options", *PARAMETERS})


def encode_request(request: ChatRequest, **options: Any) -> bytes:
    """The body for an upstream, as bytes; the same request always gives the same bytes. See `request_fields`."""
    return msgspec.json.encode(request_fields(request, **options))


def request_fields(
    request: ChatRequest,
    *,
    model: str,
    include_usage: bool = True,
    max_tokens_name: str | None = None,
    hints: Collection[str] = (),
    reasoning: ReasoningReturn | None = None,
    parts: PartForms = "",
) -> dict[str, Any]:
    """The fields of the body for an upstream.

    The body of a request of this dialect is built from its `raw_body`; the settings in `request.params` replace those of
    `raw_body` and may add others. Code that changes a request's messages must drop its `raw_body`.

    `max_tokens_name`: for upstreams that know only one of `max_tokens` and `max_completion_tokens`. `hints`: the
    settings among `request.hints` that this upstream takes. `reasoning`: how earlier reasoning goes back; `None` leaves
    it out. `parts`: whose forms files and sounds have.
    """
    if request.dialect == DIALECT and request.raw_body:
        fields = without_destinations(request.raw_body)
    else:
        fields = _from_values(request, reasoning, PART_WRITERS[parts])
    body: dict[str, Any] = {"model": model} if model else {}
    body.update((name, value) for name, value in fields.items() if name not in _NOT_FROM_WIRE)
    unwanted = request.hints.difference(hints)
    body.update((name, value) for name, value in request.params.items() if name not in unwanted)
    if not request.routed.isdisjoint(_LIMITS):
        body.pop("n_predict", None)  # llama.cpp would put it above the route's limit
    body["stream"] = request.stream
    if options := _stream_options(request, include_usage):
        body["stream_options"] = options
    if max_tokens_name:
        _rename_max_tokens(body, max_tokens_name)
    return body


def omissions(
    request: ChatRequest, fields: Mapping[str, Any], *, reasoning: ReasoningReturn | None = None
) -> list[Notice]:
    """What the request says and `fields`, the body that is sent, does not. `reasoning` as for `request_fields`."""
    notices: list[Notice] = []
    if request.hints:
        notices = ignored_settings(request, [name for name in request.hints if name not in fields])
    if request.dialect != DIALECT:
        if request.hosted_tools:
            notices += hosted_tools(request)
        notices += failed_results(request)
        if reasoning is None:
            notices += lost_reasoning(request)
    return notices


def choices_expected(request: ChatRequest) -> int:
    """How many choices an answer must finish to be complete."""
    n = request.params.get("n")
    return n if type(n) is int and n > 1 else 1


def _from_values(request: ChatRequest, reasoning: ReasoningReturn | None, written: PartWriter) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": [_message(message, reasoning, written) for message in request.messages]}
    if request.tools:
        fields["tools"] = [_tool(tool) for tool in request.tools]
    if request.user:
        fields["user"] = user_for(request.user, USER_LENGTH)
    return fields  # without `metadata`: OpenAI refuses it without `store`, and clients send it for our rules


def _stream_options(request: ChatRequest, include_usage: bool) -> dict[str, Any] | None:
    """The client's stream options, and our own. An unstreamed request may have none."""
    if not request.stream:
        return None
    given = request.raw_body.get("stream_options") if request.dialect == DIALECT and request.raw_body else None
    options: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    if include_usage:
        options["include_usage"] = True
    return options


def _rename_max_tokens(body: dict[str, Any], name: str) -> None:
    for other in ("max_tokens", "max_completion_tokens"):
        if other != name and other in body:
            value = body.pop(other)
            body.setdefault(name, value)


def _message(message: Message, reasoning: ReasoningReturn | None, written: PartWriter) -> dict[str, Any]:
    """One turn. Earlier reasoning is left out unless the upstream wants it: some refuse it."""
    content = _result(message, written) if message.role == "tool" else _content(message, written)
    fields: dict[str, Any] = {"role": message.role, "content": content}
    if reasoning is not None and message.role == "assistant":
        fields |= reasoning.fields(message)
    if message.name:
        fields["name"] = message.name
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        if (signature := message.reasoning_signature or "").startswith(GEMINI_SEAL):
            google = {"thought_signature": signature.removeprefix(GEMINI_SEAL)}
            fields["tool_calls"][0]["extra_content"] = {"google": google}
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _result(message: Message, written: PartWriter) -> str | list[dict[str, Any]]:
    """A tool's result is text alone in this dialect. Its parts stay apart; those with marks in a list."""
    texts = [part for part in message.parts if isinstance(part, Text)]
    if any(text.cache for text in texts):
        return [written(text) for text in texts]
    return "\n\n".join(text.text for text in texts)


def _content(message: Message, written: PartWriter) -> str | list[dict[str, Any]] | None:
    """A string where the only part is text, because every server reads a string."""
    match message.parts:
        case ():
            return None if message.tool_calls else ""
        case (Text(text, None),):
            return text
        case parts:
            return [written(part) for part in parts]


def _tool(tool: Tool) -> dict[str, Any]:
    optional = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name} | {name: value for name, value in optional.items() if value is not None}
    return {"type": "function", "function": function} | ({"cache_control": tool.cache} if tool.cache else {})
