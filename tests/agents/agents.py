"""Coding agents as their users run them: one question, and everything that the program prints.

Each runs in a folder of its own, with a home of its own. Only the proxy's address can be reached: requests to any other
host go to a web proxy that nobody runs, and are refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import msgspec

from tests.support import node
from tests.support.need import cannot_run

PACKAGES = "agents"
NOBODY = "http://127.0.0.1:9"
WITHIN_S = 180
"""Each takes ten seconds or so; much longer only on a machine that is busy."""

QUESTION = "What does note.txt say?"
NEXT = "Never mind."
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
MODEL = "qwen2.5-coder"
KEY = "cp-none"

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Ran(msgspec.Struct, frozen=True):
    """How an agent's run ended, and all that it printed."""

    status: int
    printed: str


class Agent(msgspec.Struct, frozen=True):
    """An agent: its package, the program in it, its settings, how it is asked; `{processor}` is `x64` or `arm64`."""

    package: str
    contract: str
    program: str
    arguments: tuple[str, ...]
    settings: Callable[[str], tuple[str, str]]
    """The path and text of its settings file, for the proxy's address."""
    environment: Callable[[str], dict[str, str]] = lambda url: {}
    going_on: tuple[str, ...] = ()
    """Its arguments for another question in the same conversation, where a test asks one."""

    @property
    def command(self) -> str:
        """As a user types it."""
        arguments = " ".join(f"'{one}'" if " " in one else one for one in self.arguments)
        return f"{self.program.rpartition('/')[2]} {arguments}"

    async def run(self, folder: Path, url: str) -> Ran:
        """Ask it in `folder`; the proxy is at `url`."""
        return await self.ended(await self.start(folder, url, self.arguments))

    async def start(self, folder: Path, url: str, arguments: tuple[str, ...]) -> asyncio.subprocess.Process:
        """Begin to ask it."""
        work = folder / "work"
        work.mkdir(exist_ok=True)
        (work / "note.txt").write_text("marmalade\n")
        (work / "dot.png").write_bytes(b64decode(DOT))
        path, text = self.settings(url)
        settings = folder / path
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(text)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TERM": "dumb",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOBODY),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
            "CHAT_PROXY_KEY": KEY,
            **self.environment(url),
        }
        return await asyncio.create_subprocess_exec(
            await asyncio.to_thread(self._installed), *arguments,
            cwd=work, env=environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def ended(self, process: asyncio.subprocess.Process) -> Ran:
        """How it ended, and what it printed."""
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"{self.package} did not end within {WITHIN_S} s") from None
        assert process.returncode is not None
        return Ran(process.returncode, _ESCAPES.sub("", printed.decode()))

    def _installed(self) -> str:
        processor = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        program = node.modules(PACKAGES) / "node_modules" / self.program.format(processor=processor)
        if not program.exists():
            cannot_run(f"{self.package} has no program for {platform.system()} on {platform.machine()}")
        return str(program)


def _offered(name: str, url: str) -> str:
    """What the page of the proxy at `url` offers to copy."""
    ask = {"base": url, "path": "chat", "body": {}, "model": MODEL, "text": QUESTION, "needsKey": True}
    module = (node.ROOT / "proxy" / "web" / "static" / "snippets.js").as_uri()
    script = (
        f"import {{ SNIPPETS }} from {json.dumps(module)}; console.log(SNIPPETS[{json.dumps(name)}]({json.dumps(ask)}))"
    )
    command = [node.node(), "--input-type=module", "-e", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _codex(url: str) -> tuple[str, str]:
    return ".codex/config.toml", f"{_offered('Codex', url)}stream_max_retries = 1\nrequest_max_retries = 0\n"


def _opencode(url: str) -> tuple[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "chat-proxy",
        "options": {"baseURL": f"{url}/v1", "apiKey": "{env:CHAT_PROXY_KEY}"},
        "models": {MODEL: {"limit": {"context": 131072, "output": 16384}}},
    }
    settings = {"provider": {"chat-proxy": provider}, "model": f"chat-proxy/{MODEL}", "autoupdate": False}
    return "work/opencode.json", json.dumps(settings)


def _claude(url: str) -> dict[str, str]:
    exports = re.findall(r"^export (\w+)=(.*)$", _offered("Claude Code", url), re.MULTILINE)
    return {
        **{name: value.replace("$CHAT_PROXY_KEY", KEY) for name, value in exports},
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "MAX_THINKING_TOKENS": "1024",
    }


AGENTS = [
    Agent(
        "@openai/codex", "responses", ".bin/codex",
        ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", QUESTION), _codex,
        going_on=("exec", "resume", "--last", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", NEXT),
    ),
    Agent(
        "@anthropic-ai/claude-code", "anthropic", "@anthropic-ai/claude-code-linux-{processor}/claude",
        ("-p", "--allowedTools", "Bash", "--", QUESTION), lambda _: (".claude/settings.json", "{}"), _claude,
        going_on=("-p", "--continue", "--allowedTools", "Bash", "--", NEXT),
    ),
    Agent("opencode-linux-x64", "openai", "opencode-linux-{processor}/bin/opencode", ("run", QUESTION), _opencode),
]  # fmt: skip
