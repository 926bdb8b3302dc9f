"""The harness itself: a client that misreads how a body ended would prove anything."""

import asyncio
import socket

import pytest

from proxy.testing.script import Fin, NeverRead, Rst, Send, chunked, head, json_reply, sse_head
from proxy.testing.upstream import ScriptedUpstream
from tests.support.clients import RawClient, request_bytes


@pytest.fixture
async def client(upstream: ScriptedUpstream):
    async with await RawClient.connect(upstream.port) as client:
        yield client


async def test_a_chunked_body_comes_chunk_by_chunk_and_tells_its_final_chunk(upstream, client):
    upstream.play(Send(sse_head()), Send(chunked(b"one") + chunked(b"two")), Send(chunked(b"")))
    await client.post("/chat", {"a": 1})
    answer = await client.read_head()
    assert (answer.status, answer["content-type"]) == (200, "text/event-stream")
    assert [await client.read_chunk(), await client.read_chunk()] == [b"one", b"two"]
    assert client.end == ""
    assert await client.read_chunk() == b""
    assert client.end == "final chunk"
    assert upstream.requests[0].json() == {"a": 1}
    assert upstream.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(("leave", "gone"), [(Fin(), "FIN"), (Rst(), "RST")])
async def test_a_cut_body_is_distinguished_from_a_whole_one(upstream, client, leave, gone):
    upstream.play(Send(sse_head()), Send(chunked(b"one") + b"5\r\ntw"), leave)
    await client.post("/chat")
    await client.read_head()
    assert await client.read_body() == b"one"
    assert (client.end, client.gone) == ("cut", gone)


async def test_bodies_with_a_length_end_there_and_the_connection_serves_again(upstream, client):
    upstream.play(*json_reply(200, b"hello"), times=2)
    for _ in range(2):
        await client.get("/")
        await client.read_head()
        assert await client.read_body() == b"hello"
        assert client.end == "length"
    assert upstream.connections == 1


async def test_a_body_shorter_than_its_length_is_cut(upstream, client):
    upstream.play(Send(head(200, {"content-length": "10"}) + b"hello"), Fin())
    await client.get("/")
    await client.read_head()
    assert await client.read_body() == b"hello"
    assert client.end == "cut"


async def test_a_body_delimited_by_the_close_says_so(upstream, client):
    upstream.play(Send(head(200) + b"hello"), Fin())
    await client.get("/")
    await client.read_head()
    assert await client.read_body() == b"hello"
    assert client.end == "close"


async def test_answers_without_a_body_have_none(upstream, client):
    upstream.play(Send(head(204)))
    upstream.play(Send(head(200, {"content-length": "5"})))
    await client.request("OPTIONS", "/")
    assert (await client.read_head()).status == 204
    assert client.end == "none"
    await client.request("HEAD", "/")
    await client.read_head()
    assert client.end == "none"


async def test_read_until_stops_where_the_marker_came_and_fails_where_it_never_does(upstream, client):
    upstream.play(Send(sse_head()), Send(chunked(b"data: 1\n\n")), Send(chunked(b"data: 2\n\n") + chunked(b"")))
    await client.post("/chat")
    await client.read_head()
    assert await client.read_until(b"1") == b"data: 1\n\n"
    with pytest.raises(AssertionError, match="final chunk"):
        await client.read_until(b"3")


async def test_silence_fails_the_test_and_shows_what_came(upstream, client):
    upstream.play(Send(b"HTTP/1.1 200 OK\r\n"))
    await client.get("/")
    with pytest.raises(AssertionError, match=r"HTTP/1\.1 200 OK"):
        await client.read_head(within=0.05)


@pytest.mark.parametrize(("leave", "how"), [("fin", "FIN"), ("rst", "RST"), ("half_close", "FIN")])
async def test_every_way_to_leave_looks_so_to_the_upstream(upstream, client, leave, how):
    upstream.play(Send(sse_head()))
    await client.post("/chat")
    await client.read_head()
    getattr(client, leave)()
    (closed,) = await upstream.peer_gone()
    assert closed.how == how


async def test_a_client_that_does_not_read_blocks_its_server(upstream):
    upstream.play(Send(sse_head()), Send(chunked(b"x" * 65536), times=1000))
    async with await RawClient.connect(upstream.port, receive_buffer=4096) as client:
        await client.post("/chat")
        await client.read_head()
        sent = await upstream.stuck()
        assert sent < 64_000_000
        assert await client.read_some(100) != b""
        client.rst()
    await upstream.peer_gone()


async def test_a_body_can_be_dripped_and_a_head_withheld(upstream, client):
    upstream.play(NeverRead(), Send(head(413, {"content-length": "0"})))
    request = request_bytes("POST", "/chat", b"x" * 50)
    await client.drip(request[:-40], size=20, pause_s=0.001)
    assert (await client.read_head()).status == 413


async def test_a_close_by_the_upstream_is_noticed_without_reading_on_purpose(upstream, client):
    upstream.play(Send(head(200, {"content-length": "5"}) + b"hello"), Rst())
    await client.get("/")
    assert await client.closed() == "RST"


def test_request_bytes_adds_only_what_is_missing():
    assert request_bytes("GET", "/a") == b"GET /a HTTP/1.1\r\nHost: proxy.test\r\n\r\n"
    twice = request_bytes("POST", "/", b"ab", [("host", "h"), ("Content-Length", "1"), ("content-length", "2")])
    assert twice == b"POST / HTTP/1.1\r\nhost: h\r\nContent-Length: 1\r\ncontent-length: 2\r\n\r\nab"


async def test_a_refused_connection_leaves_no_socket_open(upstream):
    await upstream.stop_listening()
    with pytest.raises(ConnectionRefusedError):
        await RawClient.connect(upstream.port)
    await asyncio.sleep(0)


async def test_a_reset_comes_after_all_that_was_written(upstream):
    upstream.play(Send(b"x" * 300_000), Rst())
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # so that most of it waits at the other side
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", upstream.port))
        await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        read = 0
        with pytest.raises(ConnectionResetError):
            while data := await loop.sock_recv(sock, 4096):
                read += len(data)
    assert read == 300_000
