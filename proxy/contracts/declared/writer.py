"""Answers as a contract of the config's own writes them: streamed, whole, or failed.

A `Contract` is compiled once, when the config is loaded; an `AnswerWriter` of it writes one answer. Everything
that could be a frame, a line or a field comes from the config; what the model or a client wrote stands inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from proxy.contracts.declared.frames import (
    Bare,
    BareEvents,
    Events,
    Frame,
    Framing,
    HookTokens,
    Line,
    Lines,
    Tokens,
    Values,
    compile_frame,
    frame_tokens,
    json,
)
from proxy.errors import ProxyError, UntoldAnswer
from proxy.events import (
    Batch,
    Fault,
    Finish,
    Media,
    Notice,
    ReasoningDelta,
    RefusalDelta,
    Source,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
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
    "error": {
        "message": "$message",
        "type": "$type",
        "code": "$code",
        "retryable": "$retryable",
        "request_id": "$id",
    }
}
_TEXTS = ("token", "reasoning")


class Body(msgspec.Struct, frozen=True):
    """A whole body and what it is."""

    data: bytes
    content_type: str


class Contract:
    """One declared contract, compiled. The config has been checked."""

    def __init__(self, settings: FrontendSettings) -> None:
        response = settings.response
        self.response = response
        self.content_type = response.content_type or CONTENT_TYPES[response.framing]
        self._statuses = settings.errors.status
        nodes = _templates(response)
        framing = _framing(response)
        self.frames: Mapping[str, Frame] = {name: compile_frame(node, name, framing) for name, node in nodes.items()}
        self.tokens = {name: _tokens(nodes[name], name, response, framing) for name in _TEXTS if name in nodes}
        whole = settings.whole if settings.whole is not None else _whole(response)
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
        said = {slot.name for node in (*nodes.values(), whole_node, body_node) for slot in slots(node)}
        self.echoed = {name: steps for name in said if (steps := request_path(name))}
        self.says_model = "model" in said
        self._says_constants = bool(said & {"id", "model", "created"} or self.echoed)
        self.says_answer = any(slot.name == "answer" for slot in slots(nodes["done"])) if "done" in nodes else False
        self.calls_tools = not nodes.keys().isdisjoint(TOOL_TEMPLATES)
        self.ping = self._ping()

    def bound(self, values: Values) -> Mapping[str, Frame]:
        """The frames of one answer, with all in place that is the same in every one of them."""
        if not self._says_constants:
            return self.frames
        return {name: frame.bind(values) for name, frame in self.frames.items()}

    def whole(self, answer: Answer, values: Values) -> Body:
        """An answer that is not streamed. Raises `UntoldAnswer`, too."""
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
        return Body(self._whole.write(filled), self._whole_type)

    def _list(self, name: str, things: list[dict[str, Any]], values: Values) -> msgspec.Raw:
        """What the template of a stream makes of each; without one, what is known of it."""
        frame = self._items.get(name)
        return msgspec.Raw(
            b"[" + b",".join([frame.write({**values, **one}) if frame else json(one) for one in things]) + b"]"
        )

    def _call_of(self, number: int, call: ToolCall, values: Values) -> bytes:
        if self._call is None:
            return b"null"
        return self._call.write({**values, **_call(number, call.id, call.name), **_arguments(call.arguments)})

    def failure(self, error: ProxyError, values: Values) -> Body:
        """A failure before anything was sent. What is not known of the request yet is null."""
        known = {**dict.fromkeys(self.echoed), **values, **self.failing(error)}
        return Body(self._body.write(known), self._body_type)

    def status(self, error: ProxyError) -> int:
        """The status that this contract has for a failure."""
        status, statuses = error.status, self._statuses
        if not statuses or status == 401:
            return status
        for key in (error.code, str(status), f"{status // 100}xx", "*"):
            if key in statuses:
                return statuses[key]
        return status

    def failing(self, error: ProxyError) -> dict[str, Any]:
        """What a template may say of a failure."""
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
        """What a template may say of an answer that is complete. Unknown is not zero."""
        return {
            "finish_reason": self.response.finish_reasons.get(reason, reason),  # type: ignore[call-overload]  # an `Answer` has any str
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


class AnswerWriter:
    """Writes the events of one answer: frames as declared, then exactly one end, then nothing."""

    def __init__(self, contract: Contract, *, id: str, model: str, created: int, echoed: Mapping[str, Any]) -> None:
        self._contract = contract
        self.values: dict[str, Any] = {"id": id, "model": model, "created": created, **echoed}
        self._frames = contract.bound(self.values)
        self._token = contract.tokens["token"](self._frames["token"])
        self._reasoning = (
            contract.tokens["reasoning"](self._frames["reasoning"]) if "reasoning" in self._frames else None
        )
        self._speaking: Tokens | None = self._token  # who may be holding something back; None: all is said
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._answer: list[str] | None = [] if contract.says_answer else None
        self._direct = False  # a token is nothing but its frame, once there was one
        self._told = False  # there was something to read or to run
        self._media = False  # what there was of else has no template
        self._join = contract.response.join
        self._started = False

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch. Raises `UntoldAnswer` for one of nothing but images, which no template is for."""
        events = batch.events
        if self._direct and batch.text_only:
            if len(events) == 1:
                return self._token.token(events[0].text)  # type: ignore[union-attr]  # it is text, as was said
            if not self._join:
                return self._token.run([event.text for event in events])  # type: ignore[union-attr]  # they are text too
        if self._speaking is None:
            return b""
        frames: list[bytes] = []
        run: list[str] = []
        for event in _joined(events) if self._join else events:
            if type(event) is TextDelta or type(event) is RefusalDelta:  # a refusal is all the reader would get to see
                run.append(event.text)
                continue
            if run:
                frames.append(self._texts(run))
                run = []
            frames.append(self._event(event))
            if self._speaking is None:
                break
        if run:
            frames.append(self._texts(run))
        return b"".join(frames)

    def ping(self) -> bytes:
        """A heartbeat. One that is a frame of the contract does not come before its beginning."""
        frame = self._contract.ping
        if frame is None or ("heartbeat" in self._frames and "start" in self._frames and not self._started):
            return b""
        return frame.write(self.values)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case ReasoningDelta(text):
                tokens = self._reasoning
                return self._turn(tokens) + tokens.token(text) if tokens is not None else b""
            case Start(_, model):
                return self._start(model)
            case ToolCallStart(index, id_, name) if self._contract.calls_tools:
                self._calls[index] = (id_, name, [])
                return self._frame("tool_call_start", _call(index, id_, name))
            case ToolCallDelta(index, arguments) if self._contract.calls_tools:
                id_, name, pieces = self._calls.setdefault(index, ("", "", []))
                pieces.append(arguments)
                return self._frame("tool_call_delta", {**_call(index, id_, name), "arguments_text": arguments})
            case Source(url, title):
                return self._frame("source", {"url": url, "title": title})
            case Media() if "media" not in self._frames:
                self._media = True
                return b""
            case Media(media_type, url):
                return self._frame("media", {"url": url, "media_type": media_type})
            case Notice(code, message, param):
                return self._frame("notice", {"code": code, "message": message, "param": param})
            case Finish(reason, usage):
                return self._finish(reason, usage)
            case Fault(error):
                return self._fault(error)
            case _:
                return b""  # what no template is for

    def _texts(self, texts: list[str]) -> bytes:
        self._told, self._direct = True, self._answer is None
        if self._answer is not None:
            self._answer += texts
        return self._turn(self._token) + self._token.run(texts)

    def _turn(self, tokens: Tokens | None) -> bytes:
        """Let `tokens` speak, or nobody any more: what another held back comes first."""
        if tokens is self._speaking:
            return b""
        rest = self._said()
        self._speaking = tokens
        self._direct = tokens is self._token and self._answer is None
        return rest

    def _said(self) -> bytes:
        """What was held back of the text so far."""
        return self._speaking.finish() if self._speaking is not None else b""

    def _frame(self, name: str, values: Values) -> bytes:
        frame = self._frames.get(name)
        return self._said() + frame.write(values) if frame is not None else b""

    def _start(self, model: str) -> bytes:
        if model and model != self.values["model"] and self._contract.says_model:
            self.values["model"] = model
            frames = self._frames = self._contract.bound(self.values)
            self._token.rebind(frames["token"])
            if self._reasoning is not None:
                self._reasoning.rebind(frames["reasoning"])
        if self._started:  # a second upstream goes on with the answer
            return b""
        self._started = True
        return self._frame("start", {})

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        if self._media and not (self._told or self._calls):
            raise UntoldAnswer
        frames = [self._turn(None)]
        ending = self._contract.ending(reason, usage)
        if "tool_call" in self._frames:
            for index, (id_, name, pieces) in sorted(self._calls.items()):
                call = {**_call(index, id_, name), **_arguments("".join(pieces))}
                frames.append(self._frame("tool_call", call))
        if usage is not None:
            frames.append(self._frame("usage", ending))
        answer = {"answer": "".join(self._answer)} if self._answer is not None else {}
        frames.append(self._frame("done", {**ending, **answer}))
        return b"".join(frames)

    def _fault(self, error: ProxyError) -> bytes:
        return self._turn(None) + self._frame("error", self._contract.failing(error))


