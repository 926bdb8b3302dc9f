r"""Holds a stream of JSON lines or events to what they must be, before litellm reads it.

litellm looks for `[DONE]` anywhere in a line, so that a model which writes it ends its own answer and loses
the words; it skips lines that are broken JSON, and it collects a line for as long as it does not end. Here the
words are spelled so that it does not see them (`\u005b` is `[` to JSON), and the rest is an error at once.
"""

from __future__ import annotations

import re

import msgspec

from proxy.errors import FrameTooLarge, UpstreamMalformed

_DONE = b"[DONE]"
_SPELLED = b"\\u005bDONE]"
_SENTINEL = re.compile(rb"data:\s{0,8}\[DONE\]\s{0,8}")
_LINES = re.compile(rb"[^\r\n]*[\r\n]+|[^\r\n]+")
_JSON_STARTS = frozenset({b"{", b"["})
_decode = msgspec.json.Decoder(msgspec.Raw).decode


class LineGuard:
    """Bytes in, bytes out: whole lines only. litellm reads by lines, so that delays nothing.

    `error` is set by the line that is wrong; those before it are handed out first. `done`: the end sentinel came.
    """

    def __init__(self, max_line_bytes: int) -> None:
        self.error: UpstreamMalformed | None = None
        self.done = False
        self._max = max_line_bytes
        self._rest = bytearray()  # of a line whose end has not come

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete now."""
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        whole = bytes(self._rest) + data[:end] if end else b""
        if end:
            self._rest.clear()
        self._rest += data[end:]
        held = self._held(whole)
        if self.error is None and len(self._rest) > self._max:
            self.error = FrameTooLarge(f"the upstream sent a line of more than {self._max} bytes")
        return held

    def finish(self) -> bytes:
        """The last line, where it has no end. It stands only if it is whole: a cut one is dropped."""
        held = self._held(bytes(self._rest))
        self.error = None
        return held

    def _held(self, lines: bytes) -> bytes:
        out: list[bytes] = []
        for line in _LINES.findall(lines):
            if len(line) > self._max:
                self.error = FrameTooLarge(f"the upstream sent a line of more than {self._max} bytes")
                break
            if _DONE in line and _SENTINEL.fullmatch(line):
                self.done = True
            elif line.removeprefix(b"data:").lstrip()[:1] in _JSON_STARTS:
                if not _is_json(line.removeprefix(b"data:")):
                    self.error = UpstreamMalformed("the upstream sent an event that is not JSON")
                    break
                line = line.replace(_DONE, _SPELLED)
            out.append(line)  # comments, names, ids and what else is no JSON are let through
        return b"".join(out)


def _is_json(data: bytes) -> bool:
    try:
        _decode(data)
    except (ValueError, RecursionError):
        return False
    return True
