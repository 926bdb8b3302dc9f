"""Group G: who is let in, where, and to what, over real sockets and on every path there is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from proxy.contracts.ollama.frontend import PREFIX
from proxy.testing.script import openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.web.files import FILES
from tests.support.app import Running, StartProxy
from tests.support.clients import Head, RawClient

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
KEY = "cp-key-of-ada-0123456789abcdefghijklmnop"
NARROW = "cp-key-of-bob-0123456789abcdefghijklmnop"
ALLOWED_WITHOUT_KEY = {"/", "/healthz", "/readyz", *(f"/web/{name}" for name in FILES)}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def config(upstream_url: str, *, server: str = "{}", narrow: str = 'models: ["far/cheap*"]') -> str:
    return f"""
        server: {server}
        auth:
          keys:
            - {{name: ada, sha256: "{digest(KEY)}"}}
            - {{name: bob, sha256: "{digest(NARROW)}", {narrow}}}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream_url}", discover: "off"}}
          other: {{kind: openai-compatible, base_url: "{upstream_url}"}}
        frontends:
          own: {{path: [/own, /own/stream], response: {{token: $text}}, errors: {{status: {{"*": 200}}}}}}
        routes:
          - {{name: chain, match: {{model: chain}}, to: [far/dear-1, far/cheap-1]}}
          - {{name: dear, match: {{model: "dear*"}}, to: [far/dear-1, other/cheap-1]}}
          - {{name: own, match: {{model: "cheap*"}}, to: far}}
          - {{name: default, to: far/dear-1}}
    """


async def ask(
    proxy: Running,
    path: str,
    headers: dict[str, str] | list[tuple[str, str]] = (),
    *,
    method: str = "POST",
    model: str = "m",
    port: int = 0,
) -> tuple[Head, bytes]:
    async with await RawClient.connect(port or proxy.port) as client:
        await client.request(method, path, {**ASK, "model": model}, headers)
        head = await client.read_head()
        return head, await client.read_body()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# -- G01: what is no key


NO_KEYS: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "empty": [("Authorization", "")],
    "scheme alone": [("Authorization", "Bearer")],
    "scheme and blank": [("Authorization", "Bearer  ")],
    "no scheme": [("Authorization", KEY)],
    "basic": [("Authorization", "Basic YTpi")],
    "wrong": [("Authorization", "Bearer cp-wrong-0123456789abcdef")],
    "a prefix": [("Authorization", f"Bearer {KEY[:-1]}")],
    "longer": [("Authorization", f"Bearer {KEY}x")],
    "other case": [("Authorization", f"Bearer {KEY.upper()}")],
    "its digest": [("Authorization", f"Bearer {digest(KEY)}")],
    "its name": [("Authorization", "Bearer ada")],
    "twice": [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")],
    "two keys": [("Authorization", f"Bearer {KEY}"), ("X-Api-Key", NARROW)],
    "a list": [("Authorization", f"Bearer {KEY}, Bearer {KEY}")],
    "huge": [("Authorization", "Bearer " + "x" * 7000)],
    "SQL": [("Authorization", "Bearer ' OR '1'='1' --")],
    "Redis": [("Authorization", "Bearer *\t$1")],
    "not ASCII": [("Authorization", "Bearer schlüssel")],
    "not UTF-8": [("Authorization", "Bearer \udcff\udcfe")],
    "a format string": [("X-Api-Key", "{0.__class__}%s%n")],
    "in a cookie": [("Cookie", f"key={KEY}")],
    "in Proxy-Authorization": [("Proxy-Authorization", f"Bearer {KEY}")],
}


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("name", NO_KEYS)
async def test_G01_what_is_no_key_is_a_401_before_the_body_is_asked_for(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, name: str
) -> None:
    proxy = await start_proxy(config(upstream.url))
    headers = [
        *NO_KEYS[name],
        ("Content-Type", "application/json"),
        ("Content-Length", "100"),
        ("Expect", "100-continue"),
    ]
    async with await RawClient.connect(proxy.port) as client:
        await client.post(f"{path}?api_key={KEY}&key={KEY}", b"", headers)
        head = await client.read_head()
        told = await client.read_body()
    assert (head.status, head["www-authenticate"]) == (401, "Bearer")
    assert json.loads(told)["error"]["code"] == "invalid_api_key"
    assert KEY.encode() not in told
    assert upstream.connections == 0
    [record] = await proxy.ended()
    assert (record.end, record.key) == ("rejected", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"X-Api-Key": KEY},
        {"Api-Key": KEY},
        {"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY},
    ],
)
@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_a_key_is_taken_in_every_style(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, headers: dict[str, str]
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    assert (await ask(proxy, path, headers))[0].status == 200
    assert (await proxy.ended())[0].key == "ada"


# -- G03: every path


def spellings(path: str) -> Iterator[str]:
    """A path as it is, and as somebody would write it who hopes that a check and a router read it differently."""
    yield path
    yield path + "/"
    yield "/" + path
    yield path.replace("/", "//")
    yield "/." + path
    yield "/x/.." + path
    yield path + "/."
    yield path + "/x/.."
    yield "/%2e" + path
    yield path.replace("/", "%2f")
    yield path.replace("/", "\\")
    yield path[:-1] + f"%{ord(path[-1]):02x}"
    yield path.upper()
    yield path.title()
    yield path + "?x=/healthz"
    yield path + ";/healthz"
    yield path + "%00"
    yield path + "%20"
    yield path + "#/healthz"
    yield "/healthz/.." + path
    yield "/healthz/%2e%2e" + path
    yield "http://proxy.test" + path
    yield "http://proxy.test/healthz/.." + path


async def test_G03_nothing_but_the_front_door_and_the_health_pages_is_served_without_a_key(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, server="{ollama_port: 0}"))
    app = proxy.app
    tables = [path.replace("{id}", "openai/m") for path in (*app.snapshot.table, *app.operations)]
    assert len(tables) >= 10
    legacy = ["/admin", "/config", "/reload", "/docs", "/openapi.json", "/debug", "/v1", "/v1/completions", "*"]
    places = [(proxy.port, path) for path in (*tables, *legacy)]
    at_the_root = [path.removeprefix(PREFIX) for path in tables if path.startswith(f"{PREFIX}/")]
    places += [(proxy.ollama_port, path) for path in (*at_the_root, "/chat", *app.operations, *legacy)]
    got_in = []
    for port, table_path in places:
        for path in spellings(table_path) if table_path.startswith("/") else [table_path]:
            is_open = is_open_page(path) and (port == proxy.port or table_path != "/")  # Ollama's own root is not
            fine = {200, 405} if is_open else {401, 400}  # 400: no target HTTP knows
            for method in ("GET", "POST", "HEAD", "PUT") if path == table_path else ("GET", "POST"):
                head, _ = await ask(proxy, path, method=method, port=port)
                if head.status not in fine:
                    got_in.append((method, port == proxy.port, path, head.status))
    assert got_in == []
    assert upstream.connections == 0


def is_open_page(path: str) -> bool:
    """Whether this names an open page without any doubt: queries, fragments and the host are no part of a path."""
    bare = path.partition("#")[0].partition("?")[0].removeprefix("http://proxy.test")
    return bare in ALLOWED_WITHOUT_KEY


# -- G04: pages for operators


@pytest.mark.parametrize("path", ["/metrics", "/status", "/status/requests", "/status/config"])
async def test_G04_pages_for_operators_need_a_key_without_limits(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(config(upstream.url))
    assert (await ask(proxy, path, bearer(KEY), method="GET"))[0].status == 200
    head, told = await ask(proxy, path, bearer(NARROW), method="GET")
    assert (head.status, json.loads(told)["error"]["code"]) == (403, "permission_denied")
    by_route = await start_proxy(config(upstream.url, narrow="routes: [own]"))
    assert (await ask(by_route, path, bearer(NARROW), method="GET"))[0].status == 403
    assert (await ask(by_route, path, bearer(NARROW), method="HEAD"))[0].status == 403


# -- G05: models


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("style", ["Authorization", "X-Api-Key"])
@pytest.mark.parametrize(
    ("model", "reached"),
    [
        ("cheap-1", "cheap-1"),
        ("chain", "cheap-1"),  # the first target is not for this key, whatever the route says
        ("dear-1", None),  # nor is another backend's model of an allowed name
        ("m", None),
        ("CHEAP-1", None),
        ("cheap-1/../dear-1", "cheap-1/../dear-1"),  # it begins as allowed ones do: a name is a name, not a path
        ("far/dear-1", None),
    ],
)
async def test_G05_only_models_of_the_key_are_ever_dialled(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, style: str, model: str, reached: str | None
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.always(*openai_stream(["hi"]))
    value = NARROW if style == "X-Api-Key" else f"Bearer {NARROW}"
    head, _ = await ask(proxy, f"{path}?dialect=sse", {style: value}, model=model)
    assert head.status == (200 if reached else 403)
    assert [seen.json()["model"] for seen in upstream.requests] == ([reached] if reached else [])


async def test_G05_a_key_sees_only_its_own_models(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url, narrow="routes: [own]"))
    _, everything = await ask(proxy, "/v1/models", bearer(KEY), method="GET")
    _, little = await ask(proxy, "/v1/models", bearer(NARROW), method="GET")
    assert len(json.loads(little)["data"]) < len(json.loads(everything)["data"])


# -- G09: guessing


async def test_G09_guessing_is_slowed_down_and_others_at_the_address_are_not_locked_out(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, server="{limits: {auth_failures_per_minute: 5}}"))
    upstream.always(*openai_stream(["hi"]))
    statuses = []
    for number in range(8):
        spoofed = {**bearer(f"cp-guess-{number:032}"), "X-Forwarded-For": f"10.0.0.{number}"}
        head, _ = await ask(proxy, "/chat", spoofed)
        statuses.append(head.status)
    assert statuses == [401] * 5 + [429] * 3
    assert int(head["retry-after"]) >= 1
    assert (await ask(proxy, "/chat", bearer(KEY)))[0].status == 200
    assert (await ask(proxy, "/chat"))[0].status == 401, "to be without a key is no guess"


async def test_G09_behind_a_trusted_proxy_clients_are_distinguished(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    server = '{trusted_proxies: ["127.0.0.1/32"], limits: {auth_failures_per_minute: 2}}'
    proxy = await start_proxy(config(upstream.url, server=server))
    statuses = []
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "6.6.6.6, 10.0.0.1"):
        headers = {**bearer("cp-guess-0123456789"), "X-Forwarded-For": address}
        statuses.append((await ask(proxy, "/chat", headers))[0].status)
    assert statuses == [401, 401, 429, 401, 429], "what stands left of the nearest address is hearsay"
