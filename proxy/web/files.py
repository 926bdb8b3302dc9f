"""The files of the page, read once. They are plain HTML, CSS and ES modules: nothing builds them."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from proxy.contracts.base import Reply

PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}


def _replies() -> Mapping[str, Reply]:
    found: dict[str, Reply] = {}
    for file in files("proxy.web").joinpath("static").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found[file.name] = Reply(200, body, {**PAGE_HEADERS, "Content-Type": kind, "ETag": etag})
    return found


FILES = _replies()
PAGE = Reply(200, FILES["index.html"].body, {**FILES["index.html"].headers, "Vary": "Accept"})
