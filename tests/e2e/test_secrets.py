"""Group I: canary keys in the config, every failure that could tell them, and nobody who learns them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from proxy.app import App
from proxy.testing.script import (
    Fin,
    Rst,
    Send,
    Steps,
    chunked,
    event,
    head,
    json_reply,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream, Seen
from tests.support.app import Process, StartProxy
from tests.support.clients import RawClient
from tests.support.ports import free_port

Serve = Callable[..., Awaitable[Process]]

UPSTREAM_KEY = "sk-canary-upstream-0123456789abcdef"
HEADER = "canary-in-a-header-0123456789"
QUERY = "canary-in-a-query-0123456789"
CLIENT_KEY = "cp-canary-client-0123456789abcdefghijk"
CANARIES = (UPSTREAM_KEY, HEADER, QUERY, CLIENT_KEY)
PROMPT = "canary in a prompt"
ECHOED = f"Incorrect API key: {UPSTREAM_KEY} (Bearer {UPSTREAM_KEY}, x-secret: {HEADER}, sig={QUERY})"

ERROR = {"error": {"message": ECHOED, "type": f"type {UPSTREAM_KEY}", "code": UPSTREAM_KEY, "param": HEADER}}
BEGUN = openai_stream(["One"])[:3]

FAULTS: dict[str, list[Steps]] = {
    "401": [json_reply(401, ERROR)],
    "403 in plain text": [json_reply(403, ECHOED.encode(), {"content-type": "text/plain"})],
    "400": [json_reply(400, ERROR)],
    "404": [json_reply(404, ERROR)],
    "429": [json_reply(429, ERROR, {"retry-after": "1", "x-echo": UPSTREAM_KEY})],
    "500 as HTML": [json_reply(500, f"<pre>{ECHOED}</pre>".encode(), {"content-type": "text/html"})],
    "200 as HTML": [json_reply(200, f"<pre>{ECHOED}</pre>".encode(), {"content-type": "text/html"})],
    "a status of its own": [head(599, {"content-length": "0"}), Fin()],
    "an odd error": [json_reply(502, {"detail": ECHOED, "error": ECHOED})],
    "redirect": [head(302, {"location": f"http://127.0.0.1:9/?key={UPSTREAM_KEY}", "content-length": "0"})],
    "no HTTP": [f"{ECHOED}\r\n\r\n".encode(), Fin()],
    "an odd header": [f"HTTP/1.1 200 OK\r\n{ECHOED}\r\n\r\n".encode(), Fin()],
    "error as first event": [Send(sse_head()), Send(event(ERROR))],
    "error in the middle": [BEGUN, Send(event(ERROR))],
    "malformed first event": [Send(sse_head()), Send(event(ECHOED))],
    "malformed in the middle": [BEGUN, Send(event(f'{{"choices": "{ECHOED}"'))],
    "malformed chunk": [BEGUN, Send(ECHOED.encode() + b"\r\n")],
    "cut": [BEGUN, Send(chunked(f"data: {ECHOED}".encode())), Rst()],
    "reset": [Rst()],
}


def config(upstream: ScriptedUpstream, closed_port: int) -> str:
    common = f'kind: openai-compatible, api_key: "{UPSTREAM_KEY}", headers: {{x-secret: "{HEADER}"}}, query: {{sig: "{QUERY}"}}, discover: "off"'
    return f"""
        server: {{breaker: {{failures: 0}}, log: {{level: debug, format: json}}}}
        auth: {{keys: [{{name: web, key: "{CLIENT_KEY}"}}]}}
        backends:
          far: {{{common}, base_url: "{upstream.url}"}}
          closed: {{{common}, base_url: "http://127.0.0.1:{closed_port}/v1"}}
          plain: {{{common}, base_url: "https://127.0.0.1:{upstream.port}/v1"}}
          nowhere: {{{common}, base_url: "http://canary.invalid/v1"}}
        routes:
          - {{name: closed, match: {{model: closed}}, to: closed/m}}
          - {{name: plain, match: {{model: plain}}, to: plain/m, timeouts: {{connect_s: 0.3}}}}
          - {{name: nowhere, match: {{model: nowhere}}, to: nowhere/m, timeouts: {{connect_s: 1}}}}
          - {{name: default, to: far}}
    """


async def everything_said(port: int, model: str, key: str = CLIENT_KEY) -> bytes:
    """All bytes that a client gets for a model, in several contracts, streamed and whole."""

    async def one(path: str, stream: bool) -> bytes:
        async with await RawClient.connect(port) as client:
            messages = [{"role": "user", "content": PROMPT}]
            body = {"model": model, "max_tokens": 100, "stream": stream, "messages": messages}
            await client.post(path, body, {"Authorization": f"Bearer {key}"})
            answer = await client.read_head()
            return answer.raw + await client.read_body()

    paths = ("/chat", "/chat?dialect=json", "/v1/chat/completions", "/v1/messages", "/nowhere")
    return b"".join(await asyncio.gather(*(one(path, stream) for path in paths for stream in (True, False))))


async def page(port: int, path: str) -> bytes:
    async with await RawClient.connect(port) as client:
        await client.get(path, {"Authorization": f"Bearer {CLIENT_KEY}"})
        await client.read_head()
        return await client.read_body()


def assert_no_canary(where: str, text: bytes | str) -> None:
    data = text.encode() if isinstance(text, str) else text
    for canary in (*CANARIES, PROMPT):
        assert canary.encode() not in data, f"{canary} in {where}"


async def test_I01_I02_no_failure_tells_a_key_or_a_prompt_to_anyone(serve: Serve, upstream: ScriptedUpstream) -> None:
    def answer(seen: Seen) -> list[Steps]:
        assert UPSTREAM_KEY in seen.headers["authorization"], "the upstream itself is to have its key"
        return FAULTS[seen.json()["model"]]

    upstream.decide(answer)
    closed = free_port()
    proxy = await serve(config(upstream, closed))
    for model in (*FAULTS, "closed", "plain", "nowhere"):
        said = await everything_said(proxy.port, model)
        assert_no_canary(f"what clients are told of {model!r}", said)
        for where in (f":{upstream.port}", f":{closed}", "canary.invalid"):
            assert where.encode() not in said, f"where the upstream is, in what clients are told of {model!r}"
    assert_no_canary("refusals", await everything_said(proxy.port, "m", key=CLIENT_KEY + "x"))
    for path in ("/metrics", "/status"):
        assert_no_canary(path, await page(proxy.port, path))
    proxy.rewrite(config(upstream, closed).replace("kind: openai-compatible", "kind: openai-compatibel"))
    async with asyncio.timeout(60):
        while not json.loads(await page(proxy.port, "/status"))["config"]["rejected"]:
            await asyncio.sleep(0.05)
    assert_no_canary("/status of a rejected config", await page(proxy.port, "/status"))
    assert upstream.requests
    proxy.process.terminate()
    assert await proxy.exit_code() == 0
    lines = "".join(proxy.logged)
    assert lines.count('"request_end"') >= 10 * len(FAULTS)
    assert_no_canary("the log", lines)
    assert f"http://127.0.0.1:{closed}" in lines  # who runs it has to know
    assert_no_canary("what is printed", proxy.printed)
    assert "Traceback" not in lines


async def test_I01_nothing_in_the_house_shows_a_key_when_it_is_printed(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    app: App = (await start_proxy(config(upstream, free_port()))).app
    snapshot = app.snapshot
    seen = [app, snapshot, snapshot.config, snapshot.config.settings, snapshot.config.backends]
    seen += [snapshot.keys, snapshot.router, snapshot.pipeline, app.redactor, app.transport]
    for backend in snapshot.backends.values():
        seen += [backend, vars(backend)]
    for thing in seen:
        assert_no_canary(type(thing).__name__, repr(thing) + str(thing))


async def test_I02_keys_from_the_environment_are_kept_as_well(serve: Serve, upstream: ScriptedUpstream) -> None:
    text = config(upstream, 9).replace(UPSTREAM_KEY, "${CANARY}")
    proxy = await serve(text, env={"CANARY": UPSTREAM_KEY})
    upstream.always(*json_reply(401, ERROR))
    assert_no_canary("an answer", await everything_said(proxy.port, "m"))
    assert upstream.requests[0].headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
