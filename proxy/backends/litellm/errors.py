"""What litellm raises, as our errors.

Its own mapping is not enough: it calls a refused connection an internal server error, gives an unreadable event the
status 400, and wraps the upstream's words in its own. So the causes of the error decide: first a broken connection,
then the upstream's answer, and only then litellm's own class.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from time import time
from typing import Any

import aiohttp

from proxy.backends.http import retry_after
from proxy.backends.litellm.http import UpstreamCall
from proxy.errors import (
    ProxyError,
    UpstreamConnect,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTruncated,
)
from proxy.wire.upstream_errors import Clean, Detail, parse_error, read_error, upstream_error

_CAUSES = 12  # links of a chain of causes
_READ = 16 * 1024  # characters of a message, bytes of a body

_UNREADABLE = (LookupError, ValueError, TypeError, AttributeError)  # what parsing code raises at what it did not expect
_NO_CONNECTION = frozenset({"ClientConnectorError", "ConnectionTimeoutError", "ConnectTimeout"})  # of aiohttp and httpx
_LATE = frozenset({"TimeoutException", "Timeout", "APITimeoutError"})  # of httpx, litellm and the OpenAI SDK

# What litellm puts before and after the upstream's words. Linear: anchored, bounded, no nesting.
_BEFORE = re.compile(r"\s*(?:litellm\.)?\w{0,64}(?:Error|Exception)\b(?: \w{1,64}Error)?\s*[:-]?\s*")
_AFTER = re.compile(
    r"\s*(?:This looks like a bug in LiteLLM|Give Feedback / Get Help|LiteLLM Retried:|Handle with `litellm\.|stack trace:).*",
    re.DOTALL,
)


def translate(error: BaseException, call: UpstreamCall, *, who: str, clean: Clean) -> ProxyError:
    """The error for the client. Its message is the upstream's own, on one line, without secrets."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ProxyError):
            return link
    answered = call.status is not None and call.status >= 400
    if not answered and (broken := _broken(chain, who)):
        return broken
    detail = _detail(chain)
    streaming = call.status is not None and not answered
    if streaming and detail is None and any(isinstance(link, _UNREADABLE) for link in chain):
        return UpstreamMalformed(f"{who}: the upstream sent something that is not an answer")
    status = call.status if answered else _status(chain, streaming=streaming)
    if detail is None and call.status is None and status in {None, 500}:  # which litellm uses for anything
        words = clean(_own_words(error))
        return UpstreamFailed(f"{who}: {words}" if words else f"{who} failed", status=502)
    return upstream_error(
        detail or Detail(_own_words(error)),
        clean=clean,
        status=status,
        retry_after=retry_after(_headers(chain, call), time()),
        who=who,
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    link: BaseException | None = error
    for _ in range(_CAUSES):
        if link is None:
            return
        yield link
        link = getattr(link, "original_exception", None) or link.__cause__ or link.__context__


def _broken(chain: Sequence[BaseException], who: str) -> ProxyError | None:
    """Trouble with the connection, if that is what it was."""
    names = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if names & _NO_CONNECTION:
        return UpstreamConnect(f"{who}: no connection to the upstream")
    if names & _LATE or any(isinstance(link, TimeoutError) for link in chain):
        return UpstreamTimeout(f"{who}: the upstream did not answer in time")
    if "TransportError" in names or any(isinstance(link, aiohttp.ClientError | ConnectionError) for link in chain):
        return UpstreamTruncated(f"{who}: the connection broke before the answer was complete")
    return None


def _detail(chain: Sequence[BaseException]) -> Detail | None:
    """The upstream's error object: from its answer, from the SDK that parsed it, or out of litellm's message."""
    for link in chain:
        body = getattr(link, "body", None)
        if isinstance(body, dict) and (detail := read_error(body) or read_error({"error": body})):
            return detail
        content = getattr(getattr(link, "response", None), "content", None)
        if isinstance(content, bytes) and (detail := parse_error(content[:_READ])):
            return detail
    return _quoted(str(chain[0])[:_READ])


def _quoted(text: str) -> Detail | None:
    """The error object in a text: as JSON, or as Python shows a dict or bytes."""
    for start in (text.find("b'"), text.find('b"'), text.find("{")):
        if start < 0:
            continue
        quoted = text[start : max(text.rfind("}"), text.rfind("'"), text.rfind('"')) + 1]
        if detail := parse_error(quoted.encode("utf-8", "replace")):
            return detail
        try:
            value = ast.literal_eval(quoted)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        detail = parse_error(value) if isinstance(value, bytes) else read_error(value)
        if detail:
            return detail
    return None


def _status(chain: Sequence[BaseException], *, streaming: bool) -> int | None:
    """The status litellm names. Inside a stream, 4xx is its guess for what it could not read."""
    for link in chain:
        status = getattr(link, "status_code", None)
        if isinstance(status, int) and 400 <= status <= 599:
            return None if streaming and status == 400 else status
    return None


def _headers(chain: Sequence[BaseException], call: UpstreamCall) -> dict[str, str]:
    """The answer's headers, names in lower case."""
    if call.response is not None:
        return dict(call.headers)
    for link in chain:
        headers: Any = getattr(getattr(link, "response", None), "headers", None)
        if headers:
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {}


def _own_words(error: BaseException) -> str:
    """A message of litellm without what it puts around the upstream's."""
    text = str(error)[:_READ]
    for _ in range(4):
        shorter = _BEFORE.sub("", text, count=1) if _BEFORE.match(text) else text
        if shorter == text:
            break
        text = shorter
    return _AFTER.sub("", text)
