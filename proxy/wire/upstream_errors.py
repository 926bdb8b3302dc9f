"""OpenAI's error object, both ways: what an upstream says went wrong, and what we say did.

Reading is lenient, because every gateway has its own idea of the object; what it is taken for decides
whether another target is tried, so the mapping is a table. Writing is OpenAI's form to the letter, since
SDKs raise by it.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from proxy.errors import ModelRefused, ProxyError, UpstreamAuth, UpstreamError, UpstreamFailed, UpstreamRefused
from proxy.wire.text import bare

Clean = Callable[[str], str]
"""Makes an upstream's text fit to be shown: one line, bounded, no secrets."""

_REFUSED = frozenset({400, 404, 413, 415, 422})  # the request is at fault: another target would say the same
_AUTH = frozenset({401, 402, 403, 407})  # our account is: its key, its credit, its rights

_WORDS_OF_STATUS = {
    # What the upstream's `type` or `code` means where its error carries no status of its own. Without separators, and
    # without `error` or `exception` at the end.
    400: (
        "invalidrequest", "badrequest", "contextlengthexceeded", "contentfilter", "contentpolicyviolation",
        "stringabovemaxlength", "invalidparameter", "datainspectionfailed",
    ),
    401: ("authentication", "invalidapikey", "unauthorized"),
    402: ("billing", "insufficientbalance"),
    403: ("permission", "permissiondenied", "accessdenied"),
    404: ("notfound", "modelnotfound", "resourcenotfound"),
    413: ("requesttoolarge",),
    422: ("validation",),
    429: (
        "ratelimit", "ratelimitexceeded", "ratelimited", "throttling", "insufficientquota", "toomanyrequests",
        "resourceexhausted", "requestlimitexceeded", "quotaexceeded", "servicequotaexceeded",
        "tokens", "requests",  # OpenAI's `type` when a limit is on them
    ),
    500: ("internal", "internalserver", "server", "api"),
    503: ("serviceunavailable", "unavailable", "overloaded", "engineoverloaded", "serveroverloaded"),
    504: ("timeout", "modeltimeout", "deadlineexceeded"),
    529: ("overloadederror",),  # Anthropic
}  # fmt: skip
_STATUS_OF_WORD = {word: status for status, words in _WORDS_OF_STATUS.items() for word in words}
_ENDING = re.compile(r"(?:error|exception)$")


