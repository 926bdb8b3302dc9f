"""Completions without messages, the form before chats, which editors still complete code with.

A prompt in, the text that goes on after it out, streamed or whole (https://platform.openai.com/docs/api-reference/completions).
An upstream that has this form gets the request as it came, and its answer goes back as it came. Others are asked in a
chat whose only message is the prompt (see `plain_prompt`).
"""

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.contracts.base import Endpoint, Head, Reply
from proxy.contracts.openai.writer import END, counts
from proxy.contracts.replies import JSON, NoModels, OpenAIErrors, OpenAIStream, cuts_on_error
from proxy.errors import BadRequest, Unsupported
from proxy.events import Batch, Fault, Finish, Start, StreamEvent, TextDelta
from proxy.request import COMPLETIONS, Answer, ChatRequest, Message, Text
from proxy.wire import sse
from proxy.wire.forwarding import without_destinations
from proxy.wire.json_body import (
    PARAMETERS,
    decode_params,
    get_boolean,
    get_object,
    get_string,
    missing,
    parse_object,
    wrong,
)
from proxy.wire.json_text import json_string
from proxy.wire.upstream_errors import error_body

DIALECT = COMPLETIONS

_OF_CHATS = frozenset({
    "logprobs",  # a number here, and true or false in a chat
    "max_completion_tokens", "parallel_tool_calls", "reasoning_effort", "response_format", "service_tier",
    "tool_choice", "top_logprobs", "verbosity",
})  # fmt: skip
SETTINGS = frozenset(PARAMETERS) - _OF_CHATS
"""The settings that mean the same here as in a chat."""


def decode_request(body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None) -> ChatRequest:
    """Read a request body. Raises `BadRequest` saying what is wrong and where."""
    wire = parse_object(body)
    prompt = read_texts(wire, "prompt")
    stream = get_boolean(wire, "stream") is True
    options = get_object(wire, "stream_options") or {}
    return ChatRequest(
        id=id,
        contract="completions",
        dialect=DIALECT,
        task="completion",
        messages=prompt,
        model=get_string(wire, "model"),
        params=decode_params({name: wire[name] for name in SETTINGS & wire.keys()}, choices=True),
        stream=stream,
        user=get_string(wire, "user"),
        wants_usage=stream and get_boolean(options, "include_usage", "stream_options") is True,
        path=path,
        headers=headers or {},
        raw_body=wire,
    )


def read_texts(wire: Mapping[str, Any], name: str) -> tuple[Message, ...]:
    """A text or several, as one user message for the rules; tokens, which are allowed in their place, say nothing."""
    value = wire.get(name)
    if value is None:
        raise missing(name, "a string or a list of strings")
    values = value if type(value) is list else [value]
    if type(value) not in (str, list) or not all(type(item) in (str, int, list) for item in values):
        raise wrong(name, "a string, or a list of strings or tokens", value)
    if not values:
        raise BadRequest(f"{name}: expected at least one text, got an empty list", param=name)
    return (Message("user", tuple([Text(item) for item in values if type(item) is str])),)


def request_fields(request: ChatRequest, *, model: str, include_usage: bool) -> dict[str, Any]:
    """The fields of the body for an upstream: the client's own, with the route's settings as far as they apply."""
    fields = without_destinations(request.raw_body or {})
    params = {name: value for name, value in request.params.items() if name not in _OF_CHATS}
    limit = request.params.get("max_completion_tokens")  # a route's: the same limit by its other name
    if limit is not None:
        params["max_tokens"] = limit
    body = {**fields, **params, "model": model}
    if request.stream and include_usage:
        given = fields.get("stream_options")
        body["stream_options"] = {**(given if isinstance(given, dict) else {}), "include_usage": True}
    return body


def choices_expected(request: ChatRequest) -> int:
    """How many choices an answer must finish to be complete: `n` for each prompt."""
    prompt, n = (request.raw_body or {}).get("prompt"), request.params.get("n")
    prompts = len(prompt) if isinstance(prompt, list) and type(prompt[0]) is not int else 1
    return prompts * (n if type(n) is int and n > 1 else 1)


