"""Record the first minute with the proxy as a picture that moves, docs/pictures/start.svg: `make pictures`.

Every line in it was printed by the command above it, in a folder with config.yaml and nothing else. Only the port, which
is a free one while recording, is shown as 8080, and a pause between lines is two seconds at most.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from fcntl import ioctl
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "start.svg"
COLUMNS = 106
WITHIN_S = 60.0

ASK = """curl -N localhost:8080/chat -d '{"messages": [{"role": "user", "content": "Hello, world"}]}'"""
WHY = "chat-proxy explain --model qwen3 | head -6"
EDIT = "sed -i 's|to: echo/echo|to: ecko/echo|' config.yaml"
CHECK = "chat-proxy check"


class Line(NamedTuple):
    """One line of a terminal: when it appears, in seconds from the start, and its text with colours as ANSI codes."""

    terminal: int
    at_s: float
    text: str


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, command: str, folder: Path, env: Mapping[str, str]) -> None:
        self._screen, end = pty.openpty()
        ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        shell = ["bash", "-o", "pipefail", "-c", command]
        self.process = subprocess.Popen(shell, cwd=folder, env=env, stdin=end, stdout=end, stderr=end)
        os.close(end)

    def lines(self, until: str = "") -> Iterator[tuple[float, str]]:
        """Each line as it comes, and the seconds since now; up to the one that `until` is found in, or the last."""
        began, rest = time.monotonic(), ""
        while piece := self._piece(began + WITHIN_S - time.monotonic()):
            *lines, rest = (rest + piece).replace("\r\n", "\n").split("\n")
            for line in lines:
                yield time.monotonic() - began, line
                if until and re.search(until, line):
                    return
        assert not until, f"{until} was not printed, but {rest}"

    def _piece(self, within_s: float) -> str:
        if not select.select([self._screen], [], [], max(within_s, 0))[0]:
            raise TimeoutError
        with contextlib.suppress(OSError):  # Linux says so when the other end of a terminal is closed
            return os.read(self._screen, 65536).decode()
        return ""

    def close(self) -> None:
        """End the command if it runs."""
        self.process.terminate()
        self.process.wait(WITHIN_S)
        os.close(self._screen)


def record() -> list[Line]:
    """Run the commands, and give what the terminals showed. Needs bash, curl and sed."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, port = Path(name), _free_port()
        config = (ROOT / "config.yaml").read_text()
        (folder / "config.yaml").write_text(config.replace("port: 8080", f"port: {port}"))
        shown: list[Line] = []

        def run(terminal: int, command: str, as_shown: str = "", until: str = "") -> Screen:
            """Show a command a second after all before it, and what it prints."""
            typed_s = max((line.at_s for line in shown), default=0.0) + 1
            shown.append(Line(terminal, typed_s, f"$ {as_shown or command}"))
            screen = Screen(command.replace("8080", str(port)), folder, _environment())
            stack.callback(screen.close)
            follow(screen, terminal, typed_s + 1, until)
            return screen

        def follow(screen: Screen, terminal: int, from_s: float, until: str) -> None:
            for after_s, text in screen.lines(until):
                shown.append(Line(terminal, from_s + min(after_s, 2), text.replace(str(port), "8080")))

        server = run(0, "exec chat-proxy serve -c config.yaml", "make run", r"listening.*generation")
        run(1, ASK)
        follow(server, 0, shown[-1].at_s, "tokens")
        for command in (WHY, EDIT, CHECK):
            run(1, command)
        return shown


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _environment() -> dict[str, str]:
    """Of a machine without keys, where this tree's `chat-proxy` is the first on the path, with colours."""
    dropped = ("_API_KEY", "_BASE_URL", "NO_COLOR", "COLUMNS", "LINES")  # the terminal's own size counts
    kept = {name: value for name, value in os.environ.items() if not name.endswith(dropped)}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}"
    return kept | {"PATH": path, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "TZ": "UTC"}


SIZE, STEP, EDGE, BAR = 12, 17, 14, 26  # pixels: the font, from line to line, around the text, a terminal's title
TITLES = ("one terminal", "another")
COLOURS = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "35": "m", "36": "c"}
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>The first minute: make run, a request with curl, why it went there, and a mistake found by chat-proxy check</title>
<style>
text {{ font: {size}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre }}
.b {{ font-weight: bold }} .d {{ fill: #8b95a7 }} .r {{ fill: #ff8f8f }} .g {{ fill: #9ece6a }} .y {{ fill: #e0af68 }}
.m {{ fill: #c8a8ff }} .c {{ fill: #7dcfff }} .t {{ fill: #8b95a7 }} .l {{ animation: show .01s backwards }}
@keyframes show {{ from {{ opacity: 0 }} }}
@media (prefers-reduced-motion: reduce) {{ .l {{ animation: none }} }}
</style>
"""


def draw(shown: list[Line]) -> str:
    """Two terminals, one above the other. Each line appears when it did; a reader who wants no motion sees all of them."""
    width, top, drawn = int(COLUMNS * SIZE * 0.61) + 2 * EDGE, 0, []
    for terminal, title in enumerate(TITLES):
        lines = [line for line in shown if line.terminal == terminal]
        height = BAR + len(lines) * STEP + EDGE
        drawn.append(f'<rect y="{top}" width="{width}" height="{height}" rx="8" fill="#1a1d26"/>')
        drawn.append(f'<text class="t" x="{width / 2:.0f}" y="{top + 17}" text-anchor="middle">{title}</text>')
        for number, line in enumerate(lines, 1):
            place = f'x="{EDGE}" y="{top + BAR + number * STEP - 4}"'
            spans = _spans(line.text)
            drawn.append(f'<text class="l" style="animation-delay:{line.at_s:.2f}s" {place}>{spans}</text>')
        top += height + 10
    return HEAD.format(width=width, height=top - 10, size=SIZE) + "\n".join(drawn) + "\n</svg>\n"


def _spans(text: str) -> str:
    """Colours as classes. A command, which has none, is bold."""
    if text.startswith("$ "):
        return f'<tspan class="b">{escape(text, quote=False)}</tspan>'
    spans, classes = "", ""
    for number, part in enumerate(re.split(r"\x1b\[([\d;]*)m", text)):
        if number % 2:  # the codes between the texts
            known = [COLOURS.get(code, "") for code in part.split(";")]
            classes = "" if part in {"", "0"} else " ".join(filter(None, [classes, *known]))
        elif part:
            shown = escape(part, quote=False)
            spans += f'<tspan class="{classes}">{shown}</tspan>' if classes else shown
    return spans


if __name__ == "__main__":
    if missing := [tool for tool in ("bash", "curl", "sed") if not shutil.which(tool)]:
        sys.exit(f"recording needs {', '.join(missing)}")
    PICTURE.write_text(draw(record()))
