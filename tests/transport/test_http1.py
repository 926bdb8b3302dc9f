"""Requests as they are sent, connections as they are kept, and upstreams that behave badly around both."""

from __future__ import annotations

import asyncio
import random

import pytest

from proxy.errors import FrameTooLarge, InternalError, ProxyError, UpstreamConnect, UpstreamMalformed, UpstreamTruncated
from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    NeverRead,
    Rst,
    Send,
    Stall,
    Wait,
    chunked,
    head,
    json_reply,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream, eventually
from proxy.transport import HttpTransport, Request
from tests.support.connections import connections

OK = json_reply(200, {"ok": True})


async def whole(response):
    data = await response.read_all(1 << 24)
    response.close()
    return data


# -- what is sent --------------------------------------------------------------------------------------------------


async def test_a_request_is_sent_as_given_with_our_framing(upstream, ask):
    upstream.play(OK)
    response = await ask(b'{"a":1}', headers={"Authorization": "Bearer k", "X-Caf": "\xe9", "Content-Length": "999"})
    assert response.status == 200
    assert await whole(response) == b'{"ok": true}'
    assert upstream.requests[0].raw_head.decode("latin-1") == (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{upstream.port}\r\n"
        "Authorization: Bearer k\r\n"
        "X-Caf: \xe9\r\n"
        "Accept-Encoding: identity\r\n"
        "Content-Length: 7\r\n\r\n"
    )
    assert upstream.requests[0].body == b'{"a":1}'


async def test_get_has_no_content_length_and_an_empty_post_has_zero(upstream, ask):
    upstream.play(OK, times=2)
    await whole(await ask(b"", method="GET"))
    await whole(await ask(b""))
    assert "content-length" not in upstream.requests[0].headers
    assert upstream.requests[1].headers["content-length"] == "0"


async def test_user_information_in_the_url_is_sent_as_a_credential_unless_there_is_one(upstream, ask):
    upstream.play(OK, times=2)
    url = upstream.url.replace("//", "//me:s3cret@")
    await whole(await ask(url=url, headers={}))
    await whole(await ask(url=url, headers={"Authorization": "Bearer k"}))
    assert [seen.headers["authorization"] for seen in upstream.requests] == ["Basic bWU6czNjcmV0", "Bearer k"]
    assert f"127.0.0.1:{upstream.port}" == upstream.requests[0].headers["host"]


async def test_a_large_body_arrives_whole(upstream, ask):
    upstream.play(OK)
    body = random.Random(1).randbytes(3_000_000)
    await whole(await ask(body))
    assert upstream.requests[0].body == body


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "key\n", "snowman \u2603"])
async def test_a_header_that_would_break_the_request_is_refused_unsent_and_unquoted(upstream, ask, value):
    with pytest.raises(InternalError, match="'authorization'") as caught:
        await ask(headers={"authorization": value})
    assert "Evil" not in str(caught.value)
    assert upstream.connections == 0


@pytest.mark.parametrize("name", ["a b", "a:b", "", "a\r\nb", "\xe9"])
async def test_a_header_name_that_is_no_token_is_refused(upstream, ask, name):
    with pytest.raises(InternalError):
        await ask(headers={name: "x"})
    assert upstream.connections == 0


@pytest.mark.parametrize("method", ["GET /x HTTP/1.1\r\n", "", "G T"])
async def test_a_method_that_is_no_word_is_refused(upstream, ask, method):
    with pytest.raises(InternalError):
        await ask(method=method)
    assert upstream.connections == 0


# -- what comes back -----------------------------------------------------------------------------------------------


async def test_response_headers_are_lower_case_and_repeated_ones_are_joined(upstream, ask):
    upstream.play(head(200, [("Content-Length", "0"), ("X-A", "1"), ("x-a", "2"), ("Empty", "")]))
    response = await ask()
    assert response.headers == {"content-length": "0", "x-a": "1, 2", "empty": ""}
    assert await response.read() == b""


@pytest.mark.parametrize("status", [301, 307, 404, 429, 503])
async def test_any_status_is_returned_as_it_is_and_redirects_are_not_followed(upstream, ask, status):
    async with ScriptedUpstream() as elsewhere:
        upstream.play(json_reply(status, {"e": 1}, {"location": elsewhere.url}))
        response = await ask()
        assert response.status == status
        assert await whole(response) == b'{"e": 1}'
        assert elsewhere.connections == 0


