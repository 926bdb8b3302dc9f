"""Text on its way to a client: line ends, lone surrogates, one line."""

import re

from proxy.errors import ProxyError

WHITE_SPACE = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
"""The characters that JavaScript's `trim()` removes. Python's `strip()` without arguments removes others."""

_NOISE = re.compile(r"[^a-z0-9]")


class LineEnds:
    """Turns CRLF and CR into LF. A CR at the end of a token waits for the next, which may begin with its LF."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = False

    def lf_only(self, text: str) -> str:
        if self.held:
            text = "\r" + text
        self.held = text.endswith("\r")
        if self.held:
            text = text[:-1]
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def finish(self) -> str:
        held, self.held = self.held, False
        return "\n" if held else ""


def bare(word: str) -> str:
    """The ASCII letters and digits of a word, in lower case: vendors write one word with many separators."""
    return _NOISE.sub("", word.lower())


def utf8(text: str) -> bytes:
    """`text` in UTF-8, with lone surrogates replaced."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return mended(text).encode()


def mended(text: str) -> str:
    """`text` with surrogate pairs joined. Lone halves become U+FFFD, for they are not characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


MESSAGE_LENGTH = 500  # characters of an upstream's message that a client is shown


def one_line_of(text: str, limit: int = MESSAGE_LENGTH) -> str:
    """`text` on one line, without control characters, at most `limit` characters long."""
    # Cut first, so that a huge text costs nothing; twice the limit leaves enough after white space is joined.
    text = " ".join("".join(c if c.isprintable() else " " for c in text[: limit * 2]).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


_LINE_ENDS = re.compile(r"[\r\n]+")


def error_line(error: ProxyError) -> str:
    """An error's message on one line, so that it fits one `data` line; its code if the message is empty."""
    return on_one_line(error.message) or error.code


def on_one_line(text: str) -> str:
    return _LINE_ENDS.sub(" ", mended(text)).strip()
