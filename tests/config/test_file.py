"""Reading a config file takes bounded time and memory, whatever the name leads to."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.config import file as config_file
from proxy.config.file import MAX_BYTES, FileReader, read
from proxy.errors import ConfigErrors
from tests.support.said import assert_said


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def gone(path: Path) -> None:
    path.unlink(missing_ok=True)


REFUSED: dict[Callable[[Path], None], str] = {
    pipe: "regular file",
    endless: "regular file",
    folder: "directory",
    circle: "read",
    unix_socket: "read",
    gone: "check its name",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_A5_only_regular_files_are_read_and_nothing_is_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "config.yaml")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path / "config.yaml")
    assert_said([str(caught.value)], [f"{tmp_path}/config.yaml: {REFUSED[make]}"])
    assert set(os.listdir("/proc/self/fd")) == before


def test_A5_of_a_huge_file_no_more_is_read_than_shows_its_size(tmp_path: Path) -> None:
    with (tmp_path / "config.yaml").open("wb") as huge:
        huge.truncate(1 << 40)
    assert len(read(tmp_path / "config.yaml")) == MAX_BYTES + 1


async def test_A5_a_file_system_that_hangs_holds_one_thread_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def hang(path: str) -> bytes:
        go_on.wait()
        return b"at last"

    monkeypatch.setattr(config_file, "read", hang)
    reader = FileReader(tmp_path / "config.yaml", within=0.05)
    for _ in range(3):
        with pytest.raises(ConfigErrors, match="longer"):
            await reader.read()
    assert sum(thread.name == "config reader" for thread in threading.enumerate()) == 1
    go_on.set()
    reader = FileReader(tmp_path / "config.yaml")
    assert await reader.read() == b"at last"


def test_A5_the_end_of_a_process_does_not_wait_for_a_file_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(config_file, "read", lambda _path: go_on.wait())

    async def look() -> None:
        with pytest.raises(ConfigErrors):
            await FileReader(tmp_path / "config.yaml", within=0.05).read()

    asyncio.run(look())  # it would wait for a thread of the default executor
    (left,) = (thread for thread in threading.enumerate() if thread.name == "config reader")
    assert left.daemon
    go_on.set()
    left.join(5)
