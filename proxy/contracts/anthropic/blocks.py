"""Content blocks of an Anthropic stream: which one is open, and what waits for its turn.

Blocks never overlap there, while elsewhere the pieces of parallel tool calls may come in turns. The call that is
open is written as it comes. What belongs to another block waits for it to be complete, which its own text tells:
arguments are one JSON object.
"""

from __future__ import annotations

import msgspec

from proxy.errors import Limit
from proxy.wire.json_text import json_string

WAITING_BYTES = 4 * 1024 * 1024
"""How much may wait: as much as one event may be large."""

_OVERHEAD = 64  # what a piece costs besides its text

_TEXT, _THINKING = -1, -2  # keys of the blocks that are no calls, whose keys are their indexes
_EMPTY = {
    _TEXT: b'{"type":"text","text":""}',
    _THINKING: b'{"type":"thinking","thinking":"","signature":""}',
}
_DELTAS = {
    _TEXT: b'{"type":"text_delta","text":',
    _THINKING: b'{"type":"thinking_delta","thinking":',
}
_CALL_DELTA = b'{"type":"input_json_delta","partial_json":'
_SIGNATURE_DELTA = b'{"type":"signature_delta","signature":'

_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b'
_TAIL = b"}}\n\n"
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


class _Block(msgspec.Struct):
    """A block that is open, or waits: what came of it so far, as far as somebody still needs to know."""

    key: int
    start: bytes
    pieces: list[str] = []
    size: int = 0
    looked_at: int = 0  # characters, over all the times its arguments were found incomplete
    seal: str = ""

    @property
    def is_call(self) -> bool:
        return self.key >= 0

    def add(self, piece: str) -> None:
        self.pieces.append(piece)
        self.size += len(piece)

    def is_complete(self) -> bool:
        """Whether nothing more can belong to it. The more often it was not, the more has to come: work stays linear."""
        if not self.is_call:
            return True
        last = self.pieces[-1].rstrip() if self.pieces else "{"
        if (last and last[-1] != "}") or self.looked_at > 16 * self.size + 4096:
            return False
        self.looked_at += self.size
        try:
            return isinstance(msgspec.json.decode("".join(self.pieces)), dict)
        except (ValueError, RecursionError):
            return False


class BlockWriter:
    """Writes blocks. Each method returns the bytes that can go out now, which may be none."""

    def __init__(self) -> None:
        self.pieces = 0  # of text, reasoning and arguments: about as many as tokens
        self.called = False
        self.said = False
        self._index = 0  # of the block that is open, or comes next
        self._open: _Block | None = None
        self._head = b""  # of the deltas of the block that is open
        self._waiting: list[_Block] = []
        self._waiting_calls: dict[int, _Block] = {}
        self._waiting_bytes = 0

    def text(self, text: str) -> bytes:
        return self._delta(_TEXT, text)

    def thinking(self, text: str) -> bytes:
        return self._delta(_THINKING, text)

    def signature(self, signature: str) -> bytes:
        """The seal on the reasoning that was written last. It ends the block; without one it makes its own."""
        before = self._turn(_THINKING)
        if before is None:
            self._wait(_THINKING, "").seal = signature
            return b""
        return before + self._sealed(signature) + self._close()

    def call(self, index: int, id_: str, name: str) -> bytes:
        """A tool call begins."""
        self.called = True
        start = b'{"type":"tool_use","id":%b,"name":%b,"input":{}}' % (json_string(id_), json_string(name))
        block = _Block(index, start)
        if self._can_close():
            return self._close() + self._begin(block)
        self._waiting.append(block)
        self._waiting_calls[index] = block
        self._keep(block, "")
        return b""

    def arguments(self, index: int, piece: str) -> bytes:
        """A piece of a call's arguments."""
        self.pieces += 1
        block = self._open
        if block is None or block.key != index:
            waiting = self._waiting_calls.get(index)
            if waiting is not None:
                self._keep(waiting, piece)
            return b""  # or it comes after the arguments were complete: no JSON goes on there
        block.add(piece)
        written = self._piece(json_string(piece))
        if self._waiting and block.is_complete():
            written += self._close() + self._next()
        return written

    def close(self) -> bytes:
        """The end of all blocks, those that wait included: nothing more will come."""
        written = [self._close()]
        while self._waiting:
            written += [self._begin(self._first()), self._close()]
        return b"".join(written)

    def resume(self, event: bytes) -> None:
        """Go on after blocks that somebody else wrote: `event` is the last of theirs that was about one."""
        name, _, data = event.partition(b"\ndata: ")
        self._index = index = msgspec.json.decode(data)["index"]
        if name.endswith(b"stop"):
            self._index = index + 1
        else:
            self._open = _Block(_TEXT, b"")
            self._head = b""  # not to be continued, only to be closed

    def _delta(self, key: int, text: str) -> bytes:
        self.pieces += 1
        block = self._open
        if block is not None and block.key == key and self._head:
            return self._piece(json_string(text))
        before = self._turn(key)
        if before is None:
            self._wait(key, text)
            return b""
        return before + self._piece(json_string(text))

    def _turn(self, key: int) -> bytes | None:
        """Make the block of `key` the open one; `None` when it has to wait."""
        block = self._open
        if block is not None and block.key == key and self._head:
            return b""
        if not self._can_close():
            return None
        return self._close() + self._begin(_Block(key, _EMPTY[key]))

    def _can_close(self) -> bool:
        return not self._waiting and (self._open is None or self._open.is_complete())

    def _wait(self, key: int, piece: str) -> _Block:
        """Keep a piece of text or reasoning for later: in the block that waits last, if it may go on there."""
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.key != key or last.seal:
            last = _Block(key, _EMPTY[key])
            self._waiting.append(last)
        self._keep(last, piece)
        return last

    def _keep(self, block: _Block, piece: str) -> None:
        """Raises `Limit` when too much is kept."""
        block.add(piece)
        self._waiting_bytes += len(piece) + _OVERHEAD
        if self._waiting_bytes > WAITING_BYTES:
            raise Limit(f"tool calls that came in turns grew past {WAITING_BYTES // (1024 * 1024)} MiB")

    def _first(self) -> _Block:
        block = self._waiting.pop(0)
        self._waiting_calls.pop(block.key, None)
        if not self._waiting:
            self._waiting_bytes = 0
        return block

    def _next(self) -> bytes:
        """Write what waits, up to the first block that more may belong to."""
        written = [self._begin(self._first())]
        while self._waiting and (self._open is None or self._open.is_complete()):
            written += [self._close(), self._begin(self._first())]
        return b"".join(written)

    def _begin(self, block: _Block) -> bytes:
        """Open a block, with what already came of it."""
        self._open = block
        self.said = self.said or block.key == _TEXT
        self._head = _DELTA % (self._index, _CALL_DELTA if block.is_call else _DELTAS[block.key])
        written = _START % (self._index, block.start)
        if block.size:
            written += self._piece(json_string("".join(block.pieces)))
        if block.seal:
            written += self._sealed(block.seal) + self._close()
        return written

    def _piece(self, text: bytes) -> bytes:
        return b"%b%b%b" % (self._head, text, _TAIL)

    def _sealed(self, signature: str) -> bytes:
        return (_DELTA % (self._index, _SIGNATURE_DELTA)) + json_string(signature) + _TAIL

    def _close(self) -> bytes:
        block, index = self._open, self._index
        if block is None:
            return b""
        self._open = None
        self._index = index + 1
        return _STOP % index