def plain_prompt(request: ChatRequest, who: str) -> None:
    """Raises `Unsupported` for a request that is more than one prompt, so that no chat could answer it."""
    raw = request.raw_body or {}
    if choices_expected(request) > 1 or (raw.get("best_of") or 1) != 1:
        raise Unsupported(f"{who} completes one prompt with one text, not with several", param="n")
    if not request.messages[0].parts:
        raise Unsupported(f"{who} takes a prompt as text, not as tokens", param="prompt")
    for name in ("suffix", "echo", "logprobs"):
        if raw.get(name):
            raise Unsupported(f"{who} does not take `{name}`: its models are asked in chats", param=name)


class CompletionsFrontend(OpenAIErrors, NoModels):
    """The contract `completions`."""

    name = "completions"
    route_settings = frozenset({"errors"})
    smallest_body = b'{"prompt":"hi"}'  # that `explain` may ask with
    endpoints = (Endpoint("POST", "/v1/completions"), Endpoint("POST", "/completions"))

    def decode(self, body: bytes, head: Head) -> ChatRequest:
        return decode_request(body, id=head.id, path=head.path, headers=head.headers)

    def encoder(self, request: ChatRequest, head: Head) -> "CompletionsWriter":
        return CompletionsWriter(
            f"cmpl-{request.id}",
            request.model or "",
            int(time.time()),
            usage=request.wants_usage,
            abort_on_fault=cuts_on_error(head),
        )


class CompletionsWriter(OpenAIStream):
    """Encoder of one answer. Its end is `[DONE]`, or an error object in its place."""

    __slots__ = ("_common", "_usage", "abort_on_fault")

    def __init__(self, id: str, model: str, created: int, *, usage: bool = False, abort_on_fault: bool = False) -> None:
        """`created` is in Unix seconds; `usage`: the client asked for a usage chunk."""
        self._common: dict[str, Any] = {"id": id, "object": "text_completion", "created": created, "model": model}
        self._usage, self.abort_on_fault = usage, abort_on_fault

    def feed(self, batch: Batch) -> bytes:
        """The bytes of a batch; after a terminal event, the end of the body."""
        if batch.dialect != DIALECT:
            return b"".join([self._event(event) for event in batch.events])
        frames = b"".join(batch.payloads)
        match batch.terminal:
            case None:
                return frames
            case Finish():
                return frames + END
            case Fault(error):
                return frames + sse.encode(error_body(error))

    def whole(self, answer: Answer) -> Reply:
        if answer.dialect == DIALECT:
            return Reply(200, answer.payload, JSON)
        reason = answer.upstream_reason or answer.finish_reason
        choice = {"text": answer.text, "index": 0, "logprobs": None, "finish_reason": reason}
        body = self._common | {"model": answer.model or self._common["model"], "choices": [choice]}
        if answer.usage is not None:
            body["usage"] = counts(answer.usage)
        return Reply(200, msgspec.json.encode(body), JSON)

    def _event(self, event: StreamEvent) -> bytes:
        match event:
            case TextDelta(text):
                return self._chunk(json_string(text), b"null")
            case Start(_, model):
                if model:
                    self._common["model"] = model
                return b""
            case Finish(reason, usage):
                last = self._chunk(b'""', json_string(event.upstream_reason or reason))
                if self._usage and usage is not None:
                    last += sse.encode(msgspec.json.encode(self._common | {"choices": [], "usage": counts(usage)}))
                return last + END
            case Fault(error):
                return sse.encode(error_body(error))
            case _:
                return b""  # the contract has no place for it

    def _chunk(self, text: bytes, reason: bytes) -> bytes:
        head = msgspec.json.encode(self._common)[:-1]
        return b'data: %b,"choices":[{"text":%b,"index":0,"logprobs":null,"finish_reason":%b}]}\n\n' % (
            head,
            text,
            reason,
        )


FRONTEND = CompletionsFrontend()
