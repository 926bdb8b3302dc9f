"""Writes down what a long test did, for people who want to see it without doing it.

A transcript is kept in memory, and written only where `TRANSCRIPT=1` asks for it:
`make test-image TRANSCRIPT=1` brings docs/transcripts/image.md up to date.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "transcripts"


class Transcript:
    """Headings, remarks, and commands with what they printed, as Markdown."""

    def __init__(self, name: str, title: str, about: str) -> None:
        self._path = FOLDER / f"{name}.md"
        self._parts = [f"# {title}\n", f"{about}\n"]
        self._hide: list[tuple[str, str]] = []

    def hide(self, text: str | Path, instead: str) -> None:
        """Replace what differs from machine to machine, such as a temporary folder."""
        self._hide.append((str(text), instead))

    def heading(self, text: str) -> None:
        self._parts.append(f"## {text}\n")

    def say(self, text: str) -> None:
        self._parts.append(f"{text}\n")

    def command(self, command: str, printed: str, *, most_lines: int = 30) -> None:
        lines = printed.rstrip("\n").splitlines()
        if len(lines) > most_lines:
            half = most_lines // 2
            lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
        self._parts.append("\n".join(["```console", f"$ {command}", *lines, "```", ""]))

    def write(self) -> None:
        if os.environ.get("TRANSCRIPT") != "1":
            return
        text = "\n".join(self._parts)
        for old, new in self._hide:
            text = text.replace(old, new)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(text)
