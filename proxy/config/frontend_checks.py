"""Check declared contracts and report each mistake at its own word.

The checks work on the data as it is written, so one mistake does not hide the next. `proxy.config.frontends` reports
wrong types; they are skipped here.
"""

import re
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from typing import Any, NamedTuple

from proxy.config.base import NAME, as_list
from proxy.config.frontends import ACCEPT
from proxy.config.parameters import KIND_OF_PARAMETER, check_parameters
from proxy.config.source import Document, Path
from proxy.config.templates import (
    STREAM_TEMPLATES,
    TOOL_TEMPLATES,
    Node,
    could_look_alike,
    is_one_line,
    is_text,
    parse,
    slots,
    text_pieces,
)
from proxy.config.wording import dotted, nearest
from proxy.errors import ConfigError, error_codes

OPERATIONS = (
    "/healthz", "/readyz", "/metrics", "/status", "/status/events", "/status/requests", "/status/config", "/explain",
    "/explain/diff", "/status/requests/", "/usage", "/web/",
)  # fmt: skip
"""Pages for operators; no contract may have their paths, or one in a folder of theirs."""

DONE = "[DONE]"
"""The only end that bare text may have without an event name: the model's own `[DONE]` is cut over two events."""

_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?")
_MEDIA_TYPE = re.compile(r"[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(?:; ?[a-zA-Z0-9-]+=[A-Za-z0-9._-]+)*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ONE_LINE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_STATUS = re.compile(r"[45][0-9][0-9]|[45]xx|\*")
_OWN_HEADERS = frozenset({
    "connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "server", "te", "trailer",
    "transfer-encoding", "upgrade", "x-chat-notice", "x-request-id",
})  # fmt: skip
_SSE_ONLY = ("events", "data_prefix", "bare_text")
_RAW = ("token", "reasoning", "error")
_ENDS = ("done", "error")
_UNNAMED = "message"  # the standard's name for an event without a name


class Served(NamedTuple):
    """What is served already: the names of contracts, and the contract at each path."""

    contracts: Collection[str]
    paths: Mapping[str, str]


class _Row:
    """One declaration as it is written, with a method that reports a mistake at its place."""

    def __init__(self, document: Document, name: str, raw: Mapping[str, Any]) -> None:
        self.document, self.name, self.raw = document, name, raw
        self.at: Path = ("frontends", name)

    def error(self, message: str, *path: str | int, key: bool = False) -> ConfigError:
        where = (*self.at, *path)
        return self.document.error(f"{dotted(where)}: {message}", where, key=key)

    def mapping(self, *path: str) -> Mapping[str, Any]:
        """The mapping at this path; empty if there is none."""
        found: Any = self.raw
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def texts(self, *path: str) -> Iterator[tuple[str, Path]]:
        """The text at this path, or each text of a list there, with its path."""
        found: Any = self.raw
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
        for index, text in enumerate(as_list(found) or []):
            if isinstance(text, str):
                yield text, ((*path, index) if isinstance(found, list) else path)


def frontend_errors(document: Document, served: Callable[[], Served]) -> Iterator[ConfigError]:
    """All mistakes in `frontends` except wrong types. `served` is called only if there are contracts."""
    rows = document.data.get("frontends")
    if not isinstance(rows, dict) or not rows:
        return
    there = served()
    paths: dict[str, str] = {}  # declared so far, and by whom
    for name, raw in rows.items():
        row = _Row(document, name, raw if isinstance(raw, dict) else {})
        if not NAME.fullmatch(name):
            message = "a name is up to 64 letters, digits, '-', '_' and '.', and starts with a letter or digit"
            yield row.error(message, key=True)
        elif name in there.contracts:
            yield row.error(f"there is a contract `{name}` already, built in; choose another name", key=True)
        if row.raw:
            yield from _paths(row, there.paths, paths)
            yield from _headers(row)
            yield from _request(row)
            yield from _response(row)
            yield from _errors(row)


def _paths(row: _Row, taken: Mapping[str, str], declared: dict[str, str]) -> Iterator[ConfigError]:
    for path, where in row.texts("path"):
        who = taken.get(path) or next((name for served, name in taken.items() if _covers(served, path)), None)
        if not _PATH.fullmatch(path) or any(step in {".", ".."} for step in path.split("/")):
            shown = path if len(path) <= 40 else path[:39] + "…"
            yield row.error(
                f"`{shown}` is no path: begin with a slash, and use letters, digits and `-._~!$&'()*+,;=:@` between "
                "slashes. It is compared letter by letter with what clients send",
                *where,
            )
        elif path in OPERATIONS or path[: path.rfind("/") + 1] in OPERATIONS:
            yield row.error(f"{path} is a page for operators; choose another path", *where)
        elif who is not None:
            yield row.error(f"{path} is served by the contract `{who}`; choose another path", *where)
        elif path in declared:
            whom = "twice here" if declared[path] == row.name else f"by `{declared[path]}` above"
            yield row.error(f"{path} is declared {whom}; choose another path", *where)
        declared.setdefault(path, row.name)


def _covers(pattern: str, path: str) -> bool:
    """Whether a built-in path such as `/v1/models/{id}` matches this one."""
    prefix, placeholder, suffix = pattern.partition("{id}")
    longer = len(path) > len(prefix) + len(suffix)
    return bool(placeholder) and longer and path.startswith(prefix) and path.endswith(suffix)


def _headers(row: _Row) -> Iterator[ConfigError]:
    seen: set[str] = set()
    for name, value in row.mapping("headers").items():
        lower = name.lower()
        if not _HEADER.fullmatch(name) or (isinstance(value, str) and not _ONE_LINE.fullmatch(value)):
            yield row.error("a header is a name and a value of printable ASCII on one line", "headers", name, key=True)
        elif lower in _OWN_HEADERS or lower.startswith("access-control-"):
            hints = {"content-type": "; write `content_type` under `response`"}
            hint = hints.get(lower, "; write `cors` under `server`" if lower.startswith("access") else "")
            yield row.error(f"this header is the proxy's own{hint}", "headers", name, key=True)
        elif lower in seen:
            yield row.error("this header is given twice", "headers", name, key=True)
        seen.add(lower)


# -- request ---------------------------------------------------------------------------------------------------


def _request(row: _Row) -> Iterator[ConfigError]:
    request = row.mapping("request")
    for key in ("messages", "role", "content", "prompt", "system", "model", "stream", "parameters_in", "tools", "user"):
        for field, where in row.texts("request", key):
            if key != "stream" or field != ACCEPT:
                yield from _field(row, field, where)
    for key in ("parameters", "metadata"):
        for name in row.mapping("request", key):
            for field, where in row.texts("request", key, name):
                yield from _field(row, field, where)
    for name in row.mapping("request", "parameters"):
        if name not in KIND_OF_PARAMETER:
            message = f"`{name[:40]}` is no parameter{nearest(name, KIND_OF_PARAMETER)}"
            yield row.error(message, "request", "parameters", name, key=True)
    if "tools" in request and row.mapping("response").keys().isdisjoint(TOOL_TEMPLATES):
        message = "tools are read, but `response` has no `tool_call` template for calls; write one, or remove this"
        yield row.error(message, "request", "tools", key=True)
    yield from _defaults(row)


def _field(row: _Row, field: str, where: Path) -> Iterator[ConfigError]:
    if field.startswith("$"):
        hint = " (only `stream` may be `$accept`)" if field == ACCEPT else ""
        yield row.error(f"`{field[:40]}` is no field: name one of the request's body{hint}", *where)
    elif not all(field.split(".")):
        yield row.error(f"`{field[:40]}` is no field: write its name, or a path such as `input.question`", *where)


_DEFAULTS: Mapping[str, tuple[type, str]] = {"model": (str, "text"), "system": (str, "text"), "stream": (bool, "true or false")}  # fmt: skip


def _defaults(row: _Row) -> Iterator[ConfigError]:
    for name, value in row.mapping("request", "defaults").items():
        where = ("request", "defaults", name)
        if name in _DEFAULTS:
            kind, words = _DEFAULTS[name]
            if not isinstance(value, kind):
                yield row.error(f"takes {words}", *where)
        elif name not in KIND_OF_PARAMETER:
            known = {*_DEFAULTS, *KIND_OF_PARAMETER}
            yield row.error(f"`{name[:40]}` has no default{nearest(name, known)}", *where, key=True)
        else:
            try:
                check_parameters({name: value})
            except ValueError as error:
                yield row.error(str(error), *where)


# -- response --------------------------------------------------------------------------------------------------


def _response(row: _Row) -> Iterator[ConfigError]:
    response = row.mapping("response")
    framing = response.get("framing", "sse")
    content_type = response.get("content_type")
    if isinstance(content_type, str) and not _MEDIA_TYPE.fullmatch(content_type):
        yield row.error("write a content type as `text/event-stream; charset=utf-8`", "response", "content_type")
    templates: dict[str, Node] = {}
    for name in STREAM_TEMPLATES:
        if response.get(name) is None or (name == "heartbeat" and response[name] is False):
            continue
        node = yield from _template(row, response[name], name, "response", name)
        if node is None:
            continue
        templates[name] = node
        yield from _framed(row, name, node, framing)
    yield from _says_text(row, templates.get("token"), "response", "token")
    yield from _whole(row, templates.get("tool_call"))
    yield from _sse_settings(row, templates.get("token"), framing)
    yield from _ends(row, templates, framing)


def _template(row: _Row, value: Any, kind: str, *path: str) -> Generator[ConfigError, None, Node | None]:
    """Report a template's mistakes; return the template, or None if it has any."""
    node, problems = parse(value, kind)
    for problem in problems:
        yield row.error(problem.message, *path, *problem.path)
    return None if problems else node


def _framed(row: _Row, name: str, node: Node, framing: str) -> Iterator[ConfigError]:
    """Report a template that its framing cannot write."""
    if framing == "raw":
        if name not in _RAW:
            hint = "; its end is the end of the body" if name == "done" else ""
            yield row.error(f"`raw` is the bare text and has no place for `{name}`{hint}", "response", name, key=True)
        elif not is_text(node):
            yield row.error("in `raw` a template is text, such as `$text`; for JSON choose `framing: ndjson`", "response", name)  # fmt: skip
    elif framing == "ndjson" and not is_one_line(node):
        message = "a line end in it would end the frame: in `ndjson` write a mapping, or text with `$name.json`"
        yield row.error(message, "response", name)


def _says_text(row: _Row, node: Node | None, *path: str) -> Iterator[ConfigError]:
    if node is not None and not any(slot.name == "text" for slot in slots(node)):
        yield row.error("it has no `$text`, so the answer would be lost", *path)


def _whole(row: _Row, tool_call: Node | None) -> Iterator[ConfigError]:
    whole = row.raw.get("whole")
    if whole is None:
        return
    node = yield from _template(row, whole, "whole", "whole")
    yield from _says_text(row, node, "whole")
    if node is None or not any(slot.name == "tool_calls" for slot in slots(node)):
        return
    if tool_call is None or is_text(tool_call):
        yield row.error("`$tool_calls` needs a `response.tool_call` that is written as JSON; write one", "whole")  # fmt: skip


def _sse_settings(row: _Row, token: Node | None, framing: str) -> Iterator[ConfigError]:
    response = row.mapping("response")
    for key in _SSE_ONLY:
        if key in response and framing in {"ndjson", "raw"}:
            yield row.error("this needs `framing: sse`", "response", key, key=True)
    events = row.mapping("response", "events")
    for name, event in events.items():
        where = ("response", "events", name)
        if name not in STREAM_TEMPLATES:
            yield row.error(f"`{name[:40]}` is no template{nearest(name, STREAM_TEMPLATES)}", *where, key=True)
        elif isinstance(event, str) and not _ONE_LINE.fullmatch(event):
            yield row.error("an event's name is printable ASCII on one line", *where)
        elif response.get(name) is None:
            yield row.error(f"there is no template `{name}` to name; write one, or remove this", *where, key=True)  # fmt: skip
    if "bare_text" in response and token is not None:
        if not _is_bare(token):
            yield row.error("this needs `token: $text`", "response", "bare_text", key=True)
        elif response["bare_text"] in {"text", "both"} and "token" in events:
            yield row.error("the chat hook ignores events with a name; remove this", "response", "events", "token")


def _is_bare(node: Node) -> bool:
    return is_text(node) and [getattr(piece, "name", "") for piece in text_pieces(node)] == ["text"] and not is_one_line(node)  # fmt: skip


def _ends(row: _Row, templates: Mapping[str, Node], framing: str) -> Iterator[ConfigError]:
    """A reader must be able to tell an end from every other frame, whatever the model writes."""
    response = row.mapping("response")
    cut = response.get("cut_on_error")
    if cut is False and (framing == "raw" or response.get("error") is None):
        message = "an answer that broke off would look complete; " + (
            "`raw` has no other sign of it" if framing == "raw" else "write a template `error`, or remove this"
        )
        yield row.error(message, "response", "cut_on_error")
    if framing == "raw":
        return
    events = row.mapping("response", "events")
    for end in _ENDS:
        if end not in templates or (end == "error" and cut is True):
            continue
        for name, node in templates.items():
            if name == end or (name, end) == ("error", "done"):
                continue
            if events.get(name, _UNNAMED) != events.get(end, _UNNAMED):
                continue
            if could_look_alike(node, templates[end]) and not _split_by_frames(node, templates[end], framing):
                own = ", or an event name under `events`" if framing == "sse" else ""
                message = (
                    f"it could not be told from `{name}`: both may be the same text; give it a shape of its own{own}"
                )
                yield row.error(message, "response", end)
                break


def _split_by_frames(token: Node, end: Node, framing: str) -> bool:
    return framing == "sse" and _is_bare(token) and is_text(end) and text_pieces(end) == (DONE,)


# -- errors ----------------------------------------------------------------------------------------------------


def _errors(row: _Row) -> Iterator[ConfigError]:
    body = row.mapping("errors").get("body")
    if body is not None:
        node = yield from _template(row, body, "body", "errors", "body")
        yield from _told_from_an_answer(row, node)
    codes = error_codes()
    for key, status in row.mapping("errors", "status").items():
        where = ("errors", "status", key)
        if not _STATUS.fullmatch(key) and key not in codes:
            known = {*codes, "4xx", "5xx", "*"}
            yield row.error(f"`{key[:40]}` is no code, status or class{nearest(key, known)}", *where, key=True)
        elif key in {"401", "invalid_api_key"}:
            yield row.error("a request without a valid key is a 401, whatever the contract", *where, key=True)
        elif isinstance(status, int) and status != 200 and not 400 <= status <= 599:
            yield row.error("the status of a failure is 200, or one from 400 to 599", *where)


def _told_from_an_answer(row: _Row, body: Node | None) -> Iterator[ConfigError]:
    """A failure with the status of an answer needs a body that no answer can have."""
    if body is None or 200 not in row.mapping("errors", "status").values():
        return
    whole, problems = parse(row.raw.get("whole", {"text": "$text"}), "whole")
    if not problems and could_look_alike(body, whole):
        message = (
            "with status 200 it could not be told from `whole`: both may be the same text; give it a shape of its own"
        )
        yield row.error(message, "errors", "body")
