import fcntl
import io
import os
import re
import threading
import time

import pytest

from proxy.telemetry.sink import Sink


@pytest.fixture
def pipe():
    """A real pipe of the smallest size, and a text stream that writes into it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ
    stream = os.fdopen(writer, "w")
    yield reader, stream
    for close in (lambda: os.close(reader), stream.close):
        try:
            close()
        except OSError:
            pass


def drain(reader: int, until: bytes) -> bytes:
    seen = b""
    while until not in seen:
        seen += os.read(reader, 65536)
    return seen


def test_lines_arrive_in_order_and_whole():
    stream = io.StringIO()
    sink = Sink(stream)
    for number in range(1000):
        sink.put(f"line {number}\n")
    assert sink.flush(60)
    assert stream.getvalue().splitlines() == [f"line {number}" for number in range(1000)]
    assert sink.close(60)
    assert sink.dropped == 0


def test_d06_a_pipe_that_nobody_reads_blocks_nobody_and_what_is_lost_is_counted(pipe):
    reader, stream = pipe
    sink = Sink(stream, most_bytes=100_000)
    line = "x" * 999 + "\n"
    started = time.perf_counter()
    for _ in range(2000):
        sink.put(line)
    assert time.perf_counter() - started < 30  # a write into the full pipe would take for ever
    assert not sink.flush(0.01)
    kept = 2000 - sink.dropped
    assert 100 <= kept <= 105  # what may be queued, and what the pipe itself holds

    seen = b""
    while seen.count(b"\n") < kept:
        seen += os.read(reader, 65536)
    assert sink.flush(60)  # only then is there surely room again
    sink.put("the reader is back\n")
    seen += drain(reader, b"the reader is back\n")
    assert seen.count(b"x" * 999 + b"\n") == kept
    assert sum(map(int, re.findall(rb"(\d+) log lines dropped", seen))) == 2000 - kept
    assert sink.close(60)


def test_closing_a_stuck_sink_gives_up_in_time(pipe):
    reader, stream = pipe
    sink = Sink(stream)
    sink.put("x" * 50_000)
    started = time.monotonic()
    assert not sink.close(0.1)
    assert time.monotonic() - started < 30
    sink.put("too late\n")
    assert sink.dropped == 1
    assert drain(reader, b"x" * 1000)  # let the thread go


def test_closing_waits_for_a_slow_reader_as_long_as_it_reads(pipe, monkeypatch):
    """Whoever gave up in the middle of a line would leave half of it."""
    reader, stream = pipe
    monkeypatch.setattr("proxy.telemetry.sink.CLOSE_S", 60)
    sink = Sink(stream)
    sink.put("x" * 60_000 + "\n")
    seen = []

    def read_slowly():
        while not seen or not seen[-1].endswith(b"\n"):
            time.sleep(0.1)
            seen.append(os.read(reader, 4096))

    reading = threading.Thread(target=read_slowly)
    reading.start()
    assert sink.close(1.0)
    reading.join()
    assert sink.dropped == 0


def test_a_reader_that_went_away_costs_lines_and_nothing_else(pipe):
    reader, stream = pipe
    os.close(reader)
    sink = Sink(stream)
    sink.put("one\n")
    assert sink.flush(60)
    sink.put("two\n")
    assert sink.flush(60)
    assert sink.dropped == 2
    assert sink.close(60)


def test_a_pipe_that_was_made_non_blocking_loses_nothing(pipe):
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    sink = Sink(stream)
    text = "".join(f"{number:09}\n" for number in range(5000))
    sink.put(text + "end\n")
    assert drain(reader, b"end\n").decode() == text + "end\n"
    assert sink.close(60)
    assert sink.dropped == 0


def test_lone_surrogates_do_not_break_the_writer(pipe):
    reader, stream = pipe
    sink = Sink(stream)
    sink.put("a\udcffb\n")
    assert drain(reader, b"\n") == b"a\\udcffb\n"
    assert sink.close(60)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_logs_through_a_thread_of_its_own(pipe):
    reader, stream = pipe
    sink = Sink(stream)
    sink.put("parent\n")
    assert sink.flush(60)
    child = os.fork()
    if child == 0:  # no assertion here: the child reports through the pipe
        sink.put("child\n")
        os._exit(0 if sink.flush(60) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert drain(reader, b"child\n") == b"parent\nchild\n"
    assert sink.close(60)
