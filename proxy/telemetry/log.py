"""The log: one line for each event, written by a thread of its own.

Our own lines (structlog) and those of libraries (`logging`) go the same way: their values become plain ones, secrets
and everything that could forge a line are masked, the line is rendered as JSON or for a terminal, and queued.
Prompts and answers are never logged.
"""

import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import IO, Any, Literal

import msgspec
import structlog

from proxy.telemetry.console import request_line
from proxy.telemetry.record import AttemptRecord, StreamRecord
from proxy.telemetry.redact import LONGEST_TRACEBACK, MOST_ITEMS, Redactor
from proxy.telemetry.sink import Sink

Format = Literal["auto", "json", "console"]

LONGEST_LINE = 64 * 1024  # characters, as are the next two
LONGEST_WORDS = 300  # of what an attempt's error says
LONGEST_USER = 128

_LEVELS = ("debug", "info", "warning", "error", "critical")

_WARNED_OF = (
    "client_slow", "frame_too_large", "limit", "upstream_error", "upstream_idle", "upstream_malformed",
    "upstream_truncated",
)  # fmt: skip
_LEVEL_OF_END = dict.fromkeys(_WARNED_OF, "warning") | {None: "error", "internal": "error"}
"""A request without a reason for its end is our bug. All other ends are `info`."""

_log = structlog.stdlib.get_logger("proxy")
_encode = msgspec.json.Encoder().encode


class Log:
    """The configured log of this process."""

    def __init__(self, handler: "_Foreign", redactor: Redactor) -> None:
        self.redactor, self._handler = redactor, handler

    @property
    def dropped(self) -> int:
        """Lines lost because the reader of the log was too slow."""
        return self._handler.sink.dropped

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until what was logged so far is written; False if that took too long."""
        return self._handler.sink.flush(timeout_s)

    def adopt(self) -> None:
        """Take over the lines of libraries that add their own handlers, as litellm does when it is imported."""
        loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
        for logger in loggers:
            for handler in logger.handlers[:]:
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                    logger.removeHandler(handler)
                    logger.propagate = True

    def close(self) -> None:
        """Write what is queued, and restore `logging` and structlog to what they were."""
        if self._handler in logging.root.handlers:
            logging.root.removeHandler(self._handler)
            logging.root.setLevel(self._handler.level_before)
            logging.captureWarnings(capture=False)
            structlog.reset_defaults()
            global _request_end  # noqa: PLW0603
            _request_end = None
        self._handler.close()


def configure(
    format: Format = "auto",
    level: str = "info",
    *,
    stream: IO[str] | None = None,
    redactor: Redactor | None = None,
    worker: int | None = None,
    turn: AbstractContextManager[object] | None = None,
) -> Log:
    """Set up logging for the process; the last call counts. `auto` is `console` on a terminal, else `json`.

    Of several processes that write to the same place, each gives its `worker` number and the lock `turn`.
    """
    stream = sys.stderr if stream is None else stream
    redactor = Redactor() if redactor is None else redactor
    terminal = stream.isatty()
    console = format == "console" or (format == "auto" and terminal)
    colors = terminal and "NO_COLOR" not in os.environ
    render: _Render = _AsJson(redactor, worker)
    if console:
        render = _ForTerminals(redactor, worker, colors=colors, width=lambda: _width(stream) if terminal else None)
    sink = Sink(stream, turn=turn, notice=lambda dropped: render.line("warning", "log_lines_dropped", count=dropped))

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _stamp, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_name: _Queue(sink),
        cache_logger_on_first_use=False,  # so that a later call also changes loggers made before it
    )
    global _request_end  # noqa: PLW0603 - like structlog's own configuration, it is the process's
    _request_end = None
    if isinstance(render, _AsJson):
        shown = _LEVELS[_LEVELS.index(level) :]

        def put(level: str, line: _RequestEnd, id_chosen: bool) -> None:
            if level in shown:
                sink.put(render.request_end(level, line, id_chosen=id_chosen))

        _request_end = put
    handler = _Foreign(sink, render)
    for old in logging.root.handlers[:]:
        if isinstance(old, _Foreign):
            handler.level_before = old.level_before
        if type(old) in {_Foreign, logging.StreamHandler}:  # our last one, and what `basicConfig` puts there
            logging.root.removeHandler(old)
            old.close()
    logging.root.addHandler(handler)
    logging.root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    return Log(handler, redactor)


class _Attempt(msgspec.Struct, omit_defaults=True):
    """One try at one target in the log line of a request."""

    backend: str = ""
    model: str = ""
    status: int = 0
    error_code: str = ""
    seconds: float | None = None
    words: str = ""
    role: str = "answer"
    queued_ms: float | None = None


class _RequestEnd(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The fields of the log line of a request, in their order."""

    timestamp: str = ""
    level: str = ""
    event: str = ""
    worker: int | None = None
    request_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    contract: str = ""
    path: str = ""
    key: str = ""
    route: str = ""
    backend: str = ""
    model: str = ""
    upstream_model: str = ""
    user: str = ""
    stream: bool | None = None
    status: int | None = None
    end: str | None = None
    error_code: str = ""
    words: str = ""
    attempts: list[_Attempt] = []
    hedge: str = ""
    notices: list[str] = []
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_estimated: bool = False
    first_token_ms: float | None = None
    longest_gap_ms: float | None = None
    duration_ms: float | None = None
    bytes: int = 0


