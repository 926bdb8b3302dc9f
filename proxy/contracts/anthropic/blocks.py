"""Content blocks of an Anthropic stream: the one that is open, and those that wait for it to end.

Blocks never overlap in this contract, while other upstreams interleave the pieces of parallel tool calls. A client may
run a call as soon as its block has ended. So the block of a call ends only with the answer: no call of an answer that
fails later is complete (C3). What comes after the first call waits for the end of the answer.
"""

import msgspec

from proxy.errors import Limit
from proxy.wire.json_text import json_string

WAITING_BYTES = 4 * 1024 * 1024
"""How much may wait: as much as one event may hold."""

_OVERHEAD = 64  # bytes that a piece costs besides its text
_PIECES_PER_PING = 64  # a client that hears nothing for long gives up, though pieces are coming

_TEXT, _THINKING = -1, -2  # keys of the blocks that are not calls; the key of a call is its index
_EMPTY = {_TEXT: b'{"type":"text","text":""}', _THINKING: b'{"type":"thinking","thinking":"","signature":""}'}
_DELTAS = {_TEXT: b'{"type":"text_delta","text":', _THINKING: b'{"type":"thinking_delta","thinking":'}
_CALL_DELTA = b'{"type":"input_json_delta","partial_json":'
_SIGNATURE_DELTA = b'{"type":"signature_delta","signature":'

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b'
_TAIL = b"}}\n\n"
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'


class _OpenBlock(msgspec.Struct):
    """A block that is open or waits, with what has come of it while it waited."""

    key: int
    start: bytes
    pieces: list[str] = []
    signature: str = ""

    @property
    def is_call(self) -> bool:
        return self.key >= 0


class BlockWriter:
    """Writes blocks. Each method returns the bytes that can go out now, which may be none."""

    def __init__(self) -> None:
        self.pieces = 0  # of text, reasoning and arguments: about as many as tokens
        self.has_calls = False
        self.has_text = False
        self._index = 0  # of the open block, or of the next one
        self._open: _OpenBlock | None = None
        self._head = b""  # how the deltas of the open block begin
        self._waiting: list[_OpenBlock] = []
        self._waiting_calls: dict[int, _OpenBlock] = {}
        self._waiting_bytes = 0
        self._kept = 0  # pieces that were kept

    def text(self, text: str) -> bytes:
        return self._delta(_TEXT, text)

    def thinking(self, text: str) -> bytes:
        return self._delta(_THINKING, text)

    def signature(self, signature: str) -> bytes:
        """The signature on the reasoning before it. It ends the reasoning's block, or makes one of its own."""
        before = self._turn(_THINKING)
        if before is None:
            block = self._last_waiting(_THINKING)
            block.signature = signature
            return self._keep(block, "")
        return before + self._signed(signature) + self._close()

    def call(self, index: int, id_: str, name: str) -> bytes:
        """A tool call begins."""
        self.has_calls = True
        start = b'{"type":"tool_use","id":%b,"name":%b,"input":{}}' % (json_string(id_), json_string(name))
        block = _OpenBlock(index, start)
        if self._can_close():
            return self._close() + self._begin(block)
        self._waiting.append(block)
        self._waiting_calls[index] = block
        return self._keep(block, "")

    def arguments(self, index: int, piece: str) -> bytes:
        """A piece of a call's arguments."""
        self.pieces += 1
        waiting = self._waiting_calls.get(index)
        if waiting is not None:
            return self._keep(waiting, piece)
        block = self._open
        if block is None or block.key != index:
            return b""
        return self._piece(json_string(piece))

    def close(self) -> bytes:
        """Write the blocks that wait, and end them all."""
        written = [self._close()]
        for block in self._waiting:
            written += [self._begin(block), self._close()]
        self._waiting.clear()
        self._waiting_calls.clear()
        return b"".join(written)

    def resume(self, event: bytes) -> None:
        """Continue after blocks that were passed on as they came: `event` is the last event about one of them."""
        name, _, data = event.partition(b"\ndata: ")
        self._index = index = msgspec.json.decode(data)["index"]
        if name.endswith(b"stop"):
            self._index = index + 1
        else:
            self._open = _OpenBlock(_TEXT, b"")
            self._head = b""  # it can only be closed: its type is not known here

    def _delta(self, key: int, text: str) -> bytes:
        self.pieces += 1
        block = self._open
        if block is not None and block.key == key and self._head:
            return self._piece(json_string(text))
        before = self._turn(key)
        if before is None:
            return self._keep(self._last_waiting(key), text)
        return before + self._piece(json_string(text))

    def _turn(self, key: int) -> bytes | None:
        """Make the block of `key` the open one; `None` when it has to wait."""
        block = self._open
        if block is not None and block.key == key and self._head:
            return b""
        if not self._can_close():
            return None
        return self._close() + self._begin(_OpenBlock(key, _EMPTY[key]))

    def _can_close(self) -> bool:
        return not self._waiting and (self._open is None or not self._open.is_call)

    def _last_waiting(self, key: int) -> _OpenBlock:
        """The last block that waits if it is of this kind and can go on; else a new one."""
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.key != key or last.signature:
            last = _OpenBlock(key, _EMPTY[key])
            self._waiting.append(last)
        return last

    def _keep(self, block: _OpenBlock, piece: str) -> bytes:
        """Keep a piece for later; now and then a heartbeat. Raises `Limit` when too much is kept."""
        block.pieces.append(piece)
        self._waiting_bytes += len(piece) + _OVERHEAD
        if self._waiting_bytes > WAITING_BYTES:
            raise Limit(f"what came after the first tool call grew past {WAITING_BYTES // (1024 * 1024)} MiB")
        self._kept += 1
        return b"" if self._kept % _PIECES_PER_PING else PING

    def _begin(self, block: _OpenBlock) -> bytes:
        """Open a block, and write what has already come of it."""
        self._open = block
        self.has_text = self.has_text or block.key == _TEXT
        self._head = _DELTA % (self._index, _CALL_DELTA if block.is_call else _DELTAS[block.key])
        written = _START % (self._index, block.start)
        if text := "".join(block.pieces):
            written += self._piece(json_string(text))
        if block.signature:
            written += self._signed(block.signature) + self._close()
        return written

    def _piece(self, text: bytes) -> bytes:
        return b"%b%b%b" % (self._head, text, _TAIL)

    def _signed(self, signature: str) -> bytes:
        return (_DELTA % (self._index, _SIGNATURE_DELTA)) + json_string(signature) + _TAIL

    def _close(self) -> bytes:
        block, index = self._open, self._index
        if block is None:
            return b""
        self._open = None
        self._index = index + 1
        return _STOP % index
