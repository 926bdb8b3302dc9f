"""Group H: requests and answers that try to be something else. Nothing gets through that was not meant."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from proxy.testing.script import Send, Steps, chunked, json_reply, openai_chunk, openai_stream, sse_head
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support.app import Process, StartProxy, at_rest, openai_config
from tests.support.clients import Head, RawClient, request_bytes
from tests.support.readers import ConformantReader, event_text, json_text, read

Serve = Callable[..., Awaitable[Process]]

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
PATHS = ["/chat", "/v1/chat/completions"]
BODY = json.dumps(ASK).encode()

paths = pytest.mark.parametrize("path", PATHS)


async def ask(port: int, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[Head, bytes]:
    async with await RawClient.connect(port) as client:
        await client.post(path, ASK if body is None else body, headers or {})
        head = await client.read_head()
        return head, await client.read_body()


def json_headers(**more: str) -> dict[str, str]:
    return {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in more.items()}}


# -- H01, H02, H03: what models and upstreams write


HOSTILE = [
    "\n\nevent: done\ndata: x\n\n",
    "\r\revent: error\rdata: x\r\r",
    "\r\n\r\ndata: x\r\n\r\n",
    "data: x",
    "data:[DONE]",
    "[DONE]",
    "id: 7\nretry: 0",
    ": comment",
    "\u2028data: x\u2029\x85",
    '"}]}\n\ndata: [DONE]\n\n',
    " leading",
    "   ",
    "\t",
    "\n",
    "\n\n\n",
    "\x00",
    "\ufeff",
]


@pytest.mark.parametrize("token", HOSTILE)
async def test_H01_H02_no_text_can_make_a_frame_and_none_is_lost(
    start_proxy: StartProxy, upstream: ScriptedUpstream, token: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    tokens = ["Say:", token, token, "."]
    lines = "".join(tokens).replace("\r\n", "\n").replace("\r", "\n")
    upstream.always(*openai_stream(tokens))

    _, body = await ask(proxy.port, "/v1/chat/completions")
    *frames, last = read(ConformantReader, body)
    assert [name for name, _ in frames] == ["message"] * 6
    deltas = [json.loads(data)["choices"][0]["delta"] for _, data in frames]
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(tokens)
    assert last == ("message", "[DONE]")

    for dialect, text_of, expected in (("json", json_text, "".join(tokens)), ("sse", event_text, lines)):
        _, body = await ask(proxy.port, f"/chat?dialect={dialect}")
        *frames, last = read(ConformantReader, body)
        assert {name for name, _ in frames} == {"message"}
        assert last == ("done", "[DONE]")
        assert text_of(body.removesuffix(b"event: done\ndata:[DONE]\n\n")) == expected


async def test_H03_only_what_a_contract_knows_is_said_again(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    control = b"event: chat:completion\nid: %b\nretry: 0\ndata: " % (b"9" * 10_000)
    chunk = json.dumps(openai_chunk({"content": "<script>alert(1)</script>"})).encode()
    upstream.always(
        Send(sse_head(set_cookie="stolen=1", access_control_allow_origin="*", x_evil="1", location="http://evil.test")),
        Send(chunked(control + chunk + b"\n\n")),
        openai_stream([])[2:],
    )
    for path in PATHS:
        head, body = await ask(proxy.port, path)
        events = read(ConformantReader, body)
        assert {name for name, _ in events} <= {"message", "done"}
        assert b"retry:" not in body
        assert b"9999" not in body
        assert not {"set-cookie", "access-control-allow-origin", "x-evil", "location"} & set(head.headers)


# -- H04: requests that two readers may read differently


def post(*lines: bytes, body: bytes = BODY, length: bool = False) -> bytes:
    fields = [b"Host: x", b"Content-Type: application/json", *lines]
    if length:
        fields.append(b"Content-Length: %d" % len(body))
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body


SIZE = b"%d" % len(BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
CL = b"Content-Length: " + SIZE
TE = b"Transfer-Encoding: chunked"

SMUGGLING: dict[str, bytes] = {
    "length and chunks": post(CL, TE, body=CHUNKS),
    "chunks and length": post(TE, CL, body=CHUNKS),
    "two lengths": post(CL, b"Content-Length: 5"),
    "length as a list": post(b"Content-Length: " + SIZE + b", " + SIZE),
    "plus sign": post(b"Content-Length: +" + SIZE),
    "minus sign": post(b"Content-Length: -1"),
    "hexadecimal length": post(b"Content-Length: 0x10"),
    "length with underscore": post(b"Content-Length: 1_0"),
    "length in other digits": post("Content-Length: ٥".encode()),
    "length that is none": post(b"Content-Length: ten"),
    "empty length": post(b"Content-Length:"),
    "unknown coding": post(b"Transfer-Encoding: xchunked", body=CHUNKS),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=CHUNKS),
    "two codings": post(TE, TE, body=CHUNKS),
    "vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS),
    "quoted coding": post(b'Transfer-Encoding: "chunked"', body=CHUNKS),
    "blank before the colon": post(b"Transfer-Encoding : chunked", body=CHUNKS),
    "blank before the name": post(b" Transfer-Encoding: chunked", body=CHUNKS),
    "chunk size 0x": post(TE, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size +": post(TE, body=b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size -": post(TE, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size _": post(TE, body=b"0_5\r\nhello\r\n0\r\n\r\n"),
    "chunk size of nothing": post(TE, body=b"\r\nhello\r\n0\r\n\r\n"),
    "chunk longer than its size": post(TE, body=b"2\r\nhello\r\n0\r\n\r\n"),
    "bare LF after a chunk size": post(TE, body=b"5\nhello\r\n0\r\n\r\n"),
    "bare LF in a chunk extension": post(TE, body=b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "bare LF after a chunk": post(TE, body=b"5\r\nhello\n0\r\n\r\n"),
    "bare LF after a line": post(b"X: y\nZ: w", length=True),
    "bare CR in a value": post(b"X: a\rContent-Length: 5", length=True),
    "two hosts": post(b"Host: y", length=True),
    "folded header": post(b"X: a\r\n b", length=True),
    "NUL in a value": post(b"X: a\x00b", length=True),
    "no colon": post(b"Xyz", length=True),
    "blank in a name": post(b"X y: z", length=True),
    "empty name": post(b": z", length=True),
    "header of 9 kB": post(b"X: " + b"y" * 9000, length=True),
    "200 headers": post(*(b"X-%d: y" % n for n in range(200)), length=True),
    "no such version": b"POST /chat HTTP/9.9\r\nHost: x\r\n\r\n",
    "version of three parts": b"POST /chat HTTP/1.1.1\r\nHost: x\r\n\r\n",
    "no version": b"POST /chat\r\nHost: x\r\n\r\n",
    "blank in the path": b"POST /chat x HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2 by force": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
NEXT = b"GET /healthz?smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


async def verdict(port: int, request: bytes) -> tuple[int, int]:
    """The first status, and how many answers came before the connection was closed."""
    async with await RawClient.connect(port) as client:
        await client.send(request + NEXT)
        answers = b""
        async with asyncio.timeout(60):
            while piece := await client.read_some(65536):
                answers += piece
        return int(answers[9:12] or 0), answers.count(b"HTTP/")


@pytest.mark.parametrize("name", SMUGGLING)
async def test_H04_a_request_that_may_be_read_in_two_ways_is_refused_and_ends_its_connection(
    start_proxy: StartProxy, upstream: ScriptedUpstream, name: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    assert await verdict(proxy.port, SMUGGLING[name]) == (400, 1)
    assert upstream.requests == []


async def test_H04_the_parser_in_python_gives_the_same_verdicts(serve: Serve, upstream: ScriptedUpstream) -> None:
    proxy = await serve(openai_config(upstream.url), env={"AIOHTTP_NO_EXTENSIONS": "1"})
    upstream.always(*openai_stream(["hi"]))
    verdicts = await asyncio.gather(*(verdict(proxy.port, request) for request in SMUGGLING.values()))
    assert {name: got for name, got in zip(SMUGGLING, verdicts, strict=True) if got != (400, 1)} == {}
    assert upstream.requests == []
    assert (await ask(proxy.port, "/chat"))[0].status == 200
    assert not [line for line in proxy.logged if "raceback" in line]


# -- H05: headers


async def test_H05_the_headers_that_leave_are_ours_and_no_others(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    theirs = {
        "Authorization": "Bearer client-key-0123456789abcdef",
        "X-Api-Key": "client-key-0123456789abcdef",
        "Api-Key": "client-key-0123456789abcdef",
        "Proxy-Authorization": "Basic Y2xpZW50LWtleQ==",
        "Cookie": "session=client-key",
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Host": "evil.test",
        "Forwarded": "for=6.6.6.6",
        "Connection": "keep-alive, X-Foo",
        "X-Foo": "hop",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Accept-Encoding": "gzip, br",
        "Accept-Language": "tlh",
        "User-Agent": "spy/1.0",
        "Referer": "http://secret.test/",
        "OpenAI-Organization": "org-theirs",
        "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-Request-Id": "client.chose_this-1",  # goes no further: some servers take nothing but a UUID
    }
    for path in PATHS:
        await ask(proxy.port, path, headers=theirs)
    for seen in upstream.requests:
        assert set(seen.headers) <= {
            "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent",
        }  # fmt: skip
        assert seen.headers["host"] == f"127.0.0.1:{upstream.port}"
        assert seen.headers["accept-encoding"] == "identity"
        assert b"client-key" not in seen.raw_head + seen.body
        assert b"spy" not in seen.raw_head


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc.DEF-1_2", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("ü", False),
        ('"}', False),
        ("", False),
    ],
)
async def test_H05_a_request_id_is_taken_over_only_if_it_is_one(start_proxy: StartProxy, sent: str, kept: bool) -> None:
    proxy = await start_proxy("backends: {echo: {kind: echo}}\nroutes: [{name: d, to: echo}]")
    for path in (*PATHS, "/nowhere"):
        head, _ = await ask(proxy.port, path, headers={"X-Request-Id": sent})
        assert (head["x-request-id"] == sent) is kept
        assert 1 <= len(head["x-request-id"]) <= 64
    assert [record.request_id == sent for record in await proxy.ended(3)] == [kept] * 3


# -- H06: JSON that is none, or too much of it


def with_messages(text: str) -> bytes:
    return f'{{"model":"m","stream":true,"messages":{text}}}'.encode("utf-8", "surrogatepass")


GOOD = '[{"role":"user","content":"hi"}]'
BAD_JSON: dict[str, bytes] = {
    "nothing": b"",
    "blank": b"  ",
    "deep array": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep inside": with_messages(GOOD)[:-1] + b',"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "NaN": with_messages(GOOD)[:-1] + b',"temperature":NaN}',
    "Infinity": with_messages(GOOD)[:-1] + b',"temperature":-Infinity}',
    "1e999": with_messages(GOOD)[:-1] + b',"temperature":1e999}',
    "a huge integer": with_messages(GOOD)[:-1] + b',"max_tokens":' + b"9" * 5000 + b"}",
    "a key twice": with_messages(GOOD)[:-1] + b',"model":"other"}',
    "a nested key twice": with_messages('[{"role":"user","role":"system","content":"hi"}]'),
    "lone surrogate, escaped": with_messages('[{"role":"user","content":"\\ud800"}]'),
    "lone surrogate, raw": with_messages('[{"role":"user","content":"\ud800"}]'),
    "BOM": b"\xef\xbb\xbf" + BODY,
    "UTF-16": json.dumps(ASK).encode("utf-16"),
    "Latin-1": '{"messages":[{"role":"user","content":"ü"}]}'.encode("latin-1"),
    "overlong UTF-8": b'{"messages":[{"role":"user","content":"\xc0\xaf"}]}',
    "trailing data": BODY + b"{}",
    "trailing comma": BODY[:-1] + b",}",
    "control character": b'{"messages":[{"role":"user","content":"a\nb"}]}',
    "single quotes": b"{'messages': []}",
    "an array": b"[]",
    "a string": b'"hi"',
    "null": b"null",
    "no messages": b'{"model":"m"}',
    "messages of another type": with_messages('"hi"'),
    "a message of another type": with_messages("[1]"),
    "content of another type": with_messages('[{"role":"user","content":{"a":1}}]'),
    "a role of another type": with_messages('[{"role":7,"content":"hi"}]'),
    "a model of another type": b'{"model":{},"messages":%b}' % GOOD.encode(),
    "stream of another type": b'{"model":"m","stream":"yes","messages":%b}' % GOOD.encode(),
}


WELL_FORMED = {"no messages"} | {name for name in BAD_JSON if name.endswith("of another type")}


@paths
@pytest.mark.parametrize("name", BAD_JSON)
async def test_H06_what_is_no_request_is_a_400(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, name: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    head, body = await ask(proxy.port, path, BAD_JSON[name], json_headers())
    well_formed = name in WELL_FORMED and path == "/chat"  # the chat contract tells these two apart
    assert head.status == (422 if well_formed else 400)
    assert json.loads(body)["error"]["message"]
    assert upstream.requests == []
    assert (await proxy.ended())[0].end == "rejected"


# -- H07: bodies


@paths
async def test_H07_a_body_over_the_limit_is_a_413_by_its_length_or_by_its_chunks(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{limits: {body_mb: 0.1}}"))
    upstream.always(*openai_stream(["hi"]))
    big = json.dumps({**ASK, "user": "x" * 100_000}).encode()
    for headers, body in (
        (json_headers(), big),
        (json_headers(Transfer_Encoding="chunked"), b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)),
    ):
        head, told = await ask(proxy.port, path, body, headers)
        assert (head.status, head["connection"]) == (413, "close")
        assert b"request_too_large" in told
    fits = json.dumps({**ASK, "user": "x" * 99_000}).encode()
    assert (await ask(proxy.port, path, fits, json_headers()))[0].status == 200
    assert len(upstream.requests) == 1


async def test_H07_an_endless_body_is_cut_off_at_the_limit(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(
        "server: {limits: {body_mb: 1}}\nbackends: {echo: {kind: echo}}\nroutes: [{name: d, to: echo}]"
    )
    async with await RawClient.connect(proxy.port) as client:
        await client.send(request_bytes("POST", "/chat", b"", json_headers(Transfer_Encoding="chunked")))
        sending = asyncio.create_task(send_for_ever(client, b"10000\r\n" + b"x" * 65536 + b"\r\n"))
        assert (await client.read_head()).status == 413
        assert await client.closed() in {"FIN", "RST"}
        sending.cancel()
        await asyncio.wait([sending])


async def send_for_ever(client: RawClient, data: bytes) -> None:
    try:
        while True:
            await client.send(data)
            await asyncio.sleep(0)
    except OSError:
        return


FORMS: dict[str, dict[str, str]] = {
    "gzip": json_headers(Content_Encoding="gzip"),
    "deflate": json_headers(Content_Encoding="deflate"),
    "br": json_headers(Content_Encoding="br"),
    "twice": json_headers(Content_Encoding="gzip, gzip"),
    "multipart": {"Content-Type": "multipart/form-data; boundary=x"},
    "text": {"Content-Type": "text/plain"},
    "text in disguise": {"Content-Type": "text/plain; application/json"},
    "XML": {"Content-Type": "application/xml"},
    "a page's form": {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://evil.test"},
    "a page's form without Origin": {
        "Content-Type": "application/x-www-form-urlencoded",
        "Sec-Fetch-Site": "cross-site",
    },
    "a page's untyped blob": {"Origin": "null"},
}


@paths
@pytest.mark.parametrize("form", FORMS)
async def test_H07_what_is_not_plain_json_is_a_415(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, form: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    bomb = gzip.compress(b"x" * 1_000_000)
    head, body = await ask(proxy.port, path, bomb if "Content-Encoding" in FORMS[form] else BODY, FORMS[form])
    assert head.status == 415
    assert b"unsupported_media_type" in body
    assert not [name for name in head.headers if name.startswith("access-control")]
    assert upstream.requests == []


@paths
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "curl/8"},  # curl -d
        {},
        {"Content-Type": "Application/JSON; charset=utf-8"},
        {"Content-Type": "application/vnd.api+json"},
        {"Content-Type": "application/json", "Content-Encoding": "identity"},
    ],
)
async def test_H07_what_is_json_by_any_name_is_read(
    start_proxy: StartProxy, path: str, headers: dict[str, str]
) -> None:
    proxy = await start_proxy("backends: {echo: {kind: echo}}\nroutes: [{name: d, to: echo}]")
    head, body = await ask(proxy.port, path, BODY, headers)
    assert head.status == 200
    assert b"hi" in body


# -- H08: the destination comes from the config


async def test_H08_nothing_in_a_request_chooses_where_it_goes(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as evil:
        proxy = await start_proxy(openai_config(upstream.url))
        upstream.always(*openai_stream(["hi"]))
        url, host = evil.url, f"127.0.0.1:{evil.port}"
        names = ["api_base", "base_url", "api_url", "endpoint", "url", "host", "proxy", "custom_host", "azure_endpoint"]
        lies: dict[str, Any] = dict.fromkeys(names, url)
        lies |= {
            "api_key": "k",
            "organization": "o",
            "mock_response": "x",
            "fallbacks": [{"model": "x", "api_base": url}],
        }
        nested = {"extra_body": lies, "litellm_params": lies, "metadata": {"api_base": url}, "router": [lies]}
        pictures = [{"type": "image_url", "image_url": {"url": f"http://{host}/x.png"}}, {"type": "text", "text": "hi"}]
        bodies = [
            {**ASK, **lies},
            {**ASK, **nested},
            {**ASK, "model": f"http://{host}/v1"},
            {**ASK, "model": f"openai/@{host}"},
            {**ASK, "messages": [{"role": "user", "content": pictures}]},
            {**ASK, "tools": [{"type": "mcp", "server_url": url}]},
        ]
        headers = {
            "X-Portkey-Custom-Host": url, "X-Base-Url": url, "OpenAI-Base-Url": url,
            "X-Forwarded-Host": host, "Host": host, "X-Original-Url": "/metrics", "X-Rewrite-Url": "/metrics",
        }  # fmt: skip
        for path in PATHS:
            for body in bodies:
                await ask(proxy.port, f"{path}?api_base={url}&base_url={url}", body, headers)
        await ask(proxy.port, f"http://{host}/v1/chat/completions", ASK)  # as to a forward proxy
        async with await RawClient.connect(proxy.port) as client:
            await client.request("CONNECT", host)
            assert (await client.read_head()).status in {400, 404, 405}
        assert evil.connections == 0
        assert upstream.requests
        assert {seen.path for seen in upstream.requests} == {"/v1/chat/completions"}
        assert {seen.json()["model"] for seen in upstream.requests} == {"scripted-1"}


# -- H10: what belongs to one client


async def test_H10_no_answer_holds_anything_of_another_request(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    """Nonces from many clients, every third of whom leaves, over few pooled connections."""
    dice = random.Random(3)
    proxy = await start_proxy(openai_config(upstream.url))

    def answer(seen: Seen) -> Steps:
        nonce = seen.json()["messages"][0]["content"]
        steps = openai_stream([f"<{nonce}>"] * 8, gap_s=0.001, set_cookie=f"who={nonce}")
        return steps if seen.json()["stream"] else json_reply(200, whole(nonce))

    def whole(nonce: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": f"<{nonce}>" * 8}
        return {"id": nonce, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

    upstream.decide(answer)
    gate = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        nonce = f"nonce-{number:05d}"
        body = {**ASK, "stream": number % 4 > 0, "messages": [{"role": "user", "content": nonce}]}
        async with gate, await RawClient.connect(proxy.port) as client:
            await client.post(PATHS[number % 2], body)
            if number % 3 == 0:
                await asyncio.sleep(dice.random() * 0.02)
                client.rst()
                return
            head = await client.read_head()
            text = (await client.read_body()).decode()
            assert text.count(nonce) >= 8
            assert text.replace(nonce, "").count("nonce-") == 0
            assert "set-cookie" not in head.headers

    await asyncio.gather(*(one(number) for number in range(600)))
    assert not [seen for seen in upstream.requests if "cookie" in seen.headers]
    await at_rest(proxy.app)
    records = await proxy.ended(400)  # on a busy machine some of the others left before their request was read
    assert {record.end for record in records} == {"done", "client_gone"}


async def test_H10_answers_are_for_nobody_to_store(start_proxy: StartProxy) -> None:
    proxy = await start_proxy("backends: {echo: {kind: echo}}\nroutes: [{name: d, to: echo}]")
    for path, body in (
        ("/v1/chat/completions", {**ASK, "stream": False}),
        ("/chat", {**ASK, "stream": False}),
        ("/chat", b"rubbish"),
        ("/nowhere", ASK),
    ):
        head, _ = await ask(proxy.port, path, body)
        assert head["cache-control"] == "no-store"
    for path in PATHS:
        head, _ = await ask(proxy.port, path)
        assert head["cache-control"] == "no-cache, no-transform"