def now() -> int:
    return int(time.time())


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
    """What writes the pieces of a text, one for each answer."""
    bare = is_text(node) and text_pieces(node) == (Slot("text"),)
    if response.framing == "sse" and bare:
        if name == "token" and response.bare_text != "sse":
            frames = FRAMES[response.bare_text]
            return lambda _: HookTokens(frames())
        event = framing.text(name)
        return lambda _: BareEvents(event)
    lf = response.line_ends == "lf" or (response.framing == "sse" and not is_one_line(node))

    return lambda frame: frame_tokens(frame, lf=lf)


def _whole(response: ResponseSettings) -> Any:
    return "$text" if response.framing == "raw" else {"text": "$text"}


def _type(node: Node) -> str:
    return TEXT_TYPE if is_text(node) else JSON_TYPE


def _call(index: int, id_: str, name: str) -> dict[str, Any]:
    return {"call_index": index, "call_id": id_, "name": name}


def _arguments(text: str) -> dict[str, Any]:
    """A call's arguments as a value; as text where the model wrote no JSON.

    The value is written anew: as the model wrote it, it may hold line ends.
    """
    try:
        value: Any = msgspec.Raw(json(msgspec.json.decode(text or "{}")))
    except (ValueError, RecursionError, OverflowError):
        value = text
    return {"arguments": value, "arguments_text": text}


def _joined(events: Iterable[StreamEvent]) -> Iterator[StreamEvent]:
    """Neighbouring pieces of the same text made one."""
    kind: type[TextDelta | ReasoningDelta] | None = None
    texts: list[str] = []
    for event in events:
        match event:
            case TextDelta(text) | ReasoningDelta(text):
                if kind is not None and type(event) is not kind:
                    yield kind("".join(texts))
                    texts = []
                kind = type(event)
                texts.append(text)
            case _:
                if kind is not None:
                    yield kind("".join(texts))
                    kind, texts = None, []
                yield event
    if kind is not None:
        yield kind("".join(texts))
