"""The response object of OpenAI Responses and the items in its output, as bytes.

Texts are passed in as JSON strings: a stream repeats each text three times at its end, and none of them is encoded
again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from proxy.contracts.responses.tools import Origin, Tools
from proxy.errors import ProxyError
from proxy.request import Usage
from proxy.wire.json_text import json_string
from proxy.wire.upstream_errors import error_body

Status = Literal["in_progress", "completed", "incomplete"]

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The finish reasons of an incomplete answer, in the contract's words."""

_ERROR_CODES = frozenset({"context_length_exceeded", "insufficient_quota"})
"""Codes of upstreams that Codex acts on. All others become one of the contract's own, which SDKs know as types."""

_encode = msgspec.json.encode


class ResponseObject:
    """One answer's response object. The part that repeats the request is encoded once."""

    def __init__(self, wire: Mapping[str, Any], tools: Tools, *, id: str, created: int) -> None:
        head = {"id": id, "object": "response", "created_at": created, "background": False}
        self._head = _encode(head)[:-1] + b',"status":'
        self._tail = b"," + _encode(_echo(wire, tools))[1:]

    def write(
        self,
        status: str,
        model: str,
        *,
        output: Sequence[bytes] = (),
        usage: Usage | None = None,
        incomplete: str | None = None,
        error: ProxyError | None = None,
        completed_at: int | None = None,
    ) -> bytes:
        return b'%b"%b","completed_at":%b,"error":%b,"incomplete_details":%b,"model":%b,"output":[%b],"usage":%b%b' % (
            self._head,
            status.encode(),
            _encode(completed_at),
            _encode(_error(error)) if error else b"null",
            _encode({"reason": incomplete}) if incomplete else b"null",
            json_string(model),
            b",".join(output),
            _encode(_counts(usage)) if usage else b"null",  # unknown is not zero
            self._tail,
        )


def _echo(wire: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    """What the response repeats of its request. `tools` are those that the model was offered."""
    text = wire.get("text") if isinstance(wire.get("text"), dict) else {}
    return {
        "instructions": wire.get("instructions"),
        "max_output_tokens": wire.get("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": wire.get("metadata") or {},
        "parallel_tool_calls": wire.get("parallel_tool_calls") is not False,
        "previous_response_id": None,
        "prompt_cache_key": wire.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **(wire.get("reasoning") or {})},
        "safety_identifier": wire.get("safety_identifier"),
        "service_tier": wire.get("service_tier"),
        "store": False,
        "temperature": wire.get("temperature"),
        "text": {"format": {"type": "text"}, **(text or {})},
        "tool_choice": wire.get("tool_choice") or "auto",
        "tools": tools.echo,
        "top_logprobs": 0,
        "top_p": wire.get("top_p"),
        "truncation": "disabled",
        "user": wire.get("user"),
    }


def _error(error: ProxyError) -> dict[str, str]:
    if error.code in _ERROR_CODES:
        code = error.code
    elif error.status == 429:
        code = "rate_limit_exceeded"
    else:
        code = "invalid_prompt" if error.status < 500 and not error.retryable else "server_error"
    return {"code": code, "message": error.message}


def error_fields(error: ProxyError) -> bytes:
    """The fields of an `error` event: flat, as the contract says, and nested under `error`, which SDKs raise by."""
    flat = {"code": error.code, "message": error.message, "param": error.param}
    return _encode(flat)[1:-1] + b"," + error_body(error)[1:-1]


def _counts(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


# Signatures on reasoning: clients keep `encrypted_content` as it is, and send it back with the reasoning item.

_SIGNATURE_MARK = "chat-proxy:"


def encrypted_content(signature: str) -> str | None:
    """The value of `encrypted_content` for an upstream's signature, marked as ours."""
    return _SIGNATURE_MARK + signature if signature else None


def signature_in(encrypted_content: str | None) -> str | None:
    """The signature in a client's `encrypted_content`. None without our mark: no upstream of ours would take it."""
    if encrypted_content is None or not encrypted_content.startswith(_SIGNATURE_MARK):
        return None
    return encrypted_content.removeprefix(_SIGNATURE_MARK) or None


# Items and their parts. Arguments of type `bytes` are JSON.


def text_part(text: bytes, annotations: Sequence[bytes] = ()) -> bytes:
    return b'{"type":"output_text","text":%b,"annotations":[%b],"logprobs":[]}' % (text, b",".join(annotations))


def refusal_part(text: bytes) -> bytes:
    return b'{"type":"refusal","refusal":%b}' % text


def url_citation(url: str, title: str, at: int) -> bytes:
    """A page that the text relies on. Upstreams do not say where: it gets an empty range at the place it came."""
    return b'{"type":"url_citation","url":%b,"title":%b,"start_index":%d,"end_index":%d}' % (
        json_string(url),
        json_string(title),
        at,
        at,
    )


def message_item(id: bytes, parts: Sequence[bytes], status: Status) -> bytes:
    return b'{"type":"message","id":%b,"status":"%b","role":"assistant","content":[%b]}' % (
        id,
        status.encode(),
        b",".join(parts),
    )


def summary_part(text: bytes) -> bytes:
    return b'{"type":"summary_text","text":%b}' % text


def reasoning_item(id: bytes, summary: Sequence[bytes], signature: str, status: Status) -> bytes:
    return b'{"type":"reasoning","id":%b,"summary":[%b],"encrypted_content":%b,"status":"%b"}' % (
        id,
        b",".join(summary),
        _encode(encrypted_content(signature)),
        status.encode(),
    )


def call_item(id: bytes, call_id: str, origin: Origin, arguments: bytes, status: Status) -> bytes:
    """A call, under the tool's name as the client knows it. For a custom tool, `arguments` is its input."""
    return b'{"type":"%b","id":%b,"call_id":%b,"name":%b,%b"%b":%b,"status":"%b"}' % (
        b"custom_tool_call" if origin.custom else b"function_call",
        id,
        json_string(call_id),
        json_string(origin.name),
        b'"namespace":%b,' % json_string(origin.namespace) if origin.namespace else b"",
        b"input" if origin.custom else b"arguments",
        arguments,
        status.encode(),
    )


def image_item(id: bytes, base64: str, status: Status) -> bytes:
    return b'{"type":"image_generation_call","id":%b,"status":"%b","result":%b}' % (
        id,
        status.encode(),
        json_string(base64) if base64 else b"null",
    )


def image_data(media_type: str, url: str) -> str:
    """The base64 of an image that came as a `data:` URL; empty for anything else."""
    head, _, data = url.partition(",")
    return data if media_type.startswith("image/") and head.startswith("data:") and head.endswith(";base64") else ""