async def test_informational_answers_are_skipped(upstream, ask):
    upstream.play(head(100), head(103, {"link": "</x>"}), OK)
    response = await ask()
    assert response.status == 200
    assert "link" not in response.headers
    assert await whole(response) == b'{"ok": true}'


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_body_ends_at_once_and_the_connection_is_kept(upstream, ask, status):
    upstream.play(head(status, {"content-length": "5"} if status == 304 else {}))
    upstream.play(OK)
    assert await whole(await ask()) == b""
    await whole(await ask())
    assert upstream.connections == 1


async def test_the_answer_to_head_has_no_body_whatever_its_length_says(upstream, ask):
    upstream.play(head(200, {"content-length": "5"}))
    response = await ask(b"", method="HEAD")
    assert response.headers["content-length"] == "5"
    assert await response.read() == b""


async def test_http_1_0_without_length_is_read_to_the_end_and_not_kept(upstream, ask, transport):
    upstream.play(b"HTTP/1.0 200 OK\r\n\r\nhel", Send(b"lo"), Fin())
    assert await whole(await ask()) == b"hello"
    assert connections(transport).idle == 0


async def test_http_1_0_with_length_is_not_kept(upstream, ask, transport):
    upstream.play(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert await whole(await ask()) == b"hi"
    assert connections(transport).idle == 0


async def test_a_body_larger_than_the_limit_is_refused_by_read_all(upstream, ask):
    upstream.play(json_reply(200, b"x" * 1000))
    response = await ask()
    with pytest.raises(FrameTooLarge):
        await response.read_all(999)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n00002  \r\nhi\r\n0\r\n\r\n",
    ],
)
async def test_U5_an_answer_in_an_odd_form_of_http_is_read(upstream, ask, answer):
    upstream.play(answer)
    assert await (await ask()).read_all(9) == b"hi"


