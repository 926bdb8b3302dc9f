"""Reading a request's body, within the limits. Requests that will be refused are refused before their body."""

import asyncio
from collections.abc import Mapping

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion10, HttpVersion11

from proxy.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedMedia
from proxy.server.aiohttp_internals import free_buffer
from proxy.server.context import CLOSE, RequestContext


def check_framing(http: web.BaseRequest) -> None:
    """Refuse what aiohttp's parser in Python lets through and the one in C does not (H04)."""
    coding = http.headers.get("Transfer-Encoding")
    if http.version not in {HttpVersion10, HttpVersion11} or (
        coding is not None and (coding.lower() != "chunked" or http.version < HttpVersion11)
    ):
        raise BadRequest("The request is not valid HTTP.", code="invalid_http", headers=CLOSE)


async def read_body(context: RequestContext) -> bytes:
    """The whole body. Raises `TooLarge`, `UnsupportedMedia`, `RequestTimeout` or `BadRequest`."""
    http, limits = context.http, context.snapshot.limits
    limit = int(limits.body_mb * 1_000_000)
    _check_type(context.head.headers)
    if http.content_length is not None and http.content_length > limit:
        raise _too_large(limit)
    if context.awaits_continue:
        context.awaits_continue = False
        if http.transport is None:
            raise ConnectionResetError
        http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        if http.content.is_eof():  # most bodies come with their heads
            body = http.content.read_nowait()
            if len(body) > limit:
                raise _too_large(limit)
            return body
        async with asyncio.timeout(limits.body_s):
            return await _read(http.content, limit)
    except TimeoutError:
        raise RequestTimeout(f"The request body took longer than {limits.body_s:g} s.", headers=CLOSE) from None
    except web.RequestPayloadError:
        raise BadRequest("The request body is not valid HTTP.", headers=CLOSE) from None


async def _read(content: StreamReader, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await content.readany():
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        pieces.append(piece)
    if pieces:
        free_buffer(content)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_type(headers: Mapping[str, str]) -> None:
    """Only plain JSON (H07).

    Other types are accepted only from a caller that is no browser: `curl -d` sends the type of a form. A web page
    could avoid the CORS preflight with "text/plain".
    """
    if headers.get("content-type") == "application/json" and "content-encoding" not in headers:  # as nearly always
        return
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedMedia(f"Compressed bodies ({encoding[:20]}) are not read. Send plain JSON.", headers=CLOSE)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    from_browser = "origin" in headers or "sec-fetch-site" in headers or "sec-fetch-mode" in headers
    if from_browser or kind not in {"", "application/x-www-form-urlencoded"}:
        raise UnsupportedMedia("Send the request as JSON, with `Content-Type: application/json`.", headers=CLOSE)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request is larger than {limit / 1_000_000:g} MB (server.limits.body_mb).", headers=CLOSE)
