"""The data of the page: who may have it, what it says, and that it costs requests nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.testing.script import Stall, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.web.look import MOST_NEW
from tests.support.app import Running, StartProxy
from tests.support.clients import Head, RawClient
from tests.web.following import LOCAL, follow

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "words that nobody keeps"}]}


def config(upstream_url: str, **more: str) -> str:
    return f"""
        server: {more.get("server", "{}")}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream_url}", api_key: "sk-far-secret-0123456789"}}
          other: {{kind: openai-compatible, base_url: "{upstream_url}"}}
        routes:
          - {{name: code, match: {{model: "code-*"}}, to: other/code-1}}
          - {{name: team, match: {{header: {{x-team: research}}}}, to: other/team-1}}
          - {{name: words, match: {{content: "secret plan"}}, to: other/words-1}}
          - {{name: default, to: [far/first, other/second]}}
    """


async def ask(
    proxy: Running, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str = ""
) -> tuple[Head, Any]:
    async with await RawClient.connect(proxy.port) as client:
        await client.request(method or ("GET" if body is None else "POST"), path, body or b"", LOCAL | (headers or {}))
        head = await client.read_head()
        data = await client.read_body()
        return head, json.loads(data) if data[:1] in {b"{", b"["} else data


# -- one request


async def test_a_request_is_explained_by_what_was_kept_of_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(*json_reply(503, {"error": {"message": "busy"}}))
    upstream.play(*openai_stream(["One", " two"]))
    await ask(proxy, "/v1/chat/completions", ASK, {"X-Request-Id": "the-one", "X-Team": "sales"})
    await proxy.ended()
    head, told = await ask(proxy, "/status/requests/the-one")
    assert head.status == 200
    assert (told["request_id"], told["contract"], told["path"]) == ("the-one", "openai", "/v1/chat/completions")
    assert (told["route"], told["target"], told["status"], told["end"]) == ("default", "other/second", 200, "done")
    assert told["why"] == [
        "code: wants model code-*, got m",
        "team: wants header x-team research, got sales",
        "words: wants content secret plan, got 23 characters without it",
        "default: takes it",
    ]
    first, second = told["attempts"]
    assert (first["target"], first["status"], first["first"]) == ("far/first", 503, None)
    assert "busy" in first["words"]
    assert (second["target"], second["status"]) == ("other/second", 200)
    assert (
        0
        <= first["start"]
        <= first["connected"]
        <= first["ended"]
        <= second["start"]
        <= second["connected"]
        <= second["first"]
        <= second["ended"]
    )
    assert "nobody keeps" not in json.dumps(told)
    assert (await ask(proxy, "/status/requests?last=1"))[1] == told
    assert (await ask(proxy, "/status/requests/unknown"))[0].status == 404
    assert [row["id"] for row in (await ask(proxy, "/status/requests"))[1]] == ["the-one"]


async def test_a_failure_is_told_in_words_and_without_a_key(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.always(*json_reply(503, {"error": {"message": "wrong key sk-far-secret-0123456789"}}))
    await ask(proxy, "/v1/chat/completions", ASK)
    await proxy.ended()
    _, told = await ask(proxy, "/status/requests?last=1")
    assert told["error"]["code"] == told["attempts"][-1]["code"] != ""
    assert "wrong key" in told["error"]["message"]
    assert "sk-far" not in json.dumps(told)


async def test_a_target_that_cannot_be_reached_was_never_connected(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(config("http://127.0.0.1:9/v1"))
    await ask(proxy, "/v1/chat/completions", ASK)
    await proxy.ended()
    _, told = await ask(proxy, "/status/requests?last=1")
    assert [(one["code"], one["connected"]) for one in told["attempts"]] == [("upstream_connect", None)] * 2


async def test_no_route_is_explained_too(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(
        config(upstream.url).replace("{name: default, to", "{name: default, match: {model: x}, to")
    )
    await ask(proxy, "/v1/chat/completions", ASK)
    _, told = await ask(proxy, "/status/requests?last=1")
    assert (told["status"], told["route"], told["attempts"]) == (404, "", [])
    assert told["error"]["code"] == "model_not_found"
    assert told["why"][-1] == f"refused: {told['error']['message']}"
    assert told["why"][-2] == "default: wants model x, got m"


# -- events


async def test_events_show_a_request_from_its_beginning_to_its_end(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(openai_stream(["One"])[:3], Stall())
    async with await RawClient.connect(proxy.port) as page, await RawClient.connect(proxy.port) as client:
        events = await follow(page)
        assert (await events.next("status"))["config"]["generation"] == 1
        assert await events.next("snapshot") == []
        await client.post("/v1/chat/completions", ASK)
        await client.read_until(b"One")
        while not (row := (await events.next("requests"))[0])["first"]:
            pass  # seen before its first token
        assert (row["route"], row["target"], row["end"], row["ms"]) == ("default", "far/first", None, None)
        assert (await events.next("now"))["active"] == 1
        client.rst()
        [row] = await events.next("requests")
        assert (row["end"], row["status"]) == ("client_gone", 499)
        assert (await events.next("now"))["active"] == 0
        proxy.rewrite("routes: [{name: [}")
        await proxy.app.reload()
        [error] = (await events.next("status"))["config"]["rejected"]
        assert error.startswith(f"{proxy.config}:1:")
        proxy.rewrite(config(upstream.url).replace("far/first", "far/newer"))
        await proxy.app.reload()
        shown = (await events.next("status"))["config"]
        assert (shown["rejected"], shown["generation"], shown["changed"]) == (None, 2, ["routes.default.to changed"])
    assert len(proxy.records) == 1, "a page that follows is no request"


async def test_of_very_many_requests_the_newest_are_shown(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url))
    for number in range(300):
        proxy.app.recent.ended(record(f"old{number}", "m"))
    async with await RawClient.connect(proxy.port) as page:
        events = await follow(page)
        assert len(await events.next("snapshot")) == 300
        for number in range(300):
            proxy.app.recent.ended(record(f"new{number}", "m"))
        assert [row["id"] for row in await events.next("requests")] == [f"new{at}" for at in range(300 - MOST_NEW, 300)]


async def test_events_end_when_the_proxy_drains(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url))
    async with await RawClient.connect(proxy.port) as page:
        events = await follow(page)
        await events.next("snapshot")
        proxy.app.draining = True
        async with asyncio.timeout(60):
            await page.read_body()


async def test_a_page_that_does_not_read_is_cut_and_nothing_is_queued_for_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, server="{limits: {write_stall_s: 0.2}}"))
    async with await RawClient.connect(proxy.port, receive_buffer=4096) as page:
        await page.get("/status/events", LOCAL)
        big = "x" * 60_000
        for record_number in range(400):
            proxy.app.recent.ended(record(f"r{record_number}", big))
        async with asyncio.timeout(60):
            while proxy.server.open_connections:
                await asyncio.sleep(0.02)


def record(id: str, model: str) -> Any:
    from proxy.telemetry.record import StreamRecord

    return StreamRecord(request_id=id, started_at=1.0, model=model, ended_at=2.0, end="done", status=200)


# -- what would happen


async def test_explain_asks_nobody(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url))
    _, told = await ask(proxy, "/explain", {"path": "/v1/chat/completions", "body": {**ASK, "model": "code-7"}})
    assert (told["route"], told["targets"][0]["target"]) == ("code", "other/code-1")
    assert "contract   openai" in told["text"]
    head, told = await ask(proxy, "/explain", {"path": "/nowhere"})
    assert (head.status, told["error"]["code"]) == (404, "not_found")
    head, told = await ask(proxy, "/explain", {"paht": "/chat"})
    assert head.status == 400
    assert "paht" in told["error"]["message"]
    assert upstream.connections == 0
    assert proxy.records == []


async def test_an_edited_config_is_judged_by_the_last_requests_and_not_taken_up(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    for model, team in (("m", "sales"), ("code-1", "sales"), ("m", "research")):
        await ask(proxy, "/v1/chat/completions", {**ASK, "model": model}, {"X-Team": team})
    await proxy.ended(3)
    text = (await ask(proxy, "/status/config"))[1]["config"]
    assert "sk-far" not in text
    assert "hidden-by-the-proxy" in text
    same = (await ask(proxy, "/explain/diff", {"config": text}))[1]
    assert same == {"errors": [], "warnings": [], "requests": 3, "differs": [], "unknown": []}
    edited = text.replace("x-team: research", "x-team: sales").replace("other/code-1", "far/code-2")
    judged = (await ask(proxy, "/explain/diff", {"config": edited}))[1]
    changes = {(one["before"], one["after"]) for one in judged["differs"]}
    assert changes == {
        ("code: other/code-1", "code: far/code-2"),
        ("default: far/first, other/second", "team: other/team-1"),
    }
    assert [one["why"] for one in judged["unknown"]] == ["content secret plan"], "nobody had looked for it"
    unkept = (await ask(proxy, "/explain/diff", {"config": text.replace("x-team:", "x-floor:")}))[1]
    assert [one["why"] for one in unkept["unknown"]] == ["header x-floor"] * 2
    longer = text.replace("{name: code, match: {model", "{name: code, match: {has: tools, model")
    assert (await ask(proxy, "/explain/diff", {"config": longer}))[1]["unknown"][0]["why"] == "has"
    assert proxy.app.snapshot.number == 1


async def test_an_edited_config_has_its_errors_at_their_lines(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    text = (await ask(proxy, "/status/config"))[1]["config"].replace("far/first", "fat/first")
    [error] = (await ask(proxy, "/explain/diff", {"config": text}))[1]["errors"]
    assert "fat" in error["message"]
    assert "far" in error["message"]
    assert "fat/first" in text.split("\n")[error["line"] - 1]


async def test_nothing_of_the_environment_is_shown_to_who_types_a_config(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: Any
) -> None:
    monkeypatch.setenv("SOME_SECRET_THING", "horse-battery-staple")
    proxy = await start_proxy(config(upstream.url))
    text = "backends: {echo: {kind: echo}}\nroutes: [{name: a, to: '${SOME_SECRET_THING}/x'}]"
    judged = (await ask(proxy, "/explain/diff", {"config": text}))[1]
    assert judged["errors"]
    assert "horse" not in json.dumps(judged)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("usage: {store: '${SOME_THING}'}", "sqlite:////var/usage.db"),
        ("usage: {store: '${SOME_THING}'}", "postgresql://us:horse@db/usage"),
        ("store: '${SOME_THING}'", "rediss://:horse@store:6379/0"),
    ],
)
async def test_an_address_in_the_environment_is_right_in_a_config_that_is_typed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, monkeypatch: Any, key: str, value: str
) -> None:
    monkeypatch.setenv("SOME_THING", value)
    proxy = await start_proxy(config(upstream.url))
    text = f"{key}\nbackends: {{echo: {{kind: echo}}}}\nroutes: [{{name: a, to: echo}}]"
    assert (await ask(proxy, "/explain/diff", {"config": text}))[1]["errors"] == []


# -- who may see it


@pytest.mark.parametrize(
    "path",
    [
        *("/status/events", "/status/requests", "/status/requests/x", "/status/config", "/explain"),
        *("/status", "/metrics", "/v1/models", "/api/tags", "/chat", "/nowhere"),
    ],
)
async def test_without_keys_no_name_of_somebody_else_opens_it(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    """DNS rebinding: a page of evil.example whose name points to 127.0.0.1 is of the same origin as ours."""
    proxy = await start_proxy(config(upstream.url))
    body = {} if path in {"/explain", "/chat"} else None
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1", ""):
        head, told = await ask(proxy, path, body, {"Host": host}, method="POST" if body is not None else "GET")
        assert (head.status, b"names" in told if isinstance(told, bytes) else told["error"]["code"]) in {
            (403, "permission_denied"),
            (400, "invalid_http"),
        }
    for host in ("localhost", "127.0.0.1:1", "[::1]:8080"):
        async with await RawClient.connect(proxy.port) as client:
            await client.request("POST" if body is not None else "GET", path, body or b"", {"Host": host})
            assert (await client.read_head()).status in {200, 400, 404}


# -- the page itself


async def test_browsers_get_the_page_and_others_a_word(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url))
    head, body = await ask(proxy, "/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (head.status, head["content-type"]) == (200, "text/html; charset=utf-8")
    policy = head["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for accept in ("*/*", "application/json", ""):
        head, body = await ask(proxy, "/", headers={"Accept": accept})
        assert (head.status, body) == (200, b"chat-proxy\n")
    head, _ = await ask(proxy, "/", method="HEAD")
    assert head.status == 200


async def test_a_file_that_is_known_is_not_sent_again(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url))
    head, body = await ask(proxy, "/web/app.js")
    assert (head.status, head["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert body
    head, body = await ask(proxy, "/web/app.js", headers={"If-None-Match": head["etag"]})
    assert (head.status, body) == (304, b"")


async def test_the_config_is_shown_without_its_secrets_and_still_valid(
    start_proxy: StartProxy, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    digests = "ab" * 32, "cd" * 32
    proxy = await start_proxy(f"""
        auth: {{keys: [{{name: a, sha256: "{digests[0]}"}}, {{name: b, sha256: "{digests[1]}"}}, {{name: c, key: "{KEY}"}}]}}
        backends:
          far:   # api_key: "an-older-key-of-the-owner"
            kind: openai-compatible
            base_url: "{upstream.url}"
            api_key: |-
              sk-far-secret
            headers: {{x-other-key: "${{SOME_UNSET_THING:-the default secret}}"}}
          slow: {{kind: echo, first_token_ms: 7}}
        usage: {{store: "sqlite:///{tmp_path}/usage.db"}}
        routes:
          - {{name: ours, match: {{key: c}}, to: far/one}}
          - {{name: rest, to: slow}}
    """)
    key = {"Authorization": f"Bearer {KEY}"}
    text = (await ask(proxy, "/status/config", headers=key))[1]["config"]
    for secret in (*digests, KEY, "an-older-key", "sk-far", "the default secret"):
        assert secret not in text
    for kept in ("first_token_ms: 7", "match: {key: c}", upstream.url, "name: b"):
        assert kept in text
    assert (await ask(proxy, "/explain/diff", {"config": text}, key))[1]["errors"] == []


KEY = "a-key-of-somebody-0123456789"
