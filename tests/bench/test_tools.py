"""The two C programs against each other: what is counted, what is a failure, what is stamped."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import measure as measuring
from bench import processes, tools
from bench.measure import measure
from bench.peers import PEERS, Peer
from bench.workloads import WORKLOADS
from tests.support.need import cannot_run

STREAM = '{"stream": true}'


@pytest.fixture(scope="module", autouse=True)
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Built anew into a folder of this worker's own."""
    if shutil.which("gcc") is None:
        cannot_run("needs gcc")
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools, "WORK", folder)
        patch.setattr(measuring, "WORK", folder)
        tools.build()
        yield


@contextmanager
def upstream(*options: str) -> Iterator[int]:
    with processes.running([tools.WORK / "upstream", *options], stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield int(process.stdout.readline().split()[-1])


def generate(port: int, folder: Path, *options: str, body: str = STREAM) -> dict[str, Any]:
    (folder / "body").write_text(body)
    command = [tools.WORK / "loadgen", "-p", str(port), "-b", folder / "body", "-t", "10", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)


@pytest.mark.parametrize("body", [STREAM, '{"stream":true,"stream_options":{"include_usage":true}}', "{}"])
def test_every_token_of_every_answer_is_counted(body: str, tmp_path: Path):
    with upstream("-n", "7") as port:
        figures = generate(port, tmp_path, "-r", "50", "-c", "4", "-e", "7", body=body)
    assert (figures["succeeded"], figures["failed"], figures["tokens"]) == (50, 0, 350)


@pytest.mark.parametrize(
    ("options", "body", "reason"),
    [(("-e", "8"), STREAM, "bad_tokens"), (("-e", "6"), STREAM, "bad_tokens"), (("-d",), "{}", "bad_end")],
)
def test_an_answer_that_is_not_what_was_sent_has_failed(
    options: tuple[str, ...], body: str, reason: str, tmp_path: Path
):
    with upstream("-n", "7") as port:
        figures = generate(port, tmp_path, "-r", "3", *options, body=body)
    assert (figures["succeeded"], figures["failed"], figures[reason]) == (0, 3, 3)


def test_the_models_own_waiting_is_not_held_against_the_first_token(tmp_path: Path):
    """Tokens come 200 ms apart at a random phase; nothing lies between, so hardly anything is added."""
    with upstream("-n", "2", "-i", "200000", "-s") as port:
        figures = generate(port, tmp_path, "-r", "8", "-c", "8", "-e", "2", "-d")
    assert figures["first_token_added_us"]["count"] == 8
    assert figures["token_added_us"]["count"] == 16
    assert figures["first_token_us"]["max"] > 20_000, "eight phases of up to 200 ms"
    assert figures["first_token_added_us"]["p50"] < 20_000


def test_a_request_in_a_hurry_does_not_wait_for_the_slow_model(tmp_path: Path):
    with upstream("-n", "3", "-i", "60000000", "-s") as port:
        figures = generate(port, tmp_path, "-r", "2", "-e", "3", body='{"stream": true, "messages": "hurry"}')
    assert figures["succeeded"] == 2


PLAIN = b"data: tok=%d+%d\n\n", b"data: tok=%d\n\n", b"event: done\ndata:[DONE]\n\n"
CHUNKS = (
    b'data: {"choices":[{"delta":{"content":" tok=%d+%d"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":" tok=%d"}}]}\n\n',
    b"data: [DONE]\n\n",
)


@pytest.mark.parametrize("frames", [PLAIN, CHUNKS], ids=["plain", "openai"])
@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_stamps_are_read_in_both_contracts_however_they_are_cut(
    frames: tuple[bytes, bytes, bytes], size: int, tmp_path: Path
):
    """Sent when the machine's clock began, so that each is late by all of its time up to now."""
    hour = 3_600_000_000_000
    stream = frames[0] % (1, hour) + frames[1] % 2 + frames[1] % 3 + frames[2]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(stream), size):
            piece = stream[at : at + size]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        figures = await asyncio.to_thread(generate, port, tmp_path, "-r", "1", "-e", "3", "-d")
    assert (figures["succeeded"], figures["tokens"]) == (1, 3)
    assert figures["token_added_us"]["count"] == 3
    assert figures["token_added_us"]["p50"] > 0
    assert figures["first_token_added_us"]["count"] == 1
    assert figures["first_token_added_us"]["max"] == 0, "an hour of waiting was the model's"


