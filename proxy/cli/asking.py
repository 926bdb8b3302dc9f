"""Ask a running proxy what it did with a request: `chat-proxy explain --last` and `--request ID`."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from proxy.cli.common import stop

WITHIN_S = 10.0
MOST_BYTES = 16 << 20  # of an answer

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens there answers here


def address(host: str, port: int) -> str:
    """Where a proxy with these settings is reached from this machine."""
    host = _EVERYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def told(url: str, id: str | None, key: str | None) -> dict[str, Any]:
    """What the proxy at `url` tells of request `id`, or of the last one that is over. Exits if that is nothing."""
    try:
        found = json.loads(
            fetched(url, f"/status/requests/{quote(id, safe='')}" if id else "/status/requests?last=1", key)
        )
    except ValueError:
        found = None
    if not isinstance(found, dict) or "attempts" not in found:
        stop(f"what answers at {url} is no chat-proxy, or an older one", exit_code=1)
    return found


def fetched(url: str, path: str, key: str | None) -> bytes:
    """A page of the proxy at `url`. Exits if there is none."""
    if urlsplit(url).scheme not in {"http", "https"}:
        stop(f"{url} is no address: write it as http://127.0.0.1:8080", exit_code=2)
    request = Request(url.rstrip("/") + path, headers={"Authorization": f"Bearer {key}"} if key else {})  # noqa: S310
    # A forward proxy of the environment knows nothing of this machine's own addresses.
    own = urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}
    opener = build_opener(ProxyHandler({})) if own else build_opener()
    try:
        with opener.open(request, timeout=WITHIN_S) as answer:
            return bytes(answer.read(MOST_BYTES))
    except HTTPError as error:
        _refused(url, error, key)
    except OSError as error:
        why = str(getattr(error, "reason", error) or error)
        stop(f"no proxy answers at {url}: {why}; start it, or name its address with --url", exit_code=1)


def _refused(url: str, error: HTTPError, key: str | None) -> NoReturn:
    try:
        message = json.loads(error.read(MOST_BYTES))["error"]["message"]
    except (OSError, ValueError, LookupError, TypeError):
        message = f"what answers at {url} is no chat-proxy: it says {error.code}"
    if error.code in {401, 403}:
        message += " Name another one with --api-key." if key else " Give one with --api-key."
    stop(_plain(str(message)), exit_code=1)


def as_text(found: dict[str, Any]) -> str:
    """What it tells, for a person."""
    return "\n".join(map(_plain, _lines(found)))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"request {found['request_id']}: {found['path'] or 'a path where nothing is served'}, contract {found['contract'] or '(none)'}"
    yield f"model {found['model'] or '(none)'}, key {found['key'] or '(none)'}"
    yield from ("", "routes:", *(f"  {line}" for line in found["why"] or ["no route was looked for"]))
    if found["attempts"]:
        yield from ("", "attempts:")
    for number, attempt in enumerate(found["attempts"], 1):
        yield f"  {number}. {attempt['target']}: {_outcome(attempt)}"
    for notice in found["notices"]:
        yield f"notice: {notice}"
    tokens = found.get("tokens")
    counted = (
        f", {tokens['in']} → {tokens['out']} tokens{' (estimated)' if tokens['estimated'] else ''}" if tokens else ""
    )
    took = "under way" if found["ms"] is None else f"{found['end']} after {_seconds(found['ms'])}"
    yield from ("", f"{took}, status {found['status'] or '(none yet)'}{counted}")
    if error := found.get("error"):
        yield f"{error['code']}: {error['message']}"


def _outcome(attempt: dict[str, Any]) -> str:
    if attempt["code"]:
        words = f", {attempt['words']}" if attempt["words"] else ""
        return f"{attempt['status'] or ''} {attempt['code']}{words}".strip()
    if attempt["first"] is None:
        return "nothing has come yet" if attempt["ended"] is None else "passed over"
    return f"first token after {_seconds(attempt['first'] - (attempt['start'] or 0.0))}"


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s"


def _plain(line: str) -> str:
    """The line without characters that a terminal would act on."""
    return "".join(character if character.isprintable() else "�" for character in line)
