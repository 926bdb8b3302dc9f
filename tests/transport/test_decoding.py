"""Bodies that are compressed although we asked for `identity` (B12)."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import pytest

from proxy.errors import UpstreamMalformed, UpstreamTruncated
from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Send,
    Split,
    Stall,
    Wait,
    chunked,
    head,
    json_reply,
    sse_head,
)
from proxy.transport.decoding import STEP, Inflater
from tests.support.connections import connections

TEXT = b"data: hello, world\n\n" * 50


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "GZip": gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]) + b"\0\0\0",
    "deflate": zlib.compress(TEXT),
    "Deflate": raw_deflate(TEXT),
    "identity": TEXT,
    "utf-8": TEXT,  # no coding: the body is as it stands
    "none": TEXT,
    "identity, gzip": gzip.compress(TEXT),
    "": TEXT,
}


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_each_coding_is_undone_however_the_bytes_fall_b12(upstream, ask, transport, coding, size):
    body = PACKED[coding]
    fields = {"content-length": str(len(body)), "content-encoding": coding}
    upstream.play(Split(head(200, fields) + body, size))
    response = await ask()
    assert response.status == 200
    assert await response.read_all(10_000) == TEXT
    response.close()
    assert connections(transport).idle == 1


async def test_flushed_events_are_delivered_at_once_b12(upstream, ask):
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    first = packer.compress(b"data: 1\n\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    last = packer.compress(b"data: 2\n\n") + packer.flush()
    more = asyncio.Event()
    upstream.play(sse_head(content_encoding="gzip"), chunked(first), Wait(more), chunked(last), LAST_CHUNK)
    response = await ask()
    assert await response.read() == b"data: 1\n\n"
    more.set()
    assert await response.read() == b"data: 2\n\n"
    assert await response.read() == b""


@pytest.mark.parametrize("cut", [1, 9, 30, len(PACKED["gzip"]) - 1])
async def test_cut_gzip_in_a_complete_http_body_is_truncated_b12(upstream, ask, cut):
    upstream.play(json_reply(200, PACKED["gzip"][:cut], {"content-encoding": "gzip"}))
    response = await ask()
    with pytest.raises(UpstreamTruncated, match="gzip"):
        await response.read_all(10_000)


async def test_cut_connection_inside_gzip_is_truncated_b12(upstream, ask):
    upstream.play(sse_head(content_encoding="gzip"), chunked(PACKED["gzip"][:40]), Fin())
    response = await ask()
    with pytest.raises(UpstreamTruncated):
        await response.read_all(10_000)


async def test_data_that_is_not_what_the_header_says_is_malformed_b12(upstream, ask):
    for body in (TEXT, PACKED["gzip"] + b"trailing"):
        upstream.play(json_reply(200, body, {"content-encoding": "gzip"}))
        response = await ask()
        with pytest.raises(UpstreamMalformed, match="gzip"):
            await response.read_all(10_000)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "aes128gcm"])
async def test_an_unknown_coding_is_malformed_and_closes_the_connection_b12(upstream, ask, transport, coding):
    upstream.play(json_reply(200, b"x", {"content-encoding": coding}), Stall())
    with pytest.raises(UpstreamMalformed, match="gzip"):
        await ask()
    await upstream.peer_gone()
    assert connections(transport).open == 0


async def test_an_empty_body_that_claims_gzip_is_empty(upstream, ask):
    upstream.play(json_reply(200, b"", {"content-encoding": "gzip"}))
    assert await (await ask()).read() == b""


async def test_a_bomb_comes_in_bounded_pieces_and_bounded_memory_b12(upstream, ask):
    size = 60_000_000
    bomb = gzip.compress(bytes(size))
    upstream.play(head(200, {"content-length": str(len(bomb)), "content-encoding": "gzip"}), Send(bomb))
    response = await ask()
    total = 0
    tracemalloc.start()
    try:
        while piece := await response.read():
            assert len(piece) <= STEP
            total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == size
    assert peak < 2_000_000


def test_an_inflater_is_finished_only_between_streams():
    inflater = Inflater("gzip")
    assert inflater.finished
    inflater.feed(PACKED["gzip"][:-1])
    assert inflater.step() == TEXT
    assert not inflater.finished
    inflater.feed(PACKED["gzip"][-1:])
    assert inflater.step() == b""
    assert inflater.finished