MALFORMED = {
    "html": b"<html>nope</html>",
    "no version": b"200 OK\r\n\r\n",
    "http/2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "status 700": b"HTTP/1.1 700 High\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "chunked and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi",
    "gzip transfer coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "chunked not last": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nhi",
    "folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
    "switching unannounced": b"HTTP/1.1 101 Switching\r\n\r\n",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
async def test_an_answer_that_is_not_http_is_malformed_and_closes_the_connection_a09(upstream, ask, transport, raw):
    upstream.play(raw)
    with pytest.raises(UpstreamMalformed, match=f"http://127.0.0.1:{upstream.port}"):
        await ask()
    await upstream.peer_gone()
    assert connections(transport).open == 0


@pytest.mark.parametrize("cut", [True, False], ids=["endless", "complete"])
async def test_a_head_beyond_the_limit_is_malformed_a09(upstream, ask, cut):
    fields = {f"x-{number}": "y" * 1000 for number in range(70)}
    upstream.play(head(200, fields)[: -4 if cut else None], Stall())
    with pytest.raises(UpstreamMalformed, match="65536"):
        await ask()
    await upstream.peer_gone()


async def test_endless_informational_answers_are_malformed(upstream, ask):
    upstream.play(Send(head(103, {"x": "y" * 1000}), times=100), Stall())
    with pytest.raises(UpstreamMalformed, match="65536"):
        await ask()


async def test_endless_chunk_extensions_or_trailers_are_malformed(upstream, ask):
    for endless in (b"5;x=", b"0\r\nX-T: "):
        upstream.play(sse_head(), Send(endless), Send(b"y" * 1000, times=100), Stall())
        response = await ask()
        with pytest.raises(UpstreamMalformed, match="65536"):
            await response.read()


async def test_hanging_up_without_an_answer_is_truncation(upstream, ask):
    for last in (Fin(), Rst()):
        upstream.play(last)
        with pytest.raises(UpstreamTruncated):
            await ask()
    assert len(upstream.requests) == 2  # a fresh connection is no reason to ask twice


async def test_an_early_answer_is_delivered_while_the_body_is_still_being_sent_a09(upstream, ask, transport):
    upstream.play(NeverRead(), json_reply(413, {"error": "too large"}), Fin())
    response = await ask(b"x" * 20_000_000)
    assert response.status == 413
    assert await whole(response) == b'{"error": "too large"}'
    await eventually(lambda: connections(transport).open == 0)


async def test_an_early_answer_followed_by_keep_alive_is_not_pooled(upstream, ask, transport):
    upstream.play(NeverRead(), json_reply(413, {"error": "too large"}), Stall())
    response = await ask(b"x" * 20_000_000)
    assert await whole(response) == b'{"error": "too large"}'
    await eventually(lambda: connections(transport).open == 0)


# -- keeping connections -------------------------------------------------------------------------------------------


async def test_the_connection_is_kept_once_the_body_is_read(upstream, ask, transport):
    upstream.always(openai_stream(["a", "b"]))
    for _ in range(5):
        await whole(await ask())
        assert (connections(transport).open, connections(transport).idle, connections(transport).in_use) == (1, 1, 0)
    assert upstream.connections == 1
    assert len(upstream.requests) == 5


async def test_concurrent_requests_have_connections_of_their_own(upstream, ask, transport):
    go = asyncio.Event()
    upstream.play(sse_head(), Wait(go), chunked(b"x"), LAST_CHUNK, times=8)
    responses = [await ask() for _ in range(8)]
    assert connections(transport).in_use == 8
    go.set()
    assert await asyncio.gather(*map(whole, responses)) == [b"x"] * 8
    assert connections(transport).idle == 8


async def test_closing_an_unfinished_answer_reaches_the_upstream_at_once_c01(upstream, ask, transport):
    upstream.play(sse_head(), chunked(b"x"), Stall())
    response = await ask()
    assert await response.read() == b"x"
    response.close()
    response.close()
    await upstream.peer_gone(1)
    assert connections(transport).open == 0
    with pytest.raises(InternalError):
        await response.read()


async def test_closing_a_finished_but_unread_answer_closes_the_connection(upstream, ask, transport):
    upstream.play(OK)
    (await ask()).close()
    await upstream.peer_gone()
    assert connections(transport).open == 0


async def test_connection_close_is_obeyed(upstream, ask, transport):
    upstream.play(json_reply(200, {}, {"connection": "close"}))
    await whole(await ask())
    assert connections(transport).idle == 0


@pytest.mark.parametrize("split", [False, True], ids=["same read", "own read"])
@pytest.mark.parametrize("extra", [head(200, {"content-length": "6"}) + b"secret", b"junk\r\n\r\n", b"data: x\n\n"])
async def test_bytes_after_the_end_never_reach_the_next_request_h10_b09(upstream, ask, extra, split):
    body = b"answer"
    first = head(200, {"content-length": str(len(body))}) + body
    upstream.play(*([first, extra] if split else [first + extra]))
    upstream.play(json_reply(200, b"clean"))
    response = await ask()
    assert await whole(response) == body
    await upstream.peer_gone()
    second = await ask()
    assert (second.status, await whole(second)) == (200, b"clean")
    assert upstream.connections == 2


async def test_bytes_on_an_idle_connection_drop_it(upstream, ask, transport):
    later = asyncio.Event()
    upstream.play(OK, Wait(later), head(200, {"content-length": "6"}) + b"secret")
    upstream.play(OK)
    await whole(await ask())
    later.set()
    await upstream.peer_gone()
    assert connections(transport).open == 0
    assert await whole(await ask()) == b'{"ok": true}'


async def test_eof_on_an_idle_connection_drops_it(upstream, ask, transport):
    upstream.play(OK, Fin())
    await whole(await ask())
    await eventually(lambda: connections(transport).open == 0)


# -- connections that die in the pool (A08) -------------------------------------------------------------------------


@pytest.mark.parametrize("last", [Fin(), Rst()], ids=["fin", "rst"])
async def test_a_reused_connection_that_dies_before_any_byte_is_replaced_once_a08(upstream, ask, last):
    upstream.play(OK)
    upstream.play(last)
    upstream.play(OK)
    await whole(await ask())
    assert await whole(await ask(b"again")) == b'{"ok": true}'
    assert [seen.body for seen in upstream.requests] == [b"{}", b"again", b"again"]
    assert upstream.connections == 2


async def test_each_connection_of_a_request_is_told(upstream, transport):
    told = []

    async def asked() -> int:
        request = Request(
            method="POST", url=f"{upstream.url}/x", headers={}, body=b"{}", connected=lambda: told.append(1)
        )
        await whole(await transport.open(request))
        return len(told)

    upstream.play(OK, times=2)
    upstream.play(Fin())
    upstream.play(OK)
    assert [await asked() for _ in range(3)] == [1, 2, 4], "a new one, a kept one, and one that replaces a dead one"
    with pytest.raises(UpstreamConnect):
        await transport.open(
            Request(method="POST", url="http://127.0.0.1:9", headers={}, connected=lambda: told.append(1))
        )
    assert len(told) == 4


async def test_a_replaced_connection_that_dies_too_is_an_error_a08(upstream, ask):
    upstream.play(OK)
    upstream.play(Fin(), times=2)
    await whole(await ask())
    with pytest.raises(UpstreamTruncated):
        await ask()
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("seen", [b"H", b"HTTP/1.1 200 OK\r\n", head(100)])
async def test_a_request_is_not_repeated_once_a_byte_of_the_answer_came_a08(upstream, ask, seen):
    upstream.play(OK)
    upstream.play(seen, Rst())
    await whole(await ask())
    with pytest.raises(UpstreamTruncated):
        await ask()
    assert len(upstream.requests) == 2


async def test_a_request_the_upstream_has_worked_on_is_not_repeated_a08(upstream, ask, monkeypatch):
    monkeypatch.setattr("proxy.transport.http1.STALE_WITHIN_S", 0.02)
    thought = asyncio.Event()
    upstream.play(OK)
    upstream.play(Wait(thought), Fin())
    await whole(await ask())
    asyncio.get_running_loop().call_later(0.06, thought.set)
    with pytest.raises(UpstreamTruncated):
        await ask()
    assert len(upstream.requests) == 2


async def test_a_malformed_answer_on_a_reused_connection_is_not_repeated(upstream, ask):
    upstream.play(OK)
    upstream.play(b"<html>")
    await whole(await ask())
    with pytest.raises(UpstreamMalformed):
        await ask()
    assert len(upstream.requests) == 2


async def test_no_error_while_the_upstream_keeps_closing_idle_connections_a08(upstream, ask):
    chance = random.Random(8)
    upstream.decide(lambda seen: [*OK, Fin()] if chance.random() < 0.5 else OK)

    async def client(number: int) -> None:
        for turn in range(30):
            assert await whole(await ask(b"%d-%d" % (number, turn))) == b'{"ok": true}'
            await asyncio.sleep(chance.random() * 0.002)

    async with asyncio.TaskGroup() as clients:
        for number in range(10):
            clients.create_task(client(number))
    bodies = [seen.body for seen in upstream.requests]
    assert len(bodies) == len(set(bodies)) == 300  # closed unread: nothing was ever asked twice


# -- leaving ---------------------------------------------------------------------------------------------------------


async def test_cancelling_the_wait_for_the_head_closes_the_connection(upstream, ask, transport):
    upstream.play(Stall())
    task = asyncio.create_task(ask())
    await upstream.received()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.peer_gone(1)
    assert connections(transport).open == 0


async def test_aclose_ends_streams_in_use_and_refuses_new_ones(upstream):
    transport = HttpTransport(proxies={})
    upstream.play(sse_head(), Stall())
    upstream.play(OK)
    request = Request(method="POST", url=upstream.url, headers={})
    response = await transport.open(request)
    idle = await transport.open(request)
    await idle.read_all(100)
    idle.close()
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    await transport.aclose()
    with pytest.raises(ProxyError):
        await reading
    with pytest.raises(InternalError):
        await transport.open(request)
    await upstream.peer_gone(2)
    await transport.aclose()


async def test_aclose_during_a_request_ends_it(upstream):
    transport = HttpTransport(proxies={})
    upstream.play(Stall())
    asking = asyncio.create_task(transport.open(Request(method="POST", url=upstream.url, headers={})))
    await upstream.received()
    await transport.aclose()
    with pytest.raises(ProxyError):
        await asking


async def test_a_connection_made_while_closing_is_closed(upstream):
    upstream.always(Stall())
    for steps in range(1, 12):
        transport = HttpTransport(proxies={})
        asking = asyncio.create_task(transport.open(Request(method="POST", url=upstream.url, headers={})))
        for _ in range(steps):
            await asyncio.sleep(0)
        await transport.aclose()
        with pytest.raises(ProxyError):
            await asking
        await eventually(lambda: upstream.open_connections == 0)
