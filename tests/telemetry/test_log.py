import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import warnings

import pytest
import structlog

from proxy.events import Notice
from proxy.request import Usage
from proxy.telemetry.log import RequestLog, configure
from proxy.telemetry.record import AttemptRecord, StreamRecord
from proxy.telemetry.redact import Redactor
from proxy.wire.secret_shapes import Secrets

SECRET = "canary-9f8e7d6c5b4a3210"

FORGERIES = [
    'x\n{"event": "request_end", "status": 200}',
    "x\r\n2026-01-01 [info] all is well",
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "\x9b31m C1",
    "abc\u202egpj.exe\u2066",
    "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "../../etc/passwd?%00\x00",
    "m" * 1_000_000,
    "\ud800 lone",
    "$(reboot) ${jndi:ldap://x} %s %d %n {}",
    "\U000e0041\U000e0042 tags",
]


class Written:
    def __init__(self, log, stream):
        self.log, self._stream = log, stream

    def foreign(self, message: str, *args: object) -> None:
        """A library's record, past pytest's own handlers: they choke on some of it."""
        self.log._handler.emit(logging.LogRecord("lib", logging.ERROR, "f.py", 1, message, args, None))

    @property
    def text(self) -> str:
        assert self.log.flush(60)
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict]:
        assert self.text == "" or self.text.endswith("\n")
        return [json.loads(line) for line in self.text.split("\n")[:-1]]

    @property
    def last(self) -> dict:
        return self.lines[-1]


@pytest.fixture
def written(request):
    stream = io.StringIO()
    log = configure(getattr(request, "param", "json"), "debug", stream=stream, redactor=Redactor(Secrets([SECRET])))
    yield Written(log, stream)
    log.close()


def ended(**fields) -> StreamRecord:
    record = StreamRecord(request_id="req-1", started_at=100.0, contract="chat", route="default", **fields)
    record.finish("done", 102.5)
    return record


def test_N6_one_line_tells_the_whole_request(written):
    record = StreamRecord(
        request_id="req-1",
        started_at=100.0,
        contract="openai",
        path="/v1/chat/completions",
        key="web",
        route="default",
        backend="local",
        model="gpt-4o",
        upstream_model="qwen3",
        user="u-7",
        status=200,
        usage=Usage(input_tokens=12, output_tokens=34, estimated=True),
        bytes_out=5678,
    )
    record.attempts = [
        AttemptRecord("spare", "m", error_code="circuit_open"),
        AttemptRecord(
            "openai", "gpt", 100.0, ended_at=100.0625, status=502, error_code="upstream_connect", words="refused"
        ),
        AttemptRecord(
            "local",
            "qwen3",
            100.0625,
            committed_at=100.25,
            ended_at=102.5,
            status=502,
            error_code="upstream_truncated",
            words="cut " * 200,
        ),
    ]
    record.content(100.25, 1)
    record.content(101.0, 1)
    record.finish("upstream_truncated", 102.5, error_code="upstream_truncated")
    RequestLog().ended(record)
    line = written.last
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "request_end",
        "request_id": "req-1",
        "contract": "openai",
        "path": "/v1/chat/completions",
        "key": "web",
        "route": "default",
        "backend": "local",
        "model": "gpt-4o",
        "upstream_model": "qwen3",
        "user": "u-7",
        "stream": True,
        "status": 200,
        "end": "upstream_truncated",
        "error_code": "upstream_truncated",
        "attempts": [
            {"backend": "spare", "model": "m", "error_code": "circuit_open"},
            {
                "backend": "openai",
                "model": "gpt",
                "status": 502,
                "error_code": "upstream_connect",
                "seconds": 0.062,
                "words": "refused",
            },
            {
                "backend": "local",
                "model": "qwen3",
                "status": 502,
                "error_code": "upstream_truncated",
                "seconds": 2.438,
                "words": "cut " * 75,
            },
        ],
        "tokens_in": 12,
        "tokens_out": 34,
        "tokens_estimated": True,
        "first_token_ms": 250.0,
        "longest_gap_ms": 750.0,
        "duration_ms": 2500.0,
        "bytes": 5678,
    }


@pytest.mark.parametrize(
    ("end", "level", "status"),
    [("done", "info", 200), ("client_gone", "info", 499), ("internal", "error", 200), ("client_slow", "warning", 200)],
)
def test_c01_the_level_and_status_follow_the_end(written, end, level, status):
    record = StreamRecord(request_id="r", started_at=0.0, status=200)
    record.finish(end, 1.0)
    RequestLog().ended(record)
    assert (written.last["level"], written.last["status"], written.last["end"]) == (level, status, end)


@pytest.mark.parametrize("forgery", FORGERIES, ids=range(len(FORGERIES)))
def test_h09_a_hostile_name_stays_one_json_object_on_one_line(written, forgery):
    RequestLog().ended(ended(model=forgery, path=forgery))
    written.foreign("saw %s", forgery)
    structlog.get_logger().info(forgery, extra={forgery: [forgery]})
    assert len(written.lines) == 3
    assert written.lines[0]["request_id"] == "req-1"
    assert written.text.replace("\n", "").isprintable()
    assert len(written.text) < 30_000


def test_what_was_left_out_of_a_request_is_reported_by_its_name(written):
    RequestLog().ended(ended(notices=[Notice("ignored_setting", "seed was left out", "seed"), Notice("x\n{}", "y")]))
    assert written.last["notices"][0] == "ignored_setting: seed"
    assert "\n" not in written.last["notices"][1]