async def test_a_cut_answer_has_failed(tmp_path: Path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntok1 \r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        figures = await asyncio.to_thread(generate, port, tmp_path, "-r", "1", "-e", "1")
    assert (figures["succeeded"], figures["bad_connection"]) == (0, 1)


def test_children_are_stopped_with_their_parent_and_counted_in_its_tree():
    with processes.running(["sh", "-c", "echo up; sleep 60 & wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        while len(tree := processes.tree(process.pid)) < 2:
            pass
        assert processes.memory_kb(process.pid) > 0
    assert process.poll() is not None
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in tree):  # they were told; the kernel takes its time
        assert time.monotonic() < deadline


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    except OSError:
        return False


def test_a_proxy_that_does_not_come_up_is_a_record_with_its_last_words():
    broken = Peer("broken", command="sh -c 'echo no such luck >&2; exit 3'")
    record = measure(broken, WORKLOADS["burst"], seconds=0.1, pin=False)
    assert "exit 3" in record["error"]
    assert "no such luck" in record["error"]


FIGURES = {"succeeded": 4, "failed": 0, "unfinished": 0, "elapsed_s": 2.0, "requests_per_s": 2.0, "tokens_per_s": 100.0}


def test_a_program_that_reads_by_itself_is_asked_for_its_figures():
    script = f"import json, sys; print(json.dumps({FIGURES!r} | {{'tokens': int(sys.argv[2]) * 4, 'cpu_s': 0.1}}))"
    client = Peer("client", command=f'$python -c "{script}" $streams $tokens', is_client=True)
    record = measure(client, WORKLOADS["litellm"], seconds=0.1, pin=False)
    assert (record["tokens"], record["cpu_us_per_token"], record["failed"]) == (200, 500.0, 0)


def test_a_program_that_gives_no_figures_is_a_record_with_its_last_words():
    broken = Peer("broken", command="sh -c 'echo no such luck >&2; exit 3'", is_client=True)
    record = measure(broken, WORKLOADS["litellm"], seconds=0.1, pin=False)
    assert "no such luck" in record["error"]


PACED = WORKLOADS["paced-200"]


@pytest.mark.parametrize(
    ("cpu_s", "more", "saturated"),
    [
        (1.0, {}, False),
        (9.6, {}, True),
        (1.0, {"unfinished": 1}, True),
        (1.0, {"total_us": {"p50": 1.2e6}}, True),
        (1.0, {"total_us": {"p50": 1.05e6}}, False),
    ],
)
def test_a_proxy_that_answers_late_could_not_carry_the_load(cpu_s: float, more: dict[str, Any], saturated: bool):
    figures = {"tokens": 100, "succeeded": 2, "unfinished": 0, "elapsed_s": 10.0, **more}
    assert measuring._costs(PACED, figures, cpu_s)["saturated"] is saturated


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("load", "key"),
    [(load, key) for load in ("paced-200", "whole", "tls") for key in ("chat", "openai")]
    + [("paced-200", "chat-tick-50"), ("workers", "chat-2-workers"), ("litellm", "chat-litellm")]
    + [("tls", "chat-aiohttp")],
)
def test_a_second_of_load_on_ours_gives_every_figure_and_no_failure(load: str, key: str):
    record = measure(PEERS[key], WORKLOADS[load], seconds=1, pin=processes.can_pin())
    assert "error" not in record
    assert record["failed"] == 0
    assert record["tokens"] == record["succeeded"] * WORKLOADS[load].tokens > 0
    assert record["cpu_us_per_token"] > 0
    assert record["first_token_p99_us"] >= record["first_token_p50_us"] > 0
    assert record["idle_mb"] > 10
    assert 0 < record["start_s"] < 30


@pytest.mark.heavy
def test_the_litellm_sdk_alone_reads_every_token():
    load = WORKLOADS["litellm"]
    record = measure(PEERS["litellm-alone"], load, seconds=1, pin=processes.can_pin())
    assert "error" not in record
    assert record["failed"] == 0
    assert record["tokens"] == record["succeeded"] * load.tokens > 0
    assert record["cpu_us_per_token"] > 0
