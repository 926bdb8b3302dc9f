"""How clients read Ollama's answers: a JSON object a line, until one is done or tells an error.

Written from the API's description and the two official clients, not from the package: a mistake in one must not hide
another. Stricter than they are: what may not come, such as anything after the end, fails the test.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
COUNTS = ("prompt_eval_count", "eval_count")
TIMES = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


@dataclass
class OllamaReader:
    """Feed it bytes, however they fall; it adds up what a program around a client would."""

    generate: bool = False
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    done: dict[str, Any] | None = None
    error: str | None = None
    rest: bytes = b""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thinking(self) -> str:
        return "".join(self.thoughts)

    def feed(self, chunk: bytes) -> None:
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            # The Python client takes all of these for line ends.
            assert len(line.decode().splitlines()) == 1, line
            self._take(json.loads(line))

    def _take(self, part: dict[str, Any]) -> None:
        assert self.done is None, part
        assert self.error is None, part
        self.lines.append(part)
        if "error" in part:
            assert list(part) == ["error"]
            self.error = part["error"]
            assert isinstance(self.error, str)
            return
        assert isinstance(part["model"], str)
        assert DATE.fullmatch(part["created_at"])
        said = part if self.generate else part["message"]
        assert self.generate or said["role"] == "assistant"
        text = said["response" if self.generate else "content"]
        if text:
            self.texts.append(text)
        if thinking := said.get("thinking"):
            self.thoughts.append(thinking)
        for call in said.get("tool_calls", ()):
            assert isinstance(call["function"]["arguments"], dict)
            self.calls.append(call)
        assert isinstance(part["done"], bool)
        if part["done"]:
            self.done = part
            measured = () if part["done_reason"] in ("load", "unload") else (*COUNTS, *TIMES)
            assert all(type(part[name]) is int and part[name] >= 0 for name in measured)


def read(stream: bytes, *, generate: bool = False, size: int | None = None) -> OllamaReader:
    """What `stream` says, read in pieces of `size` bytes."""
    reader = OllamaReader(generate)
    size = size or max(len(stream), 1)
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    assert reader.rest == b""
    return reader
