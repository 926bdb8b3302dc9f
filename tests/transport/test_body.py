"""How a body arrives: however the bytes fall, whole or cut, and no faster than it is read."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import UpstreamMalformed, UpstreamTruncated
from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Split,
    Stall,
    Wait,
    chunked,
    head,
    json_reply,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import eventually
from proxy.transport.address import Destination, Origin
from proxy.transport.connection import Connection
from proxy.transport.pool import Pool
from proxy.transport.reader import ResponseReader
from tests.support.connections import connections

TEXT = "Grüße, 世界 👩‍👩‍👧 \r\n\n end".encode()


async def pieces(response):
    got = []
    while piece := await response.read():
        got.append(piece)
    return got


async def test_a_piece_is_delivered_as_soon_as_it_comes_and_pieces_of_one_read_together(upstream, ask):
    more = asyncio.Event()
    upstream.play(sse_head(), chunked(b"one"), Wait(more), chunked(b"two") + chunked(b"three") + LAST_CHUNK)
    response = await ask()
    assert await response.read() == b"one"
    more.set()
    assert await pieces(response) == [b"twothree"]
    assert await response.read() == b""


async def test_what_has_come_already_is_read_without_suspending(upstream, ask):
    upstream.play(json_reply(200, b"all of it"))
    response = await ask()
    step = response.read()
    with pytest.raises(StopIteration) as stopped:
        step.send(None)
    assert stopped.value.value == b"all of it"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_an_answer_in_tiny_pieces_is_the_same_answer_b10(upstream, ask, transport, size):
    answer = head(200, {"transfer-encoding": "chunked"}) + chunked(TEXT) + chunked(TEXT) + LAST_CHUNK
    upstream.play(Split(answer, size))
    response = await ask()
    assert b"".join(await pieces(response)) == TEXT * 2
    response.close()
    assert connections(transport).idle == 1


async def test_a_length_delimited_and_a_close_delimited_answer_in_tiny_pieces(upstream, ask):
    upstream.play(Split(head(200, {"content-length": str(len(TEXT))}) + TEXT))
    upstream.play(Split(head(200, {"content-type": "text/plain"}) + TEXT), Fin())
    for _ in range(2):
        assert b"".join(await pieces(await ask())) == TEXT


async def test_chunk_extensions_and_trailers_are_not_part_of_the_answer(upstream, ask, transport):
    upstream.play(sse_head(), b"2;a=b\r\nhi\r\n", b"0\r\nX-Trailer: 1\r\n\r\n")
    response = await ask()
    assert b"".join(await pieces(response)) == b"hi"
    assert "x-trailer" not in response.headers
    response.close()
    assert connections(transport).idle == 1


@pytest.mark.parametrize("last", [Fin(), Rst()], ids=["fin", "rst"])
@pytest.mark.parametrize("steps", range(1, 6))
async def test_a_cut_stream_gives_all_that_came_and_then_truncated_b01(upstream, ask, transport, last, steps):
    stream = openai_stream(["a", "b", "c"])[:steps]
    upstream.play(stream, last)
    response = await ask()
    got = b""
    with pytest.raises(UpstreamTruncated):
        while piece := await response.read():
            got += piece
    assert got.count(b"data: ") == steps - 1
    with pytest.raises(UpstreamTruncated):
        await response.read()
    response.close()
    await eventually(lambda: connections(transport).open == 0)


@pytest.mark.parametrize("cut", [b"10\r\nhalf", b"10", b"0\r\n", b"0\r\nX-Trailer: 1\r\n"])
async def test_a_stream_cut_inside_a_chunk_or_its_end_is_truncated_b01(upstream, ask, cut):
    upstream.play(sse_head(), chunked(b"x"), cut, Fin())
    response = await ask()
    with pytest.raises(UpstreamTruncated):
        await response.read_all(1000)


async def test_a_body_shorter_than_its_length_is_truncated(upstream, ask):
    upstream.play(head(200, {"content-length": "10"}) + b"four", Fin())
    response = await ask()
    assert await response.read() == b"four"
    with pytest.raises(UpstreamTruncated):
        await response.read()


async def test_a_close_delimited_body_ends_properly_by_fin_but_not_by_rst_b02(upstream, ask):
    upstream.play(head(200) + b"half", Fin())
    assert await (await ask()).read_all(100) == b"half"
    upstream.play(head(200) + b"half", Rst())
    with pytest.raises(UpstreamTruncated):
        await (await ask()).read_all(100)


async def test_broken_chunks_give_what_came_before_and_then_malformed(upstream, ask):
    upstream.play(sse_head() + chunked(b"good") + b"zz\r\nbad\r\n", Stall())
    response = await ask()
    assert await response.read() == b"good"
    with pytest.raises(UpstreamMalformed, match=r"HTTP/1\.1"):
        await response.read()
    response.close()
    await upstream.peer_gone()


async def test_cancelling_a_read_loses_nothing(upstream, ask):
    more = asyncio.Event()
    upstream.play(sse_head(), Wait(more), chunked(b"late"), LAST_CHUNK)
    response = await ask()
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    more.set()
    assert b"".join(await pieces(response)) == b"late"


# -- slow readers (C04) ----------------------------------------------------------------------------------------------


async def test_an_unread_body_blocks_the_upstream_and_flows_on_when_read_c04(upstream, ask):
    size, times = 64 * 1024, 600
    upstream.play(head(200, {"content-length": str(size * times)}), Send(b"x" * size, times=times))
    response = await ask()
    assert await upstream.stuck() < size * times  # the rest is in the kernel's buffers
    largest = total = 0
    while piece := await response.read():
        largest, total = max(largest, len(piece)), total + len(piece)
    assert total == size * times
    assert largest <= 2 * 256 * 1024  # the high-water mark and one read beyond it


async def test_an_answer_paused_for_a_slow_reader_is_pooled_once_read(upstream, ask, transport):
    upstream.play(json_reply(200, b"x" * 1_000_000))
    response = await ask()
    await upstream.received()
    await asyncio.sleep(0.02)
    assert await response.read_all(1_000_000) == b"x" * 1_000_000
    response.close()
    assert connections(transport).idle == 1


# -- any split, without a socket (B10) ---------------------------------------------------------------------------------


class NoTransport(asyncio.Transport):
    """Swallows what is written; is open until aborted."""

    def __init__(self):
        super().__init__()
        self.aborted = False

    def is_closing(self):
        return self.aborted

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def abort(self):
        self.aborted = True


async def test_a_connection_lost_before_the_request_is_sent_is_reported():
    connection = Connection(Destination(Origin("http", "far", 80)), Pool(idle_s=9, max_idle_per_origin=1))
    connection.connection_made(NoTransport())
    connection.connection_lost(ConnectionResetError())
    connection.pool.add(connection)
    reader = ResponseReader(connection, method="POST", head_limit=65536, high_water=262144)
    connection.send(b"POST / HTTP/1.1\r\n\r\n", b"")
    with pytest.raises(UpstreamTruncated, match="http://far"):
        await reader.head()
    assert connections(connection.pool).open == 0


ANSWERS = {
    "chunked": (sse_head() + chunked(TEXT) + b"3;x=y\r\nabc\r\n" + b"0\r\nT: 1\r\n\r\n", TEXT + b"abc"),
    "length": (head(100) + head(200, {"content-length": str(len(TEXT))}) + TEXT, TEXT),
    "overrun": (head(200, {"content-length": "2"}) + b"hi" + head(200, {"content-length": "2"}) + b"no", b"hi"),
}


async def fed(parts):
    connection = Connection(Destination(Origin("http", "far", 80)), Pool(idle_s=9, max_idle_per_origin=1))
    connection.connection_made(NoTransport())
    connection.pool.add(connection)
    reader = ResponseReader(connection, method="POST", head_limit=65536, high_water=262144)
    for part in parts:
        connection.get_buffer(-1)[: len(part)] = part
        connection.buffer_updated(len(part))
    await reader.head()
    body = await reader.read_all(1 << 20)
    reader.close()
    return reader.status, body, connections(connection.pool).idle


@pytest.mark.parametrize("name", ANSWERS)
async def test_every_single_cut_gives_the_same_body(name):
    raw, body = ANSWERS[name]
    for cut in range(1, len(raw)):
        assert await fed([raw[:cut], raw[cut:]]) == (200, body, 0 if name == "overrun" else 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(1, 400), max_size=12))
def test_any_cuts_give_the_same_body(name, cuts):
    raw, body = ANSWERS[name]
    places = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
    parts = [raw[start:end] for start, end in itertools.pairwise(places)]
    assert asyncio.run(fed(parts)) == (200, body, 0 if name == "overrun" else 1)
