"""Writing answers as OpenAI Responses: the events of a stream, or one whole response object.

https://platform.openai.com/docs/api-reference/responses-streaming: `created` and `in_progress`; then each item of the
output is added, filled piece by piece and done; last `completed`, `incomplete` or `failed` with everything once more.
An answer that broke off ends with `failed`, which Codex reads, and then with an `error` event, which most other
clients need: they take a stream without one for complete (C1). Items that are open then never become done: clients
run a call that is done.

Reasoning is written as a *summary*, though it is none: Codex shows summaries by default and the AI SDK reads nothing
else; both skip the raw form, `reasoning_text`.
"""

from collections.abc import Callable
from typing import assert_never, cast

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.replies import JSON, OpenAIStream
from proxy.contracts.responses.objects import (
    INCOMPLETE,
    ResponseObject,
    Status,
    call_item,
    error_fields,
    image_data,
    image_item,
    reasoning_item,
    summary_part,
    url_citation,
)
from proxy.contracts.responses.open_items import OpenCall, OpenItem, OpenMessage, OpenReasoning, TextPart
from proxy.contracts.responses.tools import Origin, Tools
from proxy.errors import ProxyError
from proxy.events import (
    Batch,
    Fault,
    Finish,
    FinishReason,
    Media,
    Notice,
    ReasoningDelta,
    ReasoningSignature,
    RefusalDelta,
    Source,
    Start,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from proxy.request import Answer, Usage
from proxy.wire.json_text import json_string

EMPTY = b'""'


class ResponsesWriter(OpenAIStream):
    """Writes one answer. See `proxy.contracts.base.Encoder`. What the deltas of an item share is encoded once.

    `model` is sent until the upstream names its own; `clock` gives the Unix time.
    """

    def __init__(
        self,
        response: ResponseObject,
        tools: Tools,
        *,
        id: str,
        model: str,
        clock: Callable[[], float],
        abort_on_fault: bool = False,
    ) -> None:
        self.abort_on_fault, self._response, self._clock = abort_on_fault, response, clock
        self._origins = tools.origins
        self._id, self._model = id, model
        self._sequence = 0
        self._begun = False
        self._final = b""  # the response object in the last event
        self._output: list[bytes] = []  # the items as the last event repeats them; empty while they are open
        self._message: OpenMessage | None = None
        self._reasoning: OpenReasoning | None = None
        self._calls: dict[int, OpenCall] = {}

    def feed(self, batch: Batch) -> bytes:
        """See `Encoder.feed`."""
        return b"".join([self._event(event) for event in batch.events])

    def whole(self, answer: Answer) -> Reply:
        """See `Encoder.whole`. The body is the response object that the answer's stream would have ended with."""
        self.feed(Batch(_events_of(answer)))
        return Reply(200, self._final, JSON)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text):
                message = self._message
                if message is not None and message.text is not None and not message.is_refusal:
                    return self._delta(message.text, text)
                return self._open_part(is_refusal=False) + self._delta(self._open_text(), text)
            case ReasoningDelta(text):
                opening = b"" if self._reasoning is not None else self._open_reasoning()
                assert self._reasoning is not None
                return opening + self._delta(self._reasoning.text, text)
            case ToolCallDelta(index, arguments):
                return self._arguments(index, arguments)
            case ToolCallStart(index, id_, name):
                return self._open_call(index, id_, name)
            case Start(_, model):
                self._model = model or self._model
                return self._begin()
            case RefusalDelta(text):
                message = self._message
                if message is not None and message.text is not None and message.is_refusal:
                    return self._delta(message.text, text)
                return self._open_part(is_refusal=True) + self._delta(self._open_text(), text)
            case ReasoningSignature(signature):
                return self._sign(signature)
            case Source(url, title):
                return self._cite(url, title)
            case Media(media_type, url):
                return self._media(media_type, url)
            case Notice():
                return b""  # the contract has no place for it
            case Finish(reason, usage):
                return self._finish(reason, usage)
            case Fault(error, usage):
                return self._fail(error, usage)
            case _:
                assert_never(event)

    # -- events

    def _write(self, type: bytes, rest: bytes) -> bytes:
        sequence, self._sequence = self._sequence, self._sequence + 1
        return b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (type, type, sequence, rest)

    def _delta(self, part: TextPart, text: str) -> bytes:
        sequence, self._sequence = self._sequence, self._sequence + 1
        written = json_string(text)
        part.written += written[1:-1]
        return b'%b%d,"delta":%b}\n\n' % (part.head, sequence, written)

    def _added(self, item: OpenItem, written: bytes) -> bytes:
        return self._write(b"response.output_item.added", b'"output_index":%d,"item":%b' % (item.index, written))

    def _done(self, item: OpenItem, written: bytes) -> bytes:
        self._output[item.index] = written
        return self._write(b"response.output_item.done", b'"output_index":%d,"item":%b' % (item.index, written))

    def _state(self, type: bytes, response: bytes) -> bytes:
        return self._write(type, b'"response":%b' % response)

    def _place(self, prefix: str) -> tuple[bytes, int]:
        """The id and index of a new item."""
        index = len(self._output)
        self._output.append(b"")
        return json_string(f"{prefix}_{self._id}_{index}"), index

    # -- beginning and end

    def _begin(self) -> bytes:
        if self._begun:  # a second upstream goes on with the answer
            return b""
        self._begun = True
        response = self._response.write("in_progress", self._model)
        return self._state(b"response.created", response) + self._state(b"response.in_progress", response)

    def _finish(self, reason: str, usage: Usage | None) -> bytes:
        incomplete = INCOMPLETE.get(reason)
        status: Status = "incomplete" if incomplete else "completed"
        beginning = self._begin() + self._close_reasoning(status) + self._close_message(status)
        beginning += b"".join([self._close_call(call, cut=bool(incomplete)) for call in self._calls.values()])
        self._final = self._response.write(
            status,
            self._model,
            output=self._output,
            usage=usage,
            incomplete=incomplete,
            completed_at=None if incomplete else int(self._clock()),
        )
        return beginning + self._state(b"response.%b" % status.encode(), self._final)

    def _fail(self, error: ProxyError, usage: Usage | None) -> bytes:
        """End with what there is, without making it done, and without calls: half of one must never run."""
        beginning = self._begin()
        for item in (self._reasoning, self._message):
            if item is not None:
                self._output[item.index] = item.write("incomplete")
        output = [item for item in self._output if item]
        self._final = self._response.write("failed", self._model, output=output, usage=usage, error=error)
        return beginning + self._state(b"response.failed", self._final) + self._write(b"error", error_fields(error))

    # -- message

    def _open_part(self, *, is_refusal: bool) -> bytes:
        """Open a part of this kind, and a message where there is none."""
        beginning = self._close_reasoning()
        message = self._message
        if message is None:
            message = self._message = OpenMessage(*self._place("msg"))
            beginning += self._added(message, message.write("in_progress"))
        else:
            beginning += self._close_part(message)
        place = b'%b,"content_index":%d' % (message.place, len(message.parts))
        message.is_refusal = is_refusal
        message.text = (
            TextPart(b"response.refusal.delta", place)
            if is_refusal
            else TextPart(b"response.output_text.delta", place, b',"logprobs":[]')
        )
        return beginning + self._write(b"response.content_part.added", b'%b,"part":%b' % (place, message.part))

    def _open_text(self) -> TextPart:
        assert self._message is not None
        assert self._message.text is not None
        return self._message.text

    def _close_part(self, message: OpenMessage) -> bytes:
        text = message.text
        if text is None:
            return b""
        part = message.part
        if message.is_refusal:
            done = self._write(b"response.refusal.done", b'%b,"refusal":%b' % (text.place, text.json))
        else:
            done = self._write(b"response.output_text.done", b'%b,"text":%b,"logprobs":[]' % (text.place, text.json))
        message.parts.append(part)
        message.annotations, message.text = [], None
        return done + self._write(b"response.content_part.done", b'%b,"part":%b' % (text.place, part))

    def _close_message(self, status: Status = "completed") -> bytes:
        message, self._message = self._message, None
        if message is None:
            return b""
        return self._close_part(message) + self._done(message, message.write(status))

    def _cite(self, url: str, title: str) -> bytes:
        message = self._message
        beginning = b""
        if message is None or message.text is None or message.is_refusal:
            beginning = self._open_part(is_refusal=False)
            message = self._message
            assert message is not None
        text = self._open_text()
        at = len(msgspec.json.decode(text.json, type=str))
        citation = url_citation(url, title, at)
        number = len(message.annotations)
        message.annotations.append(citation)
        return beginning + self._write(
            b"response.output_text.annotation.added",
            b'%b,"annotation_index":%d,"annotation":%b' % (text.place, number, citation),
        )

    # -- reasoning

    def _open_reasoning(self) -> bytes:
        beginning = self._close_message()
        item = self._reasoning = OpenReasoning(*self._place("rs"))
        return (
            beginning
            + self._added(item, reasoning_item(item.id, (), "", "in_progress"))
            + self._write(
                b"response.reasoning_summary_part.added",
                b'%b,"summary_index":0,"part":%b' % (item.place, summary_part(EMPTY)),
            )
        )

    def _close_reasoning(self, status: Status = "completed", signature: str = "") -> bytes:
        item, self._reasoning = self._reasoning, None
        if item is None:
            return b""
        place = b'%b,"summary_index":0' % item.place
        text = item.text.json
        return (
            self._write(b"response.reasoning_summary_text.done", b'%b,"text":%b' % (place, text))
            + self._write(b"response.reasoning_summary_part.done", b'%b,"part":%b' % (place, summary_part(text)))
            + self._done(item, item.write(status, signature))
        )

    def _sign(self, signature: str) -> bytes:
        """A signature ends the reasoning item that is open. Without one it becomes an item of its own."""
        if self._reasoning is not None:
            return self._close_reasoning(signature=signature)
        item = OpenItem(*self._place("rs"))
        added = self._added(item, reasoning_item(item.id, (), "", "in_progress"))
        return added + self._done(item, reasoning_item(item.id, (), signature, "completed"))

    # -- calls

    def _open_call(self, index: int, call_id: str, name: str) -> bytes:
        """Open a call. Calls stay open to the end of the answer: their pieces may interleave."""
        origin = self._origins.get(name) or Origin(name)
        beginning = self._close_reasoning() + self._close_message()
        if index in self._calls:
            beginning += self._close_call(self._calls[index], cut=False)
        id_, place = self._place("ctc" if origin.custom else "fc")
        call = self._calls[index] = OpenCall(id_, place, call_id, origin)
        return beginning + self._added(call, call_item(id_, call_id, origin, EMPTY, "in_progress"))

    def _arguments(self, index: int, arguments: str) -> bytes:
        call = self._calls.get(index)
        if call is None:
            return b""
        if call.origin.custom:  # its input is known only when the JSON around it is complete
            call.arguments.written += json_string(arguments)[1:-1]
            return b""
        return self._delta(call.arguments, arguments)

    def _close_call(self, call: OpenCall, *, cut: bool) -> bytes:
        """End a call. Clients run a call that is done: one that is cut off is only listed, as incomplete."""
        if cut and not call.is_whole:
            self._output[call.index] = call.write("incomplete")
            return b""
        value = call.value()
        if call.origin.custom:
            done = self._write(b"response.custom_tool_call_input.delta", b'%b,"delta":%b' % (call.place, value))
            done += self._write(b"response.custom_tool_call_input.done", b'%b,"input":%b' % (call.place, value))
        else:
            done = self._write(
                b"response.function_call_arguments.done",
                b'%b,"name":%b,"arguments":%b' % (call.place, json_string(call.origin.name), value),
            )
        return done + self._done(call, call.write("completed"))

    # -- media

    def _media(self, media_type: str, url: str) -> bytes:
        """An image becomes an item; a file at an address becomes a link; other data has no place in the contract."""
        data = image_data(media_type, url)
        if not data:
            return b"" if url.startswith("data:") else self._cite(url, media_type)
        beginning = self._close_reasoning() + self._close_message()
        item = OpenItem(*self._place("ig"))
        return (
            beginning
            + self._added(item, image_item(item.id, "", "in_progress"))
            + self._write(b"response.image_generation_call.completed", item.place)
            + self._done(item, image_item(item.id, data, "completed"))
        )


def _events_of(answer: Answer) -> list[StreamEvent]:
    """The events of a stream with this answer."""
    events: list[StreamEvent] = [Start(answer.id, answer.model)]
    if answer.reasoning:
        events.append(ReasoningDelta(answer.reasoning))
    if answer.reasoning_signature:
        events.append(ReasoningSignature(answer.reasoning_signature))
    if answer.text:
        events.append(TextDelta(answer.text))
    events += [Source(url, title) for url, title in answer.sources]
    if answer.refusal:
        events.append(RefusalDelta(answer.refusal))
    events += [Media(media_type, url) for media_type, url in answer.media]
    for index, call in enumerate(answer.tool_calls):
        events += [ToolCallStart(index, call.id, call.name), ToolCallDelta(index, call.arguments)]
    events.append(Finish(cast("FinishReason", answer.finish_reason), answer.usage))
    return events
