r"""Check a stream of JSON lines or events before litellm reads it.

litellm takes `[DONE]` anywhere in a line for the end, so that a model which writes it cuts its own answer; it skips
errors and broken JSON, and it buffers a line without end. Here such text is escaped (`\u005b` is `[` in JSON), and
each of the others is an error at once (U1).
"""

import re

import msgspec

from proxy.errors import FrameTooLarge, UpstreamError, UpstreamMalformed
from proxy.wire.text import one_line_of
from proxy.wire.upstream_errors import Clean, Detail, read_error, upstream_error

_DONE = b"[DONE]"
_SPELLED = b"\\u005bDONE]"
_SENTINEL = re.compile(rb"data:\s{0,8}\[DONE\]\s{0,8}")
_LINES = re.compile(rb"[^\r\n]*[\r\n]+|[^\r\n]+")
_JSON_STARTS = frozenset({b"{", b"["})
_decode = msgspec.json.Decoder(msgspec.Raw).decode


class LineGuard:
    """Bytes in, bytes out: whole lines only. litellm reads by lines, so that delays nothing.

    `error` is set by the first line that is wrong or an error; the lines before it are returned first, those after it
    never. `done`: the end sentinel has come.
    """

    def __init__(self, max_line_bytes: int, clean: Clean = one_line_of) -> None:
        self.error: UpstreamError | None = None
        self._clean = clean
        self.done = False
        self.finish_reason = ""  # as Gemini or Ollama gives it
        self._max = max_line_bytes
        self._rest = bytearray()  # the beginning of a line

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete now."""
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        whole = bytes(self._rest) + data[:end] if end else b""
        if end:
            self._rest.clear()
        self._rest += data[end:]
        checked = self._checked(whole)
        if self.error is None and len(self._rest) > self._max:
            self.error = FrameTooLarge(f"the upstream sent a line of more than {self._max} bytes")
        return checked

    def finish(self) -> bytes:
        """The last line, if it has no line end. A cut one is dropped."""
        line = bytes(self._rest)
        checked = self._checked(line)
        if isinstance(self.error, UpstreamMalformed):
            self.error = None
        return checked

    def _checked(self, lines: bytes) -> bytes:
        out: list[bytes] = []
        for line in _LINES.findall(lines):
            if len(line) > self._max:
                self.error = FrameTooLarge(f"the upstream sent a line of more than {self._max} bytes")
                break
            if _DONE in line and _SENTINEL.fullmatch(line):
                self.done = True
            elif line.removeprefix(b"data:").lstrip()[:1] in _JSON_STARTS:
                data = line.removeprefix(b"data:")
                if not _is_json(data):
                    self.error = UpstreamMalformed("the upstream sent an event that is not JSON")
                    break
                if (b"error" in data or b"essage" in data) and (detail := _error_in(data)):
                    self.error = upstream_error(detail, clean=self._clean)
                    break
                if b"inishReason" in data or b"done_reason" in data:
                    self.finish_reason = _reason_in(data) or self.finish_reason
                line = line.replace(_DONE, _SPELLED)
            out.append(line)  # also comments, names, ids and all else that is not JSON
        return b"".join(out)


def _reason_in(data: bytes) -> str:
    """The finish reason in a line of Gemini's or Ollama's, or of a list of them."""
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    candidates = value.get("candidates")
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    reason = first.get("finishReason") if isinstance(first, dict) else value.get("done_reason")
    return reason if isinstance(reason, str) else ""


def _error_in(data: bytes) -> Detail | None:
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(value, dict) and (value.get("error") or "error" in (value.get("object"), value.get("type"))):
        return read_error(value) or Detail()
    return None if isinstance(value, dict) and value.get("choices") else read_error(value)


def _is_json(data: bytes) -> bool:
    try:
        _decode(data)
    except (ValueError, RecursionError):
        return False
    return True