class RequestLog:
    """The record sink that writes one line for each request (docs/reliability.md R7)."""

    def ended(self, record: StreamRecord) -> None:
        """See `RecordSink`."""
        line = _line(record)
        level = _LEVEL_OF_END.get(record.end, "info")
        if _request_end is None or structlog.contextvars.get_contextvars():
            getattr(_log, level)("request_end", **msgspec.to_builtins(line))
        else:
            _request_end(level, line, record.id_chosen)


def _attempt(attempt: AttemptRecord) -> _Attempt:
    seconds = attempt.duration_s
    return _Attempt(
        attempt.backend,
        attempt.model,
        attempt.status,
        attempt.error_code,
        None if seconds is None else round(seconds, 3),
        attempt.words[:LONGEST_WORDS],
        attempt.role,
        _ms(attempt.queued_s or None),
    )


def _line(record: StreamRecord) -> _RequestEnd:
    usage, trace = record.usage, record.trace
    return _RequestEnd(
        request_id=record.request_id,
        trace_id=trace.trace_id if trace else "",
        span_id=trace.span_id if trace else "",
        contract=record.contract,
        path=record.path,
        key=record.key,
        route=record.route,
        backend=record.backend,
        model=record.model,
        upstream_model=record.upstream_model,
        user=record.user[:LONGEST_USER],
        stream=record.stream,
        status=record.final_status,
        end=record.end,
        error_code=record.error_code,
        words="" if any(one.words for one in record.attempts) else record.words[:LONGEST_WORDS],
        attempts=[_attempt(attempt) for attempt in record.attempts],
        hedge=record.hedge,
        notices=[f"{notice.code}: {notice.param}" if notice.param else notice.code for notice in record.notices],
        tokens_in=usage.input_tokens if usage else None,
        tokens_out=usage.output_tokens if usage else None,
        tokens_estimated=usage.estimated if usage else False,
        first_token_ms=_ms(record.first_content_s),
        longest_gap_ms=_ms(record.longest_gap_s or None),
        duration_ms=_ms(record.duration_s),
        bytes=record.bytes_out,
    )