@pytest.mark.parametrize("written", ["console"], indirect=True)
@pytest.mark.parametrize("forgery", FORGERIES, ids=range(len(FORGERIES)))
def test_h09_on_a_terminal_too(written, forgery):
    RequestLog().ended(ended(model=forgery))
    structlog.get_logger().info(forgery)
    assert written.text.count("\n") == 2
    assert written.text.replace("\n", "").isprintable()


@pytest.mark.parametrize("written", ["console"], indirect=True)
def test_lines_of_a_traceback_cannot_be_taken_for_lines_of_the_log(written):
    try:
        raise ValueError("boom\n2026-01-01T00:00:00Z [info     ] all is well")
    except ValueError:
        structlog.get_logger().exception("failed")
    first, *rest = written.text.splitlines()
    assert "failed" in first
    assert len(rest) > 3
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("written", ["console"], indirect=True)
def test_each_error_of_a_config_has_a_line_of_its_own_on_a_terminal(written):
    errors = ["config.yaml:5:1: unknown key `routse`; did you mean `routes`?", "config.yaml:7:2: 'x'\ny"]
    structlog.get_logger().error("config_rejected", file="config.yaml", errors=errors)
    first, *rest = written.text.splitlines()
    assert "config_rejected" in first
    assert "routse" not in first
    assert rest == [f"    {errors[0]}", "    config.yaml:7:2: 'x'\\ny"]


def test_a_line_that_is_too_long_as_a_whole_is_cut_but_still_a_line(written):
    structlog.get_logger().info("big", **{f"f{n}": ["x" * 2000] * 30 for n in range(30)})
    assert written.last["event"] == "big"
    assert "characters" in written.last["cut"]


def test_i01_a_secret_is_masked_in_messages_fields_tracebacks_and_foreign_lines(written):
    log = structlog.get_logger()
    log.info("using %s", SECRET, url=f"https://h/?key={SECRET}", nested={"headers": [f"Bearer {SECRET}"]})
    try:
        try:
            raise RuntimeError(f"401: bad key {SECRET}")
        except RuntimeError as error:
            raise ValueError(f"while asking with {SECRET}") from error
    except ValueError:
        log.exception("failed")
        logging.getLogger("litellm").exception("Error with %s", SECRET)
    warnings.showwarning(f"careful with {SECRET}", UserWarning, "f.py", 1)
    RequestLog().ended(ended(model=SECRET))
    assert SECRET[:12] not in written.text
    assert len(written.lines) == 5
    assert "ValueError" in written.lines[1]["exception"]
    assert "RuntimeError" in written.lines[1]["exception"]


def test_i01_a_traceback_has_no_values_of_variables(written):
    prompt = "tell me nobody's-business"  # noqa: F841 - it must not be found
    try:
        raise ValueError("x")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "exception" in written.last
    assert written.text.count("nobody's-business") == 0


def test_library_lines_take_the_same_way(written):
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "192.0.2.1")
    assert written.last["event"] == "Error handling request from 192.0.2.1"
    assert (written.last["level"], written.last["logger"]) == ("error", "aiohttp.server")


def test_a_library_s_wrong_format_string_is_not_our_error(written):
    written.foreign("%d is no number", "x")
    assert written.last["event"] == "%d is no number"


def test_asyncio_s_own_complaints_are_lines_too(written):
    loop = asyncio.new_event_loop()
    loop.call_exception_handler({"message": "Task was destroyed", "exception": ValueError(SECRET)})
    loop.close()
    assert written.last["event"] == "Task was destroyed"
    assert "ValueError" in written.last["exception"]
    assert SECRET not in written.text


def test_handlers_that_libraries_brought_are_taken_over(written, capfd):
    library = logging.getLogger("pushy.package")
    library.addHandler(logging.StreamHandler())
    library.propagate = False
    written.log.adopt()
    library.warning("once")
    assert [line["event"] for line in written.lines] == ["once"]
    assert capfd.readouterr().err == ""


def test_the_level_holds_for_ours_and_theirs():
    stream = io.StringIO()
    log = configure("json", "warning", stream=stream)
    structlog.get_logger().info("no")
    logging.getLogger("lib").info("no")
    structlog.get_logger().warning("yes")
    logging.getLogger("lib").warning("yes")
    log.close()
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes", "yes"]


def test_the_last_configuration_counts_and_closing_gives_all_back():
    before = logging.root.handlers[:], logging.root.level
    one, two = io.StringIO(), io.StringIO()
    first = configure("json", stream=one)
    second = configure("json", stream=two)
    structlog.get_logger().info("hello")
    logging.getLogger("lib").warning("hello")
    first.close()
    second.close()
    assert one.getvalue() == ""
    assert two.getvalue().count("hello") == 2
    assert (logging.root.handlers[:], logging.root.level) == before


def test_auto_is_json_unless_somebody_looks():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        log = configure("auto", stream=stream)
        structlog.get_logger().info("hello")
        log.close()
        assert stream.getvalue().startswith("{") == is_json


def test_bound_context_is_part_of_the_line(written):
    with structlog.contextvars.bound_contextvars(request_id="req-7"):
        structlog.get_logger().info("hello")
    assert written.last["request_id"] == "req-7"


PROGRAM = """
import sys, structlog
from proxy.telemetry.log import configure
configure("json")
for number in range(int(sys.argv[1])):
    structlog.get_logger().info("x" * 1000, number=number)
"""


def test_the_last_lines_are_written_at_exit():
    done = subprocess.run([sys.executable, "-c", PROGRAM, "50"], capture_output=True, timeout=120, check=True)
    assert [json.loads(line)["number"] for line in done.stderr.splitlines()] == list(range(50))


def test_d06_a_process_whose_stderr_is_stuck_still_exits_cleanly():
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, "1000"], stderr=writer)
        assert process.wait(120) == 0
    finally:
        os.close(reader)
        os.close(writer)
