"""Compile a declared contract when the config loads; write its bodies: whole answers and failures.

All structure (frames, lines, fields) comes from the config. The text of the model or of a client only fills places.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from proxy.config.frontends import FrontendSettings, ResponseSettings
from proxy.config.templates import (
    STREAM_TEMPLATES,
    TOOL_TEMPLATES,
    Node,
    Slot,
    is_one_line,
    is_text,
    parse,
    request_path,
    slots,
    text_pieces,
)
from proxy.contracts.base import Reply
from proxy.contracts.declared.frames import Bare, Events, Frame, Framing, Line, Lines, Values, compile_frame, json
from proxy.contracts.declared.tokens import BareEvents, HookTokens, Tokens, frame_tokens
from proxy.contracts.replies import LIVE, error_headers
from proxy.errors import ProxyError, UntoldAnswer
from proxy.request import Answer, ToolCall, Usage
from proxy.wire.sse import PING
from proxy.wire.text import error_line
from proxy.wire.token_frames import FRAMES

CONTENT_TYPES = {
    "sse": "text/event-stream; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "raw": "text/plain; charset=utf-8",
}
JSON_TYPE, TEXT_TYPE = "application/json", CONTENT_TYPES["raw"]

_ERROR = {
    "error": {"message": "$message", "type": "$type", "code": "$code", "retryable": "$retryable", "request_id": "$id"}
}
_TEXTS = ("token", "reasoning")


class Contract:
    """One declared contract, compiled from settings that the config's checks have passed."""

    def __init__(self, settings: FrontendSettings) -> None:
        response = settings.response
        self.response = response
        self.content_type = response.content_type or CONTENT_TYPES[response.framing]
        given = {name.lower() for name in settings.headers}
        self.headers: Mapping[str, str] = {
            "Content-Type": self.content_type,
            **{name: value for name, value in LIVE.items() if name.lower() not in given},
            **settings.headers,
        }
        self._statuses = settings.errors.status
        nodes = _templates(response)
        framing = _framing(response)
        self.frames: Mapping[str, Frame] = {name: compile_frame(node, name, framing) for name, node in nodes.items()}
        self.tokens = {name: _tokens(nodes[name], name, response, framing) for name in _TEXTS if name in nodes}
        default = "$text" if response.framing == "raw" else {"text": "$text"}
        whole = default if settings.whole is None else settings.whole
        body = next(body for body in (settings.errors.body, response.error, _ERROR) if body is not None)
        bare = Bare()
        whole_node, body_node = parse(whole, "whole")[0], parse(body, "body")[0]
        self._whole, self._whole_type = compile_frame(whole_node, "", bare), _type(whole_node)
        self._body, self._body_type = compile_frame(body_node, "", bare), _type(body_node)
        self._items: Mapping[str, Frame] = {
            name: compile_frame(nodes[name], "", bare)
            for name in ("source", "media")
            if name in nodes and not is_text(nodes[name])
        }
        self._tells_media = any(slot.name == "media" for slot in slots(whole_node))
        call = nodes.get("tool_call")
        self._call = compile_frame(call, "", bare) if call is not None else None
        names = {slot.name for node in (*nodes.values(), whole_node, body_node) for slot in slots(node)}
        self.echoed = {name: steps for name in names if (steps := request_path(name))}
        self.says_model = "model" in names
        self._says_constants = bool(names & {"id", "model", "created"} or self.echoed)
        self.says_answer = any(slot.name == "answer" for slot in slots(nodes["done"])) if "done" in nodes else False
        self.calls_tools = not nodes.keys().isdisjoint(TOOL_TEMPLATES)
        self.ping = self._ping()

    def bound(self, values: Values) -> Mapping[str, Frame]:
        """The frames of one answer, with the values filled in that are the same in every frame."""
        if not self._says_constants:
            return self.frames
        return {name: frame.bind(values) for name, frame in self.frames.items()}

    def whole(self, answer: Answer, values: Values) -> Reply:
        """An answer that is not streamed. Raises `UntoldAnswer` for images alone without a place for them."""
        if answer.only_media and not self._tells_media:
            raise UntoldAnswer
        calls = [self._call_of(number, call, values) for number, call in enumerate(answer.tool_calls)]
        filled = {
            **values,
            "text": answer.text + answer.refusal,
            "reasoning": answer.reasoning,
            "tool_calls": msgspec.Raw(b"[" + b",".join(calls) + b"]"),
            "sources": self._list("source", [{"url": url, "title": title} for url, title in answer.sources], values),
            "media": self._list("media", [{"url": url, "media_type": type_} for type_, url in answer.media], values),
            **self.ending(answer.finish_reason, answer.usage),
        }
        return _reply(200, self._whole.write(filled), self._whole_type)

    def _list(self, name: str, things: list[dict[str, Any]], values: Values) -> msgspec.Raw:
        """A list of things, each as the template `name` writes it; without a template, as a plain object."""
        frame = self._items.get(name)
        return msgspec.Raw(
            b"[" + b",".join([frame.write({**values, **one}) if frame else json(one) for one in things]) + b"]"
        )

    def _call_of(self, number: int, call: ToolCall, values: Values) -> bytes:
        if self._call is None:
            return b"null"
        return self._call.write({**values, **call_values(number, call.id, call.name), **call_arguments(call.arguments)})

    def failure(self, error: ProxyError, values: Values) -> Reply:
        """An error instead of an answer. Fields of the request that are not known yet are null."""
        known = {**dict.fromkeys(self.echoed), **values, **self.failing(error)}
        return _reply(self.status(error), self._body.write(known), self._body_type, error_headers(error, {}))

    def status(self, error: ProxyError) -> int:
        """The status for an error: the one that the contract declares, else the error's own."""
        status, statuses = error.status, self._statuses
        if not statuses or status == 401:
            return status
        for key in (error.code, str(status), f"{status // 100}xx", "*"):
            if key in statuses:
                return statuses[key]
        return status

    def failing(self, error: ProxyError) -> dict[str, Any]:
        """The placeholders of an error."""
        return {
            "message": error_line(error),
            "code": error.code,
            "type": error.type,
            "status": self.status(error),
            "retryable": error.retryable,
            "retry_after": error.retry_after,
            "param": error.param,
        }

    def ending(self, reason: str, usage: Usage | None) -> dict[str, Any]:
        """The placeholders of a complete answer. Unknown counts are null, not zero."""
        return {
            "finish_reason": self.response.finish_reasons.get(reason, reason),  # type: ignore[call-overload]  # `Answer.finish_reason` is any str
            "input_tokens": usage and usage.input_tokens,
            "output_tokens": usage and usage.output_tokens,
            "total_tokens": usage and usage.total_tokens,
            "cached_tokens": usage and usage.cached_tokens,
            "reasoning_tokens": usage and usage.reasoning_tokens,
        }

    def _ping(self) -> Frame | None:
        if self.response.heartbeat is None and self.response.framing == "sse":
            return Line((PING,))
        return self.frames.get("heartbeat")


