"""The project's own JavaScript client, in Node 20 and 24 and in Chromium, against the running proxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import os
import random
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from proxy.testing.script import Fin, Sleep, event, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.clients.answering import answer_by_number, asks, heard_by_events, heard_in_json, token_lists
from tests.clients.browser import chromium
from tests.clients.pages import serving_pages
from tests.support import js_client, node
from tests.support.answers import for_the_hook
from tests.support.app import Process, StartProxy, openai_config

HERE = Path(__file__).parent
DIALECTS = {"json": heard_in_json, "sse": heard_by_events, "both": heard_by_events, "text": for_the_hook}

pytestmark = pytest.mark.browser

Asked = dict[str, Any]
Serve = Callable[..., Awaitable[Process]]


async def in_node(asked: list[Asked], *, program: str = "") -> list[dict[str, Any]]:
    built = await asyncio.to_thread(js_client.client)
    command = [program or node.node(), HERE / "js_client.mjs", built / "dist" / "index.js"]
    done = await asyncio.to_thread(
        subprocess.run, command, input=json.dumps(asked), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def config(upstream: ScriptedUpstream, origin: str = "") -> str:
    cors = f", cors: {{origins: ['{origin}']}}" if origin else ""
    return openai_config(upstream.url, server=f"{{log: {{level: error}}{cors}}}")


# -- whole answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["20", pytest.param("24", marks=pytest.mark.clients)])
async def test_every_answer_arrives_exactly_in_each_dialect(
    serve: Serve, upstream: ScriptedUpstream, runtime: str
) -> None:
    program = await asyncio.to_thread(node.packaged_node, "newest") if runtime == "24" else ""
    answer_by_number(upstream)
    proxy = await serve(config(upstream))
    asked = [{**ask, "dialect": dialect} for dialect in DIALECTS for ask in asks("", f"{proxy.url}/api/chat", 64)]
    answers = await in_node(asked, program=program)
    assert [answer["error"] for answer in answers if answer["error"]] == []
    for ask, answer in zip(asked, answers, strict=True):
        heard = DIALECTS[ask["dialect"]]("".join(token_lists()[int(ask["question"])]))
        assert answer["text"] == heard, ask


@pytest.mark.clients
async def test_every_answer_arrives_exactly_in_chromium(serve: Serve, upstream: ScriptedUpstream) -> None:
    built = await asyncio.to_thread(js_client.client)
    application = web.Application()
    application.router.add_static("/client", built / "dist")
    application.router.add_static("/clients", HERE)
    answer_by_number(upstream)
    async with serving_pages(application) as origin, chromium() as page:
        proxy = await serve(config(upstream, origin))
        await page.open(f"{origin}/clients/js_client.html")
        asked = [{**ask, "dialect": dialect} for dialect in DIALECTS for ask in asks("", f"{proxy.url}/chat", 128)]
        for ask, answer in zip(asked, await page.run(f"askAll({json.dumps(asked)})"), strict=True):
            heard = DIALECTS[ask["dialect"]]("".join(token_lists()[int(ask["question"])]))
            assert (answer["error"], answer["text"]) == (None, heard)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_cut_anywhere_reads_the_same(
    start_proxy: StartProxy, upstream: ScriptedUpstream, dialect: str
) -> None:
    """Pieces of one byte cut every character and every frame's end; others cut at random."""
    tokens = ["Grüße", " 😀", "\n\n", "\ufeffevent: done", "\ndata: [DO", "NE]\n\n", " e\u0301nd"]
    upstream.always(*openai_stream(tokens))
    proxy = await start_proxy(config(upstream))
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        body = b'{"messages":[{"role":"user","content":"hi"}]}'
        writer.write(b"POST /chat?dialect=%s HTTP/1.0\r\nContent-Type: application/json\r\n" % dialect.encode())
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        wire = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
    dice = random.Random(7)
    sizes = [1, 2, 3, 7, *(dice.randint(4, 80) for _ in range(8))]
    encoded = base64.b64encode(wire).decode()
    asked = [{"url": "-", "dialect": dialect, "wire": {"base64": encoded, "size": size}} for size in sizes]
    answers = await in_node(asked)
    assert {answer["text"] for answer in answers} == {DIALECTS[dialect]("".join(tokens))}
    assert [answer["error"] for answer in answers if answer["error"]] == []
    cut_short = [
        {"url": "-", "dialect": dialect, "wire": {"base64": base64.b64encode(wire[:at]).decode(), "size": 9}}
        for at in range(len(wire) - 1)
    ]
    for answer in await in_node(cut_short):
        assert answer["error"]["code"] == "cut", "without its last byte, no answer is whole"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b'400 Bad\r\n\r\n{"error": "messages are required"}', ("messages are required", "refused", False, None)),
        (b'400 Bad\r\n\r\n{"error": null}', ("The chat server answered with status 400.", "refused", False, None)),
        (b"429 Slow\r\nRetry-After: 7\r\n\r\nslow", ("The chat server answered with status 429.", "refused", True, 7)),
        (b"502 Bad\r\n\r\n<html>", ("The chat server answered with status 502.", "refused", True, None)),
        (b"500 Oh\r\n\r\n<html>", ("The chat server answered with status 500.", "refused", False, None)),
        (b'503 Oh\r\n\r\n{"error": {"message": "no", "retryable": false}}', ("no", "refused", False, None)),
        (b"200 OK\r\n\r\n<html>", ("The connection ended before the answer was whole.", "cut", True, None)),
        (
            b"200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"data:{}\n\n", mtime=0)[:-8],
            ("The connection ended before the answer was whole.", "cut", True, None),
        ),
        (b"", ("The chat server cannot be reached.", "unreachable", True, None)),
    ],
)
async def test_an_error_of_another_server_has_its_words_and_whether_to_try_again(
    answer: bytes, error: tuple[object, ...]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'"hi"}]}')
        if answer:
            writer.write(b"HTTP/1.1 " + answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (told,) = await in_node([{"url": f"http://127.0.0.1:{port}/chat", "question": "hi"}])
    assert told["error"]["typed"]
    assert tuple(told["error"].get(name) for name in ("message", "code", "retryable", "retryAfter")) == error


RESUME = "server: {log: {level: error}, resume: {grace_s: 20}, heartbeat_s: 0.05}"


@contextlib.asynccontextmanager
async def cutting(port: int, dice: random.Random, most: int = 400) -> AsyncIterator[str]:
    """A way to the proxy on which each connection is cut after a few hundred bytes; gives its address."""

    carrying: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        carrying[asyncio.current_task()] = up_writer
        asking = asyncio.create_task(_carried(reader, up_writer, 1 << 30))
        await _carried(up_reader, writer, 700 + dice.randint(1, most))  # the head alone has some 600
        asking.cancel()
        for each in (writer, up_writer):
            each.transport.abort()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        under_way = [task for task in carrying if task is not None and not task.done()]
        for up_writer in carrying.values():  # of clients that are gone, and whose connection the proxy keeps
            up_writer.transport.abort()
        if under_way:
            await asyncio.wait(under_way)


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
    with contextlib.suppress(ConnectionError):
        while left > 0 and (data := await reader.read(65536)):
            writer.write(data[:left])
            await writer.drain()
            left -= len(data)


def kept(upstream: ScriptedUpstream) -> str:
    return f"""
        {RESUME}
        backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
        routes: [{{name: default, to: far/scripted-1}}]
    """


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_goes_on_after_each_cut_by_itself(
    start_proxy: StartProxy, upstream: ScriptedUpstream, dialect: str
) -> None:
    """However often its connection is cut: the text is exact, and the upstream is asked once."""
    tokens = [f"w{number}\n\n é" for number in range(60)]
    upstream.always(*openai_stream(tokens, gap_s=0.002))
    proxy = await start_proxy(kept(upstream))
    async with cutting(proxy.port, random.Random(7)) as address:
        asked = [{"url": f"{address}/chat", "question": "hi", "dialect": dialect}]
        (answer,) = await in_node(asked)
        (not_resumed,) = await in_node([{**asked[0], "resume": False}])
    assert (answer["error"], answer["text"]) == (None, DIALECTS[dialect]("".join(tokens)))
    assert not_resumed["error"]["code"] == "cut"
    assert len(upstream.requests) == 2


async def test_an_answer_that_is_stopped_is_stopped_although_it_could_be_resumed(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(openai_stream(["One", " two"])[:3], Sleep(60))
    proxy = await start_proxy(kept(upstream))
    asked = [{"url": f"{proxy.url}/chat", "question": "hi", "how": how} for how in ("stop", "leave")]
    assert [answer["text"] for answer in await in_node(asked)] == ["One", "One"]
    assert {record.end for record in await proxy.ended(2)} == {"stopped"}


async def test_an_answer_that_cannot_be_resumed_is_cut(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.always(openai_stream(["One", " two"])[:3], Sleep(1), Fin())
    proxy = await start_proxy(kept(upstream))
    async with cutting(proxy.port, random.Random(1), 1) as address:
        (forgotten,) = await in_node([{"url": f"{address}/chat", "question": "hi", "resume": "/nowhere/"}])
    assert (forgotten["text"], forgotten["error"]["code"]) == ("One", "cut")


async def test_notices_come_as_parts(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy("""
        server: {log: {level: error}}
        backends: {echo: {kind: echo}}
        routes: [{name: default, to: echo}]
    """)
    body = {"temperature": 0.5}
    asked = [{"url": f"{proxy.url}/chat", "question": "hi", "dialect": each, "body": body} for each in ("json", "sse")]
    in_json, in_events = await in_node(asked)
    assert (in_json["text"], in_events["text"]) == ("hi", "hi")
    if in_json["notices"]:
        assert in_json["notices"][0]["param"] == "temperature"
    assert [one["message"] for one in in_json["notices"]] == [one["message"] for one in in_events["notices"]]


async def test_a_server_that_knows_no_dialect_is_read_as_the_hook_reads_it() -> None:
    """The route that the chat hook was made for: bare text, whatever the client asked for."""
    tokens = ["Hello,", " world", " {}", " 5", "5", "null", '"quoted"']
    wire = "".join(f"data:{token}\n\n" for token in tokens) + "event: done\ndata:[DONE]\n\n"
    broken = "data:Half\n\nevent: error\ndata:The model is away.\n\n"
    asked = [
        {"url": "-", "wire": {"base64": base64.b64encode(sent.encode()).decode(), "size": 5}} for sent in (wire, broken)
    ]
    whole, error = await in_node(asked)
    assert (whole["error"], whole["text"]) == (None, "".join(tokens))
    assert (error["text"], error["error"]["message"]) == ("Half", "The model is away.")


# -- other ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_that_breaks_off_is_an_error(
    start_proxy: StartProxy, upstream: ScriptedUpstream, dialect: str
) -> None:
    upstream.always(openai_stream(["One", " two"])[:4], Sleep(0.05), Fin())
    proxy = await start_proxy(config(upstream))
    (answer,) = await in_node([{"url": f"{proxy.url}/chat", "question": "hi", "dialect": dialect}])
    assert answer["text"].startswith("One")
    error = answer["error"]
    assert (error["typed"], error["name"]) == (True, "ChatError")
    if dialect == "json":
        assert error["code"] == "upstream_truncated"
    assert error["requestId"] == (await proxy.ended())[0].request_id


async def test_an_answer_that_does_not_begin_has_its_status(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    upstream.always(json_reply(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "7"}))
    proxy = await start_proxy(config(upstream))
    url = f"{proxy.url}/chat"
    asked = [
        {"url": url, "question": "hi"},
        {"url": url, "question": "hi", "body": {"temperature": "hot"}},
        {"url": f"{proxy.url}/nowhere", "question": "hi"},
        {"url": "http://127.0.0.1:9/chat", "question": "hi"},
    ]
    limited, invalid, lost, unreachable = [answer["error"] for answer in await in_node(asked)]
    assert (limited["status"], limited["message"], limited["retryAfter"]) == (429, "slow down", 7)
    assert limited["retryable"]
    assert invalid["status"] in {400, 422}
    assert not invalid["retryable"]
    assert lost["status"] == 404
    assert (unreachable["code"], unreachable["typed"]) == ("unreachable", True)


@pytest.mark.parametrize(("how", "raised"), [("stop", "AbortError"), ("leave", None)])
async def test_an_answer_that_is_stopped_or_left_is_stopped_at_the_model(
    start_proxy: StartProxy, upstream: ScriptedUpstream, how: str, raised: str | None
) -> None:
    upstream.always(openai_stream(["One", " two"])[:3], Sleep(60))
    proxy = await start_proxy(config(upstream))
    (answer,) = await in_node([{"url": f"{proxy.url}/chat", "question": "hi", "how": how}])
    assert answer["text"] == "One"
    assert (answer["error"] and answer["error"]["name"]) == raised
    assert await proxy.end_reason() == "client_gone"
    await upstream.peer_gone(1)


async def test_the_hooks_own_signature_yields_tokens(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    upstream.play(*openai_stream(["One", " two"]))
    upstream.play(openai_stream(["One", " two"])[:3], event({"error": {"message": "ran away"}}), Fin())
    proxy = await start_proxy(config(upstream))
    asked = [{"url": f"{proxy.url}/chat", "question": "hi", "how": "tokens"}]
    (whole,) = await in_node(asked)
    (broken,) = await in_node(asked)
    assert (whole["text"], whole["error"]) == ("One two", None)
    assert (broken["text"], broken["error"]["typed"]) == ("One", True)


# -- the package, and the example over it ------------------------------------------------------------------------


def test_the_package_is_small_and_holds_what_it_should() -> None:
    built = js_client.client()
    packed = subprocess.run(
        ["npm", "pack", "--dry-run", "--json", "--ignore-scripts"],
        cwd=built,
        capture_output=True,
        text=True,
        check=True,
    )
    listing = json.loads(packed.stdout)
    (package,) = listing if isinstance(listing, list) else listing.values()
    files = {file["path"] for file in package["files"]}
    assert files == {
        "README.md", "package.json",
        "dist/index.js", "dist/index.d.ts", "dist/react.js", "dist/react.d.ts",
    }  # fmt: skip
    minified = subprocess.run(
        ["node_modules/.bin/esbuild", "dist/index.js", "--minify", "--format=esm"],
        cwd=built, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert len(gzip.compress(minified, 9)) <= 2048
    assert json.loads((built / "package.json").read_text()).get("dependencies") is None


async def test_its_page_is_true_once_it_is_installed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """What npm would publish is installed, and the programs of README.md run as they are."""
    upstream.play(*openai_stream(["It", " works"]))
    upstream.play(openai_stream(["Half"])[:3], Fin())
    proxy = await start_proxy(config(upstream))
    use, errors, *_ = re.findall(r"```js\n(.*?)```", (js_client.client() / "README.md").read_text(), re.DOTALL)
    use = use.replace("http://127.0.0.1:8080", proxy.url)
    errors = errors.replace('"/chat"', f'"{proxy.url}/chat"')
    heard = "const messages = [{ role: 'user', content: 'hi' }], show = () => {}, report = (...told) => console.log(...told);\n"
    (tmp_path / "use.mjs").write_text(use)
    (tmp_path / "errors.mjs").write_text(heard + errors)

    async def ran(*command: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    await ran("npm", "pack", "--ignore-scripts", str(js_client.client()))
    (package,) = tmp_path.glob("chat-proxy-client-*.tgz")
    await ran("npm", "install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", f"./{package.name}")
    assert await ran(node.node(), "use.mjs") == "It works"
    told = await ran(node.node(), "errors.mjs")
    assert told.endswith(f" true {(await proxy.ended(2))[1].request_id}\n"), told


@pytest.mark.clients
async def test_the_example_chats_stops_and_tries_again(serve: Serve, upstream: ScriptedUpstream) -> None:
    app = await asyncio.to_thread(js_client.example)
    proxy = await serve(openai_config(upstream.url, heartbeat_s="0.3"))  # by which the web server sees who left
    application = web.Application()

    async def index(_: web.Request) -> web.FileResponse:
        return web.FileResponse(app / "dist" / "index.html")

    async def passed_on(request: web.Request) -> web.StreamResponse:
        """What a web server in front does: pass the request on, and the answer as it comes."""
        headers = {name: request.headers[name] for name in ("Content-Type", "X-Chat-Dialect")}
        asked = http.post(f"{proxy.url}/api/chat", data=await request.read(), headers=headers)
        async with asked as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    application.router.add_get("/", index)
    application.router.add_static("/assets", app / "dist" / "assets")
    application.router.add_post("/api/chat", passed_on)
    upstream.play(*openai_stream(["Hello,", "\n\n", "world"]))
    upstream.play(openai_stream(["Once", " upon"])[:3], Sleep(60))
    upstream.play(openai_stream(["Half", " an"])[:4], Fin())
    upstream.play(*openai_stream(["All of it"]))
    async with ClientSession() as http, serving_pages(application) as origin, chromium() as page:
        await page.open(origin, title="Chat")
        await page.run(DRIVE)
        assert await page.run("said('first', /world/)") == ["first", "Hello,\n\nworld"]
        assert await page.run("said('second', /Once/)") == ["first", "Hello,\n\nworld", "second", "Once"]
        await page.run("press('Stop')")
        assert await page.run("shown(/Send/, 'form')")
        assert await page.run("said('third', /Half an/)")
        assert "before its answer was complete" in await page.run("shown(/./, '[role=alert]')")
        await page.run("press('Try again')")
        assert await page.run("listed(/All of it/)") == [
            "first", "Hello,\n\nworld", "second", "Once", "third", "All of it",
        ]  # fmt: skip
        assert await page.run("document.querySelector('[role=alert]') === null")
    await upstream.peer_gone(1)
    assert [one["content"] for one in upstream.requests[3].json()["messages"]] == [
        "first", "Hello,\n\nworld", "second", "Once", "third",
    ]  # fmt: skip


@pytest.mark.clients
async def test_a_conversation_that_is_set_anew_or_hidden_ends_its_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    app, client = await asyncio.to_thread(js_client.example), await asyncio.to_thread(js_client.client)
    alias = {"chat-proxy-client/react": client / "dist" / "react.js", "react": app / "node_modules" / "react"}
    bundled = await asyncio.create_subprocess_exec(
        client / "node_modules" / ".bin" / "esbuild", HERE / "hook_cases.jsx", "--bundle", "--format=esm",
        "--jsx=automatic", f"--outfile={tmp_path}/page.js", *(f"--alias:{name}={path}" for name, path in alias.items()),
        env={**os.environ, "NODE_PATH": str(app / "node_modules")},
    )  # fmt: skip
    assert await bundled.wait() == 0
    application = web.Application()
    application.router.add_static("/made", tmp_path)
    page_of_it = "<!doctype html><title>ready</title><body></body><script type=module src=/made/page.js></script>"

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=page_of_it, content_type="text/html")

    application.router.add_get("/", index)
    upstream.always(openai_stream(["Once", " upon"])[:3], Sleep(60))
    async with serving_pages(application) as origin, chromium() as page:
        proxy = await start_proxy(config(upstream, origin))
        await page.open(origin, title="ready")
        await page.run(DRIVE)
        shown = "shown(/{}/, 'body')"
        await page.run(f"window.fetch = ((ask) => (url, how) => ask('{proxy.url}' + url, how))(fetch)")
        await page.run("until(() => window.chat).then(() => null)")
        ends = (("chat.setMessages([])", " stopped fine"), ("setMode('hidden')", "hi|Once stopped fine"))
        for asked, (leave, left) in enumerate(ends, 1):
            await page.run("void chat.send('hi')")
            await page.run(shown.format("Once streaming"))
            await page.run(f"void {leave}")
            await upstream.peer_gone(asked)
            await page.run("void setMode('visible')")
            assert await page.run(shown.format("stopped|error")) == left


DRIVE = """
  Object.assign(window, {
    list: () => [...document.querySelectorAll("li")].map((item) => item.textContent),
    until: async (found) => {
      for (let tries = 0; tries < 1500; tries++) {
        const value = found();
        if (value) return value;
        await new Promise((after) => setTimeout(after, 20));
      }
      throw new Error("not shown: " + document.body.innerText);
    },
    listed: (what) => until(() => what.test(list().at(-1) ?? "") && list()),
    shown: (what, where) => until(() => {
      const text = document.querySelector(where)?.textContent ?? "";
      return what.test(text) && text;
    }),
    said: async (text, answered) => {
      const input = await until(() => document.querySelector("input"));
      Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, text);
      document.querySelector("form").requestSubmit();
      return listed(answered);
    },
    press: (name) => [...document.querySelectorAll("button")].find((one) => one.textContent === name).click(),
  });
  null;
"""
