"""Keys that are made, listed and revoked by commands while two replicas serve."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from proxy.cli import main
from proxy.policy.keys import new_key
from proxy.store.keys import KeyShelf, StoredKey
from proxy.store.redis import RedisStore
from tests.support import redis
from tests.support.app import Running, StartProxy
from tests.support.ports import free_port

WITHIN_S = 60.0  # it takes a second on a machine that is not busy
FILE_KEY = "cp-file-7Q2k0yXn3mVb8LrTz5WcHs"


@pytest.fixture(scope="module")
def server() -> Iterator[redis.RedisServer]:
    with redis.running() as server:
        yield server


def config(store: str) -> str:
    return f"""
        store: "{store}"
        auth:
          limits: {{requests_per_minute: 100}}
          keys: [{{name: file, sha256: "{hashlib.sha256(FILE_KEY.encode()).hexdigest()}"}}]
        backends: {{near: {{kind: echo}}}}
        prices: {{echo: {{input_per_million: 1, output_per_million: 1}}}}
        routes: [{{name: default, to: near/echo}}]
    """


def key(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "key", *words, "-c", str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


async def asked(proxy: Running, secret: str) -> tuple[int, str]:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession() as session, session.post(proxy.url + "/chat", json=body, headers=headers) as one:
        await one.read()
        return one.status, one.headers.get("x-ratelimit-limit-requests", "")


async def until(proxy: Running, secret: str, status: int) -> float:
    began = time.monotonic()
    while (await asked(proxy, secret))[0] != status:
        assert time.monotonic() < began + WITHIN_S, f"still no {status}"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_a_key_works_on_all_replicas_until_it_is_revoked(start_proxy: StartProxy, server: redis.RedisServer):
    server.flush()
    replicas = []
    for _ in range(2):
        replicas.append(await start_proxy(config(server.url)))
        assert (await asked(replicas[-1], FILE_KEY))[0] == 200
    path = replicas[0].config
    words = ["--model", "echo", "--limits", "requests_per_minute=7", "--budget", "usd=0.000007,per=day", "--store"]
    made = await asyncio.to_thread(key, path, "new", "--name", "ann", *words)
    assert made.returncode == 0, made.stderr
    secret = re.search(r"^key     (cp-\S+)$", made.stdout, re.MULTILINE)[1]
    for replica in replicas:
        await until(replica, secret, 200)
    assert await asked(replicas[0], secret) == (200, "7")
    assert (await asked(replicas[1], secret))[0] == 402, "its budget is three answers long"
    assert (await asked(replicas[1], FILE_KEY))[0] == 200, "and others have none"
    async with asyncio.timeout(WITHIN_S):
        while "never" in (listed := (await asyncio.to_thread(key, path, "list")).stdout).split("ann", 1)[1][:50]:
            await asyncio.sleep(0.2)
    assert secret not in listed
    assert re.search(rf"^ann +store +{secret[:8]}… +\d{{4}}-\S+ \S+ +\d{{4}}-\S+ \S+ +never$", listed, re.MULTILINE)
    assert re.search(r"^file +file$", listed, re.MULTILINE)
    assert (await asyncio.to_thread(key, path, "revoke", "ann")).stdout == "revoked ann\n"
    for replica in replicas:
        await until(replica, secret, 401)


async def kept(server: redis.RedisServer, expires_at: int | None = None) -> str:
    """Put a key `ann` into the store."""
    secret, digest = new_key()
    store = RedisStore(server.url)
    row = {"name": "ann", "sha256": digest}
    assert await KeyShelf(store.client).add(
        "ann", StoredKey(row=row, prefix=secret[:8], created_at=0, expires_at=expires_at)
    )
    await store.aclose()
    return secret


async def test_a_key_expires(start_proxy: StartProxy, server: redis.RedisServer, monkeypatch: pytest.MonkeyPatch):
    server.flush()
    proxy = await start_proxy(config(server.url))
    secret = await kept(server, expires_at=int(time.time()) + 12 * 3600)
    await until(proxy, secret, 200)
    now = time.time()
    monkeypatch.setattr("proxy.policy.stored_keys.time.time", lambda: now + 12 * 3600 + 1)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {secret}"}) as session,
        session.post(proxy.url + "/v1/chat/completions", json=body) as refused,
    ):
        assert refused.status == 401
        assert re.search(r"expired on \d{4}-\d\d-\d\d at ", (await refused.json())["error"]["message"])


async def test_known_keys_stay_valid_while_the_store_is_away(start_proxy: StartProxy, server: redis.RedisServer):
    server.flush()
    proxy = await start_proxy(config(server.url))
    secret = await kept(server)
    await until(proxy, secret, 200)
    server.stop()
    try:
        assert [(await asked(proxy, secret))[0] for _ in range(3)] == [200] * 3
    finally:
        server.start()


def test_what_cannot_be_is_said(tmp_path: Path, server: redis.RedisServer):
    server.flush()
    path = tmp_path / "config.yaml"

    def said(*words: str, store: str = server.url) -> str:
        path.write_text("\n".join(line[8:] for line in config(store).splitlines()))
        done = CliRunner().invoke(main, ["key", *words, "-c", str(path)])
        return done.stderr if done.exit_code else ""

    assert "redis://" in said("new", "--store", store="memory")
    assert "redis://" in said("revoke", "ann", store="memory")
    assert "`file`" in said("new", "--name", "file", "--store")
    assert "row" in said("revoke", "file")
    assert "`ann`" in said("revoke", "ann")
    assert "`default`" in said("new", "--store", "--route", "defualt")
    assert "requests_per_minute" in said("new", "--limits", "requests=3")
    assert "usd" in said("new", "--budget", "per=day")
    assert "`near`" in said("new", "--store", "--budget", "usd=1.5,downgrade_to=naer/echo,reset=00:00 Europe/Oslo")
    assert "2001" in said("new", "--store", "--expires", "2001-01-01")
    assert "--store" in said("new", "--expires", "3d")
    assert not said("new", "--name", "ann", "--store")
    assert "`ann`" in said("new", "--name", "ann", "--store")


def test_a_time_with_an_offset_is_that_time(tmp_path: Path, server: redis.RedisServer):
    server.flush()
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(line[8:] for line in config(server.url).splitlines()))
    done = CliRunner().invoke(main, ["key", "new", "--store", "--expires", "2067-01-31T10:00+02:00", "-c", str(path)])
    assert done.stdout.endswith("expires 2067-01-31 08:00\n")


def test_a_row_for_the_file_has_all_that_was_said(tmp_path: Path):
    path = tmp_path / "config.yaml"
    words = ["key", "new", "--name", "ann", "--model", "gpt-*", "--limits", "parallel=2", "-c", str(path)]
    row = CliRunner().invoke(main, words).stdout.split("row     - ")[1]
    assert re.fullmatch(
        r'\{name: "ann", sha256: "[0-9a-f]{64}", models: \["gpt-\*"\], limits: \{"parallel": 2\}\}\n', row
    )


def test_a_store_that_does_not_answer_is_named_without_its_password(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(line[8:] for line in config("redis://:hunter2hunter2@127.0.0.1:1/0").splitlines()))
    done = CliRunner().invoke(main, ["key", "list", "-c", str(path)])
    assert done.exit_code == 1
    assert "redis://127.0.0.1:1/0" in done.stderr
    assert "hunter2" not in done.output


async def told(server: redis.RedisServer, *command: str) -> None:
    store = RedisStore(server.url)
    await store.client.execute_command(*command)
    await store.aclose()


async def test_a_key_is_revoked_in_a_store_that_is_full(start_proxy: StartProxy, server: redis.RedisServer):
    server.flush()
    proxy = await start_proxy(config(server.url))
    secret = await kept(server)
    await until(proxy, secret, 200)
    await told(server, "CONFIG", "SET", "maxmemory", "1")
    try:
        assert (await asked(proxy, secret))[0] == 200  # and when it was used is to be noted, for which there is no room
        new = await asyncio.to_thread(key, proxy.config, "new", "--name", "bob", "--store")
        assert "when used memory > 'maxmemory'" in new.stderr, "the server says why it takes none"
        revoked = await asyncio.to_thread(key, proxy.config, "revoke", "ann")
        assert (revoked.stdout, revoked.stderr) == ("revoked ann\n", "")
        await until(proxy, secret, 401)
    finally:
        await told(server, "CONFIG", "SET", "maxmemory", "0")


async def test_the_keys_of_a_read_only_copy_are_followed(start_proxy: StartProxy):
    """It takes no note of when a key was used; what is written to its primary counts all the same."""
    port = free_port()
    with redis.running(port=port) as primary, redis.running() as copy:
        await told(copy, "REPLICAOF", "127.0.0.1", str(port))
        proxy = await start_proxy(config(copy.url))
        secret = await kept(primary)
        await until(proxy, secret, 200)
        assert (await asked(proxy, secret))[0] == 200
        refused = await asyncio.to_thread(key, proxy.config, "revoke", "ann")
        assert "read only replica" in refused.stderr
        assert (await asked(proxy, secret))[0] == 200
        store = RedisStore(primary.url)
        assert await KeyShelf(store.client).remove("ann")
        await store.aclose()
        await until(proxy, secret, 401)


async def test_a_replica_that_could_not_read_the_keys_says_so_and_refuses_for_now(
    start_proxy: StartProxy, server: redis.RedisServer
):
    """A 401 would tell a client with a good key to give up, and a balancer not to ask another replica."""
    server.flush()
    secret = await kept(server)
    await told(server, "ACL", "SETUSER", "default", "-hgetall")
    with capture_logs() as logged:
        try:
            proxy = await start_proxy(config(server.url))
            assert (await asked(proxy, FILE_KEY))[0] == 200
            assert (await asked(proxy, secret))[0] == 503
        finally:
            await told(server, "ACL", "SETUSER", "default", "+@all")
        await until(proxy, secret, 200)
        assert (await asked(proxy, secret + "x"))[0] == 401
    (unread,) = [one for one in logged if one["event"] == "stored_keys_unread"]
    assert "hgetall" in unread["error"]
    assert [one["event"] for one in logged].count("stored_keys_read") == 1
