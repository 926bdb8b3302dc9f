"""Getting through to the upstream, or saying why not (A01, A02)."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import asynccontextmanager

import pytest

from proxy.errors import UpstreamConnect
from proxy.testing.script import Stall, chunked, json_reply, openai_stream, sse_head
from proxy.testing.upstream import ScriptedUpstream, eventually
from proxy.transport import HttpTransport, Request
from tests.support.certificates import client_context, server_context
from tests.support.connections import connections
from tests.support.forward_proxy import HttpProxy
from tests.support.ports import free_port

KEY = "sk-canary"


def post(url, connect_s=60):
    headers = {"authorization": f"Bearer {KEY}"}
    return Request(method="POST", url=url, headers=headers, body=b"{}", connect_s=connect_s)


async def exchange(transport, url):
    response = await transport.open(post(url))
    try:
        return response.status, await response.read_all(100_000)
    finally:
        response.close()


@pytest.fixture
async def tls():
    async with ScriptedUpstream(tls=server_context(), name="localhost") as scripted:
        yield scripted


@pytest.fixture
async def trusting():
    transport = HttpTransport(ssl_context=client_context(), proxies={})
    yield transport
    await transport.aclose()


async def test_refused_a01(transport):
    port = free_port()
    with pytest.raises(UpstreamConnect) as caught:
        await transport.open(post(f"http://127.0.0.1:{port}/v1?key={KEY}"))
    assert f"http://127.0.0.1:{port}:" in str(caught.value)
    assert KEY not in str(caught.value)
    assert (caught.value.status, caught.value.code) == (502, "upstream_connect")
    assert connections(transport).open == 0


async def test_the_loop_stays_responsive_while_the_resolver_hangs_a01(transport, monkeypatch):
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never, raising=False)
    began = time.monotonic()
    with pytest.raises(UpstreamConnect, match=r"slow\.example") as caught:
        await transport.open(post("http://slow.example/", connect_s=0.05))
    assert time.monotonic() - began < 30
    assert caught.value.status == 504


async def never(*args, **more):
    await asyncio.Event().wait()


async def test_no_connection_in_time_a02(transport):
    # a listener whose queue is full answers no SYN
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(address)
        try:
            with pytest.raises(UpstreamConnect) as caught:
                await transport.open(post(f"http://127.0.0.1:{address[1]}/", connect_s=0.1))
            assert caught.value.status == 504
        finally:
            for each in filling:
                each.close()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
        (OSError(errno.ENETUNREACH, "x"), "no route"),
        (OSError(errno.EPERM, "x"), "EPERM"),
        (RuntimeError("uvloop says so"), "RuntimeError"),
    ],
)
async def test_other_failures_are_explained(transport, monkeypatch, error, said):
    async def fail(*args, **more):
        raise error

    monkeypatch.setattr("aiohappyeyeballs.start_connection", fail)
    with pytest.raises(UpstreamConnect, match=said):
        await transport.open(post("http://127.0.0.1:1/"))


async def test_the_second_address_is_tried_when_the_first_refuses(upstream, transport, monkeypatch):
    upstream.play(json_reply(200, b"hi"))

    async def two(*args, **more):
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, ("127.0.0.2", upstream.port)), (*kind, ("127.0.0.1", upstream.port))]

    monkeypatch.setattr(transport._connector._resolver, "addresses", two)
    assert await exchange(transport, f"http://two.example:{upstream.port}/") == (200, b"hi")


# -- TLS ---------------------------------------------------------------------------------------------------------------


async def test_tls_with_a_trusted_certificate_streams_and_is_pooled(tls, trusting):
    tls.always(openai_stream(["a", "b"]))
    for _ in range(2):
        status, body = await exchange(trusting, tls.url)
        assert status == 200
        assert body.endswith(b"[DONE]\n\n")
    assert tls.connections == 1


async def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_sent_a01(tls, transport):
    with pytest.raises(UpstreamConnect) as caught:
        await transport.open(post(tls.url))
    assert f"certificate of https://localhost:{tls.port} " in str(caught.value)
    assert KEY not in str(caught.value)
    assert (tls.requests, tls.connections) == ([], 0)  # the handshake never got to the end
    assert connections(transport).open == 0


async def test_a_certificate_for_another_name_is_refused_a01(tls, trusting):
    with pytest.raises(UpstreamConnect, match=r"127\.0\.0\.1"):
        await trusting.open(post(f"https://127.0.0.1:{tls.port}/v1"))
    assert tls.requests == []


@asynccontextmanager
async def listening(reply: bytes):
    """A server that reads something, says `reply`, and waits for the peer to leave."""

    async def serve(reader, writer):
        here.append(writer)
        await reader.read(10)
        writer.write(reply)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    here, gone = [], asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        if here:  # a busy machine may not get as far as connecting
            await gone.wait()
    finally:
        server.close()
    await server.wait_closed()


async def test_https_to_a_server_without_tls_says_so(trusting):
    async with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(UpstreamConnect, match="TLS"):
            await trusting.open(post(f"https://127.0.0.1:{port}/v1"))


async def test_a_handshake_that_stalls_ends_at_the_connect_timer(transport):
    for connect_s in (0.5, 2, 10):  # a busy machine may need all of it to get as far as the handshake
        async with listening(b"") as port:
            with pytest.raises(UpstreamConnect) as caught:
                await transport.open(post(f"https://127.0.0.1:{port}/", connect_s=connect_s))
        if "TLS" in str(caught.value):
            break
    assert "TLS" in str(caught.value)


async def test_certificates_that_cannot_be_read_are_said_so_before_connecting(tls, transport, monkeypatch):
    monkeypatch.setattr("ssl.create_default_context", lambda: open("/nowhere/ca.pem"))  # noqa: SIM115, PTH123
    with pytest.raises(UpstreamConnect, match="ENOENT"):
        await transport.open(post(tls.url))
    assert tls.connections == 0


async def test_closing_a_tls_stream_reaches_the_upstream_at_once(tls, trusting):
    tls.play(sse_head(), chunked(b"x"), Stall())
    response = await trusting.open(post(tls.url))
    assert await response.read() == b"x"
    response.close()
    await tls.peer_gone(1)


# -- forward proxies ---------------------------------------------------------------------------------------------------


async def test_http_through_a_proxy_is_absolute_form_with_its_own_credentials(upstream):
    upstream.play(json_reply(200, b"hi"))
    async with HttpProxy() as proxy:
        transport = HttpTransport(proxies={"http": proxy.url.replace("//", "//user:s3cret@")})
        assert await exchange(transport, upstream.url) == (200, b"hi")
        await transport.aclose()
    assert proxy.requests[0].startswith(f"POST {upstream.url} HTTP/1.1\r\nHost: 127.0.0.1:{upstream.port}\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n" in proxy.requests[0]


async def test_https_through_a_proxy_is_a_tunnel_and_the_proxy_sees_no_key(tls):
    tls.play(json_reply(200, b"hi"), times=2)
    async with HttpProxy() as proxy:
        transport = HttpTransport(
            ssl_context=client_context(), proxies={"https": proxy.url.replace("//", "//user:s3cret@")}
        )
        for _ in range(2):
            assert await exchange(transport, tls.url) == (200, b"hi")
        await transport.aclose()
    (asked,) = proxy.requests
    assert asked.startswith(f"CONNECT localhost:{tls.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n" in asked
    assert KEY.encode() not in asked
    assert "proxy-authorization" not in tls.requests[0].headers


@pytest.mark.parametrize(
    ("refuse", "said"),
    [("407 Proxy Authentication Required", "other credentials"), ("403 Forbidden", "refused a tunnel .* 403")],
)
async def test_a_proxy_that_refuses_a_tunnel_is_named(refuse, said):
    async with HttpProxy(refuse=refuse) as proxy:
        transport = HttpTransport(proxies={"https": proxy.url.replace("//", "//user:s3cret@")})
        with pytest.raises(UpstreamConnect, match=said) as caught:
            await transport.open(post("https://far.example/v1"))
        assert proxy.url in str(caught.value)
        assert "s3cret" not in str(caught.value)
        await transport.aclose()


async def test_a_proxy_that_is_down_is_named():
    transport = HttpTransport(proxies={"https": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(UpstreamConnect, match=r"https://far\.example .*http://127"):
        await transport.open(post("https://far.example/v1"))
    await transport.aclose()


# -- cancelling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
async def test_cancelling_at_any_step_of_connecting_leaves_nothing(upstream, tls, trusting, secure):
    far = tls if secure else upstream
    far.always(Stall())
    for steps in range(1, 40):
        task = asyncio.create_task(trusting.open(post(far.url)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await eventually(lambda: connections(trusting).open == 0)
    await eventually(lambda: far.open_connections == 0)