_request_end: Callable[[str, _RequestEnd, bool], None] | None = None
"""Writes the line where it is JSON. The way through structlog, which has to accept any value, takes ten times as long."""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _stamp(_logger: object, level: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields["level"] = level
    fields["timestamp"] = _now()
    return fields


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class _Render(ABC):
    """The last processor of a chain: makes one line of the fields, whatever they hold."""

    def __init__(self, redactor: Redactor, worker: int | None = None) -> None:
        self._redactor = redactor
        self._constant = {} if worker is None else {"worker": worker}

    def __call__(self, _logger: object, _level: str, fields: MutableMapping[str, Any]) -> str:
        exc_info = fields.pop("exc_info", None)
        lead = {"timestamp": fields.pop("timestamp", ""), "level": fields.pop("level", "")}
        lead["event"] = self._redactor.clean(fields.pop("event", ""))
        rest: dict[str, Any] = dict(self._constant)
        for name, value in list(fields.items())[:MOST_ITEMS]:
            rest[self._redactor.clean(name, longest=64)] = self._redactor.clean_value(value)
        return self.write(lead, rest, self._traceback(exc_info))

    def line(self, level: str, event: str, **fields: Any) -> str:
        """A whole line, for events that do not come through a logger."""
        return self(None, level, _stamp(None, level, {"event": event, **fields}))

    @abstractmethod
    def write(self, lead: dict[str, str], rest: dict[str, Any], traceback: str) -> str: ...

    def _traceback(self, exc_info: Any) -> str:
        """The traceback of the exception, if there is one, without local variables: they may hold secrets and prompts."""
        if isinstance(exc_info, BaseException):
            exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
        elif exc_info is True:
            exc_info = sys.exc_info()
        if not isinstance(exc_info, tuple) or exc_info[0] is None:
            return ""
        text = logging.Formatter().formatException(exc_info)
        return self._redactor.clean(text, longest=LONGEST_TRACEBACK, keep="\n\t")


class _AsJson(_Render):
    """One JSON object per line."""

    def write(self, lead: dict[str, str], rest: dict[str, Any], traceback: str) -> str:
        fields = {**lead, **rest, "exception": traceback} if traceback else {**lead, **rest}
        line = msgspec.json.encode(fields).decode()
        if len(line) > LONGEST_LINE:
            line = msgspec.json.encode({**lead, "cut": f"the line had {len(line)} characters"}).decode()
        return line + "\n"

    def request_end(self, level: str, line: _RequestEnd, *, id_chosen: bool) -> str:
        """Mask what a client or an upstream chose. All else is numbers and names from the config."""
        clean, clean_name = self._redactor.clean, self._redactor.clean_name
        line.timestamp, line.level, line.event = _now(), level, "request_end"
        line.worker = self._constant.get("worker")
        if id_chosen:
            line.request_id = clean(line.request_id)
        line.path, line.model = clean_name(line.path), clean_name(line.model)
        line.upstream_model = clean_name(line.upstream_model)
        if line.user:
            line.user = clean(line.user)
        if line.words:
            line.words = clean(line.words)
        for attempt in line.attempts:
            attempt.model = clean_name(attempt.model)
            if attempt.words:
                attempt.words = clean(attempt.words)
        if line.notices:
            line.notices = [clean(notice) for notice in line.notices]
        return _encode(line).decode() + "\n"


class _ForTerminals(_Render):
    """Lines for a terminal. The errors of a config and tracebacks follow their line, indented."""

    def __init__(
        self, redactor: Redactor, worker: int | None = None, *, colors: bool, width: Callable[[], int | None]
    ) -> None:
        super().__init__(redactor, worker)
        self._colors, self._width = colors, width
        self._console = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=24)

    def write(self, lead: dict[str, str], rest: dict[str, Any], traceback: str) -> str:
        width = self._width() if lead["event"] == "request_end" else None
        if width is not None:
            return request_line(lead["timestamp"], rest, width=width, colors=self._colors) + "\n"
        errors = rest.pop("errors") if isinstance(rest.get("errors"), list) else []
        line = self._console(None, lead["level"], {**rest, **lead})[:LONGEST_LINE]
        return "\n    ".join([line, *map(str, errors), *traceback.splitlines()]) + "\n"


def _width(stream: IO[str]) -> int:
    """Columns of the terminal. One that does not tell, as some do with 0, has 80."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


class _Queue:
    """A logger for structlog: the method of every level puts the line into the sink."""

    def __init__(self, sink: Sink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = sink.put


class _Foreign(logging.Handler):
    """Takes the records of libraries that use `logging`. Its shutdown at exit flushes the sink."""

    def __init__(self, sink: Sink, render: _Render) -> None:
        super().__init__()
        self.sink = sink
        self.level_before = logging.root.level
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # the library's format string does not fit its arguments
            message = str(record.msg)
        self.sink.put(
            self._render.line(record.levelname.lower(), message, logger=record.name, exc_info=record.exc_info)
        )

    def close(self) -> None:
        self.sink.close()
        super().close()
