"""Write the answers of a declared contract: frames as declared, then exactly one end."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from proxy.contracts.base import Reply
from proxy.contracts.declared.contract import Contract, call_arguments, call_values
from proxy.contracts.declared.frames import Values
from proxy.contracts.declared.tokens import Tokens
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
from proxy.request import Answer, Usage


class DeclaredWriter:
    """Writes one answer, streamed or whole. `created` is its Unix time; `echoed` are the request's fields it repeats."""

    def __init__(
        self,
        contract: Contract,
        *,
        id: str,
        model: str,
        created: int,
        echoed: Mapping[str, Any],
        early: bool = False,
        abort_on_fault: bool = False,
    ) -> None:
        self._contract = contract
        self.headers = contract.headers
        self.early = early
        self.abort_on_fault = abort_on_fault or contract.response.cuts
        self.values: dict[str, Any] = {"id": id, "model": model, "created": created, **echoed}
        self._frames = contract.bound(self.values)
        self._token = contract.tokens["token"](self._frames["token"])
        self._reasoning = (
            contract.tokens["reasoning"](self._frames["reasoning"]) if "reasoning" in self._frames else None
        )
        self._current: Tokens | None = self._token  # the text that may hold something back; None after the end
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self._answer: list[str] | None = [] if contract.says_answer else None
        self._direct = False  # text follows text, so its frames need no other bytes
        self._has_text = False
        self._media = False  # there was media, and no template for it
        self._join = contract.response.join
        self._started = False

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch. Raises `UntoldAnswer` for an answer of nothing but images without a template for them."""
        events = batch.events
        if self._direct and batch.text_only:
            if len(events) == 1:
                return self._token.token(events[0].text)  # type: ignore[union-attr]  # `text_only`: it is a TextDelta
            if not self._join:
                return self._token.run([event.text for event in events])  # type: ignore[union-attr]  # they all are
        if self._current is None:
            return b""
        frames: list[bytes] = []
        run: list[str] = []
        for event in _joined(events) if self._join else events:
            if type(event) is TextDelta or type(event) is RefusalDelta:  # a refusal is text here
                run.append(event.text)
                continue
            if run:
                frames.append(self._texts(run))
                run = []
            frames.append(self._event(event))
            if self._current is None:
                break
        if run:
            frames.append(self._texts(run))
        return b"".join(frames)

    def ping(self) -> bytes:
        """A heartbeat. A declared one waits for `start`, if the contract declares that too."""
        frame = self._contract.ping
        if frame is None or ("heartbeat" in self._frames and "start" in self._frames and not self._started):
            return b""
        return frame.write(self.values)

    def whole(self, answer: Answer) -> Reply:
        """An answer that is not streamed. Raises `UntoldAnswer` as `feed` does."""
        model = {"model": answer.model} if answer.model else {}
        return self._contract.whole(answer, {**self.values, **model})

    def failure(self, error: ProxyError) -> Reply:
        return self._contract.failure(error, self.values)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case ReasoningDelta(text):
                tokens = self._reasoning
                return self._turn(tokens) + tokens.token(text) if tokens is not None else b""
            case Start(_, model):
                return self._start(model)
            case ToolCallStart(index, id_, name) if self._contract.calls_tools:
                self._calls[index] = (id_, name, [])
                return self._frame("tool_call_start", call_values(index, id_, name))
            case ToolCallDelta(index, arguments) if self._contract.calls_tools:
                id_, name, pieces = self._calls.setdefault(index, ("", "", []))
                pieces.append(arguments)
                return self._frame("tool_call_delta", {**call_values(index, id_, name), "arguments_text": arguments})
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
                return b""  # the contract has no template for it

    def _texts(self, texts: list[str]) -> bytes:
        self._has_text, self._direct = True, self._answer is None
        if self._answer is not None:
            self._answer += texts
        return self._turn(self._token) + self._token.run(texts)

    def _turn(self, tokens: Tokens | None) -> bytes:
        """Make `tokens` the current text, or none; the text that the one before held back goes out first."""
        if tokens is self._current:
            return b""
        rest = self._held_back()
        self._current = tokens
        self._direct = tokens is self._token and self._answer is None
        return rest

    def _held_back(self) -> bytes:
        """The end of the current text, if it was held back."""
        return self._current.finish() if self._current is not None else b""

    def _frame(self, name: str, values: Values) -> bytes:
        frame = self._frames.get(name)
        return self._held_back() + frame.write(values) if frame is not None else b""

    def _start(self, model: str) -> bytes:
        if model and model != self.values["model"] and self._contract.says_model:
            self.values["model"] = model
            frames = self._frames = self._contract.bound(self.values)
            self._token.rebind(frames["token"])
            if self._reasoning is not None:
                self._reasoning.rebind(frames["reasoning"])
        if self._started:  # a second upstream continues the answer
            return b""
        self._started = True
        return self._frame("start", {})

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        if self._media and not (self._has_text or self._calls):
            raise UntoldAnswer
        frames = [self._turn(None)]
        ending = self._contract.ending(reason, usage)
        if "tool_call" in self._frames:
            for index, (id_, name, pieces) in sorted(self._calls.items()):
                call = {**call_values(index, id_, name), **call_arguments("".join(pieces))}
                frames.append(self._frame("tool_call", call))
        if usage is not None:
            frames.append(self._frame("usage", ending))
        answer = {"answer": "".join(self._answer)} if self._answer is not None else {}
        frames.append(self._frame("done", {**ending, **answer}))
        return b"".join(frames)

    def _fault(self, error: ProxyError) -> bytes:
        return self._turn(None) + self._frame("error", self._contract.failing(error))


def _joined(events: Iterable[StreamEvent]) -> Iterator[StreamEvent]:
    """The events, with neighbouring pieces of the same text joined."""
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