def _templates(response: ResponseSettings) -> dict[str, Node]:
    given = {name: getattr(response, name) for name in STREAM_TEMPLATES}
    return {name: parse(value, name)[0] for name, value in given.items() if value is not None and value is not False}


def _framing(response: ResponseSettings) -> Framing:
    match response.framing:
        case "sse":
            return Events(response.events, response.data_prefix)
        case "ndjson":
            return Lines()
        case "raw":
            return Bare()


def _tokens(node: Node, name: str, response: ResponseSettings, framing: Framing) -> Callable[[Frame], Tokens]:
    """Makes the writer of a text's pieces when an answer begins."""
    bare = is_text(node) and text_pieces(node) == (Slot("text"),)
    if response.framing == "sse" and bare:
        if name == "token" and response.bare_text != "sse":
            frames = FRAMES[response.bare_text]
            return lambda _: HookTokens(frames())
        event = framing.text(name)
        return lambda _: BareEvents(event)
    lf = response.line_ends == "lf" or (response.framing == "sse" and not is_one_line(node))
    return lambda frame: frame_tokens(frame, lf=lf)


def _type(node: Node) -> str:
    return TEXT_TYPE if is_text(node) else JSON_TYPE


def call_values(index: int, id_: str, name: str) -> dict[str, Any]:
    return {"call_index": index, "call_id": id_, "name": name}


def call_arguments(text: str) -> dict[str, Any]:
    """The placeholders of a call's arguments: as a value, or as text if the model wrote no JSON.

    The value is encoded again, because the model's own JSON may hold line ends.
    """
    try:
        value: Any = msgspec.Raw(json(msgspec.json.decode(text or "{}")))
    except (ValueError, RecursionError, OverflowError):
        value = text
    return {"arguments": value, "arguments_text": text}


def _reply(status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, body, {"Content-Type": content_type, "Cache-Control": "no-store", **(headers or {})})
