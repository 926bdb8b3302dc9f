"""How clients read the contract chat: three readers, each written from the client it stands for.

- `SeedReader`: the hook of the chat contract, with JavaScript's `trim()`.
- `ConformantReader`: the HTML standard's algorithm for event streams, as browsers and eventsource-parser run it.
- `FetchEventSourceReader`: @microsoft/fetch-event-source 2.0.1, with its quirks.

They share no code with the package, and little with each other: a mistake in one must not hide another.
"""

from __future__ import annotations

import codecs
import json
import re

JS_WHITE_SPACE = (
    "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


class SeedReader:
    """Cuts at every `\\n\\n`, trims the frame, yields what follows `data:`. Lives on text, not on events."""

    def __init__(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.buffer = ""
        self.began = False
        self.returned = False

    def feed(self, chunk):
        text = self.decoder.decode(chunk)
        if text and not self.began:
            self.began, text = True, text.removeprefix("\ufeff")  # TextDecoder drops one BOM
        self.buffer += text
        *frames, self.buffer = self.buffer.split("\n\n")
        pieces = []
        for frame in frames:
            frame = frame.strip(JS_WHITE_SPACE)
            if frame == "event: done":
                self.returned = True
            elif frame.startswith("data:") and not self.returned:
                pieces.append(frame[5:])
        return pieces


class ConformantReader:
    """The standard's own steps: lines, fields, dispatch on a blank line. Yields (event name, data)."""

    def __init__(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.began = False
        self.after_cr = False
        self.rest = ""
        self.data = []
        self.event = ""

    def feed(self, chunk):
        text = self.decoder.decode(chunk)
        if text and not self.began:
            self.began, text = True, text.removeprefix("\ufeff")
        if text and self.after_cr:
            text = text.removeprefix("\n")
            self.after_cr = False
        self.after_cr = self.after_cr or text.endswith("\r")
        *lines, self.rest = re.split("\r\n|\r|\n", self.rest + text)
        return [event for line in lines for event in self.end_of_line(line)]

    def end_of_line(self, line):
        if line == "":
            data, event = self.data, self.event
            self.data, self.event = [], ""
            return [(event or "message", "\n".join(data))] if data else []
        field, colon, value = line.partition(":")
        if colon and not field:
            return []  # a comment
        value = value.removeprefix(" ")
        if field == "data":
            self.data.append(value)
        elif field == "event":
            self.event = value
        return []


class FetchEventSourceReader:
    """Calls `onmessage` at every blank line, data or not; each value has a decoder of its own."""

    def __init__(self):
        self.buffer = b""
        self.discard_newline = False
        self.message = {"event": "", "data": ""}

    def feed(self, chunk):
        messages = []
        for byte in chunk:
            if self.discard_newline and byte == 0x0A:
                self.discard_newline = False
                continue
            self.discard_newline = byte == 0x0D
            if byte not in (0x0A, 0x0D):
                self.buffer += bytes([byte])
                continue
            line, self.buffer = self.buffer, b""
            if not line:
                messages.append((self.message["event"], self.message["data"]))
                self.message = {"event": "", "data": ""}
            elif line.find(b":") > 0:
                self.field(line)
        return messages

    def field(self, line):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ").decode("utf-8-sig", "replace")
        if field == b"data":
            # The bug: an empty first line leaves nothing that a second line could be joined to.
            self.message["data"] = f"{self.message['data']}\n{value}" if self.message["data"] else value
        elif field == b"event":
            self.message["event"] = value


def read(reader, chunks):
    """All that a new `reader` yields for `chunks` (bytes, or a list of them)."""
    reader = reader()
    return [item for chunk in ([chunks] if isinstance(chunks, bytes) else chunks) for item in reader.feed(chunk)]


def seed_text(chunks):
    """The answer as the chat hook shows it."""
    return "".join(read(SeedReader, chunks))


def event_text(chunks, reader=ConformantReader):
    """The answer as a reader of events shows it: data of the unnamed ones."""
    return "".join(data for event, data in read(reader, chunks) if event in ("", "message"))


def json_text(chunks, reader=ConformantReader):
    """The answer as a reader of the `json` dialect shows it."""
    messages = (data for event, data in read(reader, chunks) if event in ("", "message"))
    return "".join(json.loads(data)["token"] for data in messages if data)
