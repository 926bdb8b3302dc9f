"""What a person sees who starts the proxy in a terminal: a pseudo terminal stands in for theirs."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

CONFIG = """\
server: {host: 127.0.0.1, port: 0}
backends:
  echo: {kind: echo}
  far: {kind: openai, api_key: "${NO_SUCH_KEY}", optional: true}
routes:
  - {name: far, match: {model: ["gpt-*", "a-model-with-a-name-that-goes-on-and-on"]}, to: far/gpt-4o-mini}
  - {name: default, to: echo/echo}
"""
COLORS = re.compile(r"\x1b\[[\d;]*m")


class Screen:
    """All that has been written to it, as lines."""

    def __init__(self) -> None:
        self.text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        self._more = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.text = (self.text + self._decoder.decode(data)).replace("\r\n", "\n")
        self._more.set()

    async def shows(self, pattern: str) -> re.Match[str]:
        async with asyncio.timeout(60):
            while not (found := re.search(pattern, COLORS.sub("", self.text))):
                self._more.clear()
                await self._more.wait()
        return found


@contextlib.asynccontextmanager
async def terminal(folder: Path, width: int, *, log: str = "", **env: str) -> AsyncIterator[Screen]:
    """`chat-proxy serve` on a terminal of that width; its log goes to the file `log`, if that is named."""
    (folder / "config.yaml").write_text(CONFIG)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "TERM"}}
    with contextlib.ExitStack() as stack:
        stderr = stack.enter_context((folder / log).open("w")).fileno() if log else theirs
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "serve", cwd=folder, stdin=theirs, stdout=theirs, stderr=stderr,
            env={**clean, "TERM": "xterm-256color", **env},
        )  # fmt: skip
    os.close(theirs)
    screen = Screen()

    def read() -> None:
        try:
            screen.write(os.read(ours, 65536))
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(ours)

    asyncio.get_running_loop().add_reader(ours, read)
    try:
        yield screen
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


async def ask(screen: Screen) -> None:
    url = (await screen.shows(r"listening on (http://\S+)"))[1]
    async with (
        aiohttp.ClientSession(url) as http,
        http.post("/chat", json={"messages": [{"role": "user", "content": "hi"}]}) as answer,
    ):
        await answer.read()


@pytest.mark.parametrize("width", [80, 44])
async def test_a_table_at_the_start_and_a_line_for_each_request(tmp_path: Path, width: int) -> None:
    async with terminal(tmp_path, width) as screen:
        await ask(screen)
        await screen.shows(r"200 chat  default → echo/echo.*  done .*\n")
        lines = COLORS.sub("", screen.text).splitlines()
    assert "\x1b[1m\x1b[36mhttp://127.0.0.1:" in lines[0] or "\x1b[36m" in screen.text
    assert lines[0].startswith("chat-proxy listening on http://127.0.0.1:")
    assert re.match(r"  route +takes +goes to$", lines[2])
    assert re.match(r"  far +gpt-\*.* +off: far/", lines[3])
    assert re.match(r"  default +all else +echo/echo$", lines[4])
    assert re.match(r"  far +openai +off: NO_SUCH_KEY", lines[8])
    assert lines[10].startswith("  answers without a key: /")
    assert {"/chat", "/v1/messages", "/status"} <= set(" ".join(lines[10:]).split())
    ours = [line for line in lines[1:] if "listening " not in line]
    assert max(map(len, ours)) <= width


async def test_no_color_is_heeded(tmp_path: Path) -> None:
    async with terminal(tmp_path, 80, NO_COLOR="1") as screen:
        await ask(screen)
        await screen.shows(r"done .*\n")
        assert "\x1b" not in screen.text


async def test_a_log_that_goes_elsewhere_is_json(tmp_path: Path) -> None:
    async with terminal(tmp_path, 80, log="log") as screen:
        await ask(screen)
        async with asyncio.timeout(60):
            while not re.search("request_end.*\n", text := (tmp_path / "log").read_text()):
                await asyncio.sleep(0.05)
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["listening", "request_end"]
