"""What the replies of many contracts have in common: the headers of a stream and of JSON, and when to ask again."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Never

import msgspec

from proxy.contracts.base import Head, Reply
from proxy.errors import InternalError, NotFound, ProxyError
from proxy.events import Batch
from proxy.wire.sse import PING
from proxy.wire.text import error_line
from proxy.wire.upstream_errors import error_body

LIVE: Mapping[str, str] = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""Headers that keep proxies in between from buffering a stream."""

EVENT_STREAM: Mapping[str, str] = {"Content-Type": "text/event-stream; charset=utf-8", **LIVE}
JSON: Mapping[str, str] = {"Content-Type": "application/json", "Cache-Control": "no-store"}
TEXT: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}


def error_headers(error: ProxyError, headers: Mapping[str, str] = JSON) -> dict[str, str]:
    """The headers of an error instead of an answer."""
    told = {**headers, **error.headers}
    if error.retry_after is not None:
        told["Retry-After"] = str(max(0, math.ceil(error.retry_after)))
    return told


def sdk_error_headers(error: ProxyError, headers: Mapping[str, str] = JSON) -> dict[str, str]:
    """The same for the SDKs of OpenAI and Anthropic.

    They read the time to wait in milliseconds. `X-Should-Retry` overrides what they would do by the status alone.
    """
    told = error_headers(error, headers)
    told["X-Should-Retry"] = "true" if error.retryable else "false"
    if error.retry_after is not None:
        told["Retry-After-Ms"] = str(max(0, math.ceil(error.retry_after * 1000)))
    return told


def cuts_on_error(head: Head, *, default: bool = False) -> bool:
    """Whether to cut the connection after an error: the route's `errors` says so, else the contract's `default`."""
    errors = head.options.get("errors")
    return default if errors is None else bool(errors == "frame+abort")


class NoModels:
    """For contracts that have no list of models: none of their endpoints leads here."""

    def models(self, ids: list[str], created: int) -> Never:  # noqa: ARG002
        raise NotFound("this contract has no list of models")

    def model(self, id: str, ids: list[str], created: int) -> Never:  # noqa: ARG002
        raise NotFound("this contract has no list of models")


def encode_error(error: ProxyError, request_id: str) -> bytes:
    """An error as JSON on one line: the body of a failed `/chat` request, and the error frame of the `json` dialect."""
    fields = {
        "message": error_line(error),
        "type": error.type,
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    return msgspec.json.encode({"error": fields})


def openai_failure(error: ProxyError) -> Reply:
    """An error instead of an answer. SDKs retry 408, 409, 429 and 5xx after the time the headers name."""
    return Reply(error.status, error_body(error), sdk_error_headers(error))


def json_reply(body: bytes) -> Reply:
    return Reply(200, body, JSON)


def date(seconds: int) -> str:
    """A Unix time as RFC 3339 writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class OpenAIErrors:
    """For frontends whose errors have OpenAI's form."""

    def failure(self, error: ProxyError, head: Head) -> Reply:  # noqa: ARG002 - errors have one form
        return openai_failure(error)


class OpenAIStream:
    """For encoders of OpenAI's streams."""

    __slots__ = ()

    headers = EVENT_STREAM
    early = False

    def ping(self) -> bytes:
        return PING

    def failure(self, error: ProxyError) -> Reply:
        return openai_failure(error)


class InOnePiece:
    """For encoders of answers that are never streamed."""

    headers = JSON
    early = False
    abort_on_fault = False

    def feed(self, batch: Batch) -> bytes:  # noqa: ARG002
        raise InternalError("embeddings come in one piece")

    def ping(self) -> bytes:
        return b""