class Detail(msgspec.Struct, frozen=True):
    """What an upstream's error object says, in its own words. Any of it may be missing."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None
    status: int | None = None
    retry_after: float | None = None


def read_error(value: Any) -> Detail | None:
    """The error in a parsed body or event; `None` if it holds none.

    Known forms: OpenAI's `{"error": {…}}`, a bare string there (Ollama, llama.cpp), a flag or a title there with the
    words beside it (Spring, OAuth), a list around it (Gemini's compatible endpoint), one in a choice (OpenRouter), the
    flat `{"object": "error", …}` (vLLM), `{"message": …, "code": …}` (Mistral), FastAPI's `{"detail": …}`, MiniMax's
    `base_resp`, `{"error_msg": …}` (Baidu), `{"msg": …, "code": …}` (Zhipu's gateways), `{"errors": […]}` (Cloudflare),
    `{"fault": {…}}` (Apigee), `{"header": {…}}` (Spark), `{"Message": …}` (AWS), `{"throttlingException": {…}}` (Bedrock)
    and a title with a status (RFC 9457).
    A keep-alive with a `message` is none, nor is what says that it is a success.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return None
    if is_error(error := value.get("error")):
        return _detail(error if isinstance(error, (dict, list)) or not _words(value) else value)
    if base := _base_resp(value.get("base_resp")):
        return base
    healthy = value.get("success") is True or value.get("type") in _NO_ERRORS or value.get("status") in _NO_ERRORS
    if healthy or value.get("choices"):
        return _inside(value)
    if value.get("code") in _SUCCESS and value.get("type") != "error":
        return None
    if "error" in (value.get("object"), value.get("type"), value.get("status")):
        return _detail(value)
    if any(isinstance(value.get(name), str) for name in ("message", "Message", "error_msg")):
        return _detail(value)
    if isinstance(value.get("msg"), str) and "code" in value:
        return _detail(value)
    for name in ("fault", "header"):
        if isinstance(inner := value.get(name), dict) and inner.get("code") not in _SUCCESS and _words(inner):
            return _detail(inner)
    if errors := value.get("errors"):
        return _detail(errors[0] if isinstance(errors, list) else errors)
    if "detail" in value:
        detail = value["detail"]
        text = detail if isinstance(detail, str) else msgspec.json.encode(detail).decode()
        return Detail(message=text, status=_status(value.get("status_code"), value.get("status")))
    if isinstance(value.get("title"), str) and _status(value.get("status")):  # RFC 9457
        return _detail(value)
    for name, inner in value.items() if len(value) == 1 else ():  # Bedrock: the exception's name is the key
        if name.endswith(("Exception", "Error")) and isinstance(inner, dict) and _words(inner):
            return _detail({"type": name, **inner})
    return None


def _inside(chunk: dict[str, Any]) -> Detail | None:
    """The error in one of a chunk's choices, or where Groq has it."""
    choices, groq = chunk.get("choices"), chunk.get("x_groq")
    for part in [*(choices if isinstance(choices, list) else ()), groq]:
        if isinstance(part, dict) and is_error(part.get("error")):
            return _detail(part["error"])
    return None


def is_error(value: Any) -> bool:
    """Whether the value of `error` is one. Some servers send the object with nothing in it."""
    return any(value.values()) if isinstance(value, dict) else bool(value)


_NO_ERRORS = (
    "ping", "keepalive", "keep-alive", "keep_alive", "heartbeat", "progress", "status", "info", "notice", "queued",
    "pending", "processing", "running", "in_progress",
)  # fmt: skip
"""Types and states of objects whose `message` is no error."""

_SUCCESS = (0, 200, "0", "200", "success")
"""Codes that gateways send with `"msg": "ok"` beside a healthy answer."""

_CODES_OF_MINIMAX = {
    # https://platform.minimax.io/docs/api-reference/errorcode
    400: (1026, 1027, 1042, 2013),  # 1026: the prompt is refused for what it says
    401: (1004, 2049),
    402: (1008,),
    429: (1002, 1039, 1041, 2045, 2056),
    500: (1000, 1013, 1024, 1033),
    504: (1001,),
}
_MINIMAX = {code: status for status, codes in _CODES_OF_MINIMAX.items() for code in codes}


def _base_resp(value: Any) -> Detail | None:
    """MiniMax's status, which is in every chunk and body: 0 is success."""
    code = value.get("status_code") if isinstance(value, dict) else None
    if not isinstance(code, int) or not code:
        return None
    message = value.get("status_msg")
    return Detail(message=message if isinstance(message, str) else "", code=str(code), status=_MINIMAX.get(code))


def _detail(error: Any) -> Detail | None:
    if not error:
        return None
    if not isinstance(error, dict):
        return _inner(error) or Detail(message=error if isinstance(error, str) else "")
    message = _words(error)
    type_, title = error.get("type", error.get("error_type")), error.get("error")
    code = error.get("code", error.get("error_code"))
    found = Detail(
        message=message,
        type=_word(type_) or _word(error.get("status")) or _word(title),
        code=_word(code),
        param=_word(error.get("param")) or None,
        status=_status(error.get("status_code"), error.get("status"), error.get("http_status_code"), code, title),
        retry_after=_retry_delay(error.get("details")),
    )
    if (inner := _inner(message)) is None:
        return found
    if inner.status or _status_of_words(inner) != 502:
        return inner
    return msgspec.structs.replace(found, message=inner.message or message)


LONGEST_DELAY_S = 600.0  # a longer delay counts as this one
_DELAY = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")


def _retry_delay(details: Any) -> float | None:
    """The seconds after which Gemini may be asked again; no header has them."""
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return min(float(found[1]), LONGEST_DELAY_S)
    return None


_WORDS = (
    "message",
    "error_description",
    "detail",
    "error_msg",
    "msg",
    "reason",
    "Message",
    "faultstring",
    "error",
    "title",
)
"""Where an error's words are, the likeliest first."""


def _words(error: dict[str, Any]) -> str:
    message = error.get("message")
    if message and isinstance(message, (dict, list)):
        words = _words(message) if isinstance(message, dict) else ""
        error = {**error, "message": words or msgspec.json.encode(message).decode()}
    found = (error[name] for name in _WORDS if isinstance(error.get(name), str))
    return next((text for text in found if text), "")


def _inner(text: Any) -> Detail | None:
    """The error of an upstream's upstream, which some gateways pass on as JSON in a text."""
    return parse_error(text.encode(errors="replace")) if isinstance(text, str) and text[:1] in "{[" else None


def _word(value: Any) -> str:
    """A short name as it stands; nothing for what is none (litellm writes the string `None`)."""
    text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    return "" if text == "None" or len(text) > 64 or not text.isprintable() else text


def _status(*values: Any) -> int | None:
    for value in values:
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def upstream_error(
    detail: Detail,
    *,
    clean: Clean,
    status: int | None = None,
    retry_after: float | None = None,
    who: str = "the upstream",
) -> UpstreamError:
    """What an upstream's failure means to us: refused (4xx), our key, or broken and worth another target.

    `status` is that of the HTTP answer; without one (an error inside a stream) the object's own words decide.
    """
    status = status or detail.status or _status_of_words(detail)
    if status in _AUTH:
        refusal = UpstreamAuth(f"{who} does not accept the proxy's credentials (it answered {status})")
        if said := clean(detail.message):
            # It may quote the key, and is of no use to a client, who cannot change it. Whoever operates the proxy
            # learns from it whether the key expired, lacks a right or ran out of credit.
            refusal.detail = f"{refusal.message}: {said}"
        return refusal
    message = clean(detail.message)
    param = clean(detail.param) if detail.param else None
    code = clean(detail.code) if detail.code and not detail.code.isdigit() else None
    if status in _REFUSED:
        refused = ModelRefused if _is_about_model(detail, status) else UpstreamRefused
        return refused(message or f"{who} answered {status}", status=status, code=code, param=param)
    if status == 429:
        code = code or "rate_limit_exceeded"
    return UpstreamFailed(
        message or f"{who} failed (it answered {status})",
        status=status if status == 429 or status >= 500 else 502,
        code=code,
        param=param,
        retry_after=detail.retry_after if retry_after is None else retry_after,
    )


_MODEL_WORDS = frozenset({"model_not_found", "context_length_exceeded", "exceed_context_size_error"})

_TOO_LONG = re.compile(
    # OpenAI, vLLM, SGLang | llama.cpp, Ollama | Anthropic | Gemini | Mistral, Bedrock
    r"context (?:length|size|window)|prompt is too long|input token count.{0,40}exceeds|too many tokens|input is too long",
    re.IGNORECASE,
)
"""What upstreams write when a request is too long for a model. Few give it a code."""


def _is_about_model(detail: Detail, status: int) -> bool:
    """Whether the model is refused, and not the rest of the request (N4)."""
    if detail.code.lower() in _MODEL_WORDS or detail.type.lower() in _MODEL_WORDS:
        return True
    if status == 404:
        return detail.param == "model" or "model" in detail.message.lower()
    return status in {400, 413, 422} and _TOO_LONG.search(detail.message[:2000]) is not None


def _status_of_words(detail: Detail) -> int:
    for word in (detail.code, detail.type):
        key = bare(word)
        if status := _STATUS_OF_WORD.get(key) or _STATUS_OF_WORD.get(_ENDING.sub("", key)):
            return status
    return 502


_MARKS = (b"rror", b"essage", b'"msg"', b"base_resp", b'"fault"', b'"header"', b'"detail"', b'"title"', b"\\")


def may_hold_error(body: bytes) -> bool:
    """False for bytes that hold none of the words that every form of `read_error` has, such as most usage."""
    for mark in _MARKS:  # noqa: SIM110 - without a generator: each streamed answer asks
        if mark in body:
            return True
    return False


def parse_error(body: bytes) -> Detail | None:
    """The error that a body or an event's data holds; `None` if it holds none or is no JSON.

    A refusal may come as an event too, because a stream was asked for (DashScope).
    """
    if not may_hold_error(body):
        return None
    body = body.removeprefix(b"\xef\xbb\xbf")
    parts = [body]
    if b"\ndata:" in body or body.startswith(b"data:"):
        parts = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
    for part in parts:
        with suppress(ValueError, RecursionError):
            if error := read_error(msgspec.json.decode(part)):
                return error
    return None


def error_body(error: ProxyError) -> bytes:
    """The error object, as a body or as the data of an error event."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": "rate_limit_error" if error.status == 429 else error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    )
