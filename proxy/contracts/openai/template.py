"""Reading the chunks of a stream that differ only in their text, without parsing them.

Nearly every chunk of a stream equals the last one except for its text. Once one chunk is parsed, the bytes before and
after its text are known. A chunk with the same bytes around another JSON string means the same with that string. A
chunk that does not fit is parsed, and becomes the new template.

Measured per chunk, in CPU time of one run: parsed 2.3 µs; one read here 0.5 µs; in a run of a hundred 0.2 µs.
"""

import msgspec

from proxy.contracts.openai.chunks import Chunk, Delta, decode_chunk

MAX_BYTES = 4096
"""The most bytes around the text. Longer chunks hold something else, such as log probabilities, that always differs."""

LESSONS = 16
"""How often a stream is learned from. Chunks that always differ elsewhere (random padding, counts) never fit."""

_KEYS = (b'"content":', b'"content": ')
_PROBE = "a·\u2028"

_string = msgspec.json.Decoder(str).decode
_strings = msgspec.json.Decoder(list[str]).decode


class ChunkTemplate:
    """The bytes around the text in the chunks of one stream.

    `fitted` is set by the caller when a chunk has fitted since the last lesson.
    """

    __slots__ = ("_first", "_last", "_lessons", "fitted")

    def __init__(self) -> None:
        self._lessons = LESSONS
        self.fitted = False
        self._first = self._last = b"\0"  # no event begins like this

    def learn(self, data: bytes, text: str) -> None:
        """Take a chunk that tells only `text` as the template. A chunk that cannot be one is ignored."""
        if self.fitted:
            self._lessons, self.fitted = LESSONS, False
        if not self._lessons:
            return
        self._lessons -= 1
        try:
            string = msgspec.json.encode(text)
        except UnicodeEncodeError:  # half a character
            return
        for key in _KEYS:
            at = data.find(key + string)
            if at > 0 and data[at - 1] != 0x5C and len(data) - len(string) <= MAX_BYTES:  # 0x5C: inside a string
                at += len(key)
                self._take(data[: at + 1], data[at + len(string) - 1 :])
                return

    def _take(self, before: bytes, after: bytes) -> None:
        """Prove that the text stands here: the chunk with another string in this place must have that text alone."""
        if b"\n" in before or b"\r" in before or b"\n" in after or b"\r" in after:
            return
        try:
            chunk = decode_chunk(before + _PROBE.encode() + after)
        except ValueError:
            return
        if only_text(chunk) == _PROBE:
            self._first, self._last = b"data: " + before, after + b"\n\n"

    def text(self, event: bytes) -> str | None:
        """The text of one event with its blank line; None for an event that has to be parsed."""
        first, last = self._first, self._last
        if not event.startswith(first) or not event.endswith(last):
            return None
        if event.find(b"\n", len(first)) != len(event) - 2:  # more than one event
            return None
        try:
            return _string(event[len(first) - 1 : len(event) - len(last) + 1])
        except ValueError:  # the string ended earlier, or is not valid text
            return None

    def texts(self, events: bytes) -> list[str]:
        """The texts of several whole events; empty if one does not fit."""
        first, last = self._first, self._last[:-2]
        left, right = len(first), -len(last)
        # Splitting at two bytes and comparing both ends takes less time than searching for two hundred bytes.
        each = events.split(b"\n\n")
        if each.pop():  # the last event is not complete
            return []
        strings = [event[left:right] for event in each if event.startswith(first) and event.endswith(last)]
        return _parsed(strings) if strings and len(strings) == len(each) else []

    def run(self, events: bytes) -> tuple[list[str], int]:
        """The texts of the leading events that fit, and how many bytes those events have."""
        first, last = self._first, self._last[:-2]
        left, right = len(first), len(last)
        strings: list[bytes] = []
        size = 0
        for event in events.split(b"\n\n")[:-1]:
            if not event.startswith(first) or not event.endswith(last):
                break
            strings.append(event[left:-right])
            size += len(event) + 2
        texts = _parsed(strings) if strings else []
        return (texts, size) if texts else ([], 0)


def _parsed(strings: list[bytes]) -> list[str]:
    """The texts of JSON strings given without their quotes; empty if one of them is not a string."""
    whole = b'","'.join(strings)
    try:
        # Without escapes every quote is one that we put there, so that parsing all at once parses each.
        if whole.find(b"\\") < 0 and whole.count(b'"') == 2 * len(strings) - 2:
            return _strings(b'["' + whole + b'"]')
        return [_string(b'"' + string + b'"') for string in strings]
    except ValueError:
        return []


def only_text(chunk: Chunk) -> str | None:
    """The text of a chunk that tells only text, of the first choice; None for any other chunk."""
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.usage:
        return None
    choice = choices[0]
    delta = choice.delta
    if choice.index or choice.finish_reason or choice.message is not None or delta is None:
        return None
    text = delta.content
    return text if type(text) is str and text and delta == Delta(content=text) and not chunk.failed else None
