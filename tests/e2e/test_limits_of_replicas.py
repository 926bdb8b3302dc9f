"""Two replicas behind nginx or HAProxy, and one Redis: limits hold for both together, to the request."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.testing.script import Stall, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from tests.support import debian, redis
from tests.support.app import Process

pytestmark = pytest.mark.heavy

KEY = "cp-web-7Q2k0yXn3mVb8LrTz5WcHs"
Serve = Callable[..., Awaitable[Process]]

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream replicas {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replicas; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_next_upstream off;
    }}
  }}
}}
"""
HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
frontend front
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
{servers}
"""


@contextlib.contextmanager
def fronted(program: str, folder: Path, ports: list[int]) -> Iterator[int]:
    """`program` in front of the replicas; yields its port."""
    debian.require({"nginx": "nginx", "haproxy": "haproxy"}[program])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    path = folder / f"{program}.conf"
    if program == "nginx":
        servers = " ".join(f"server 127.0.0.1:{one};" for one in ports)
        path.write_text(NGINX.format(folder=folder, port=port, servers=servers))
        command = ["nginx", "-c", str(path), "-p", str(folder)]
    else:
        servers = "\n".join(f"  server r{one} 127.0.0.1:{one}" for one in ports)
        path.write_text(HAPROXY.format(port=port, servers=servers))
        command = ["haproxy", "-f", str(path), "-db"]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None, "it ended"
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


@pytest.fixture(params=["nginx", "haproxy"])
async def front(
    request: pytest.FixtureRequest, serve: Serve, upstream: ScriptedUpstream, tmp_path: Path
) -> AsyncIterator[tuple[int, redis.RedisServer]]:
    with redis.running() as server:
        config = f"""
            store: "{server.url}"
            auth:
              keys: [{{name: web, sha256: "{hashlib.sha256(KEY.encode()).hexdigest()}"}}]
              limits: {{on_outage: local, local_share: 0.5}}
            backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
            routes:
              - {{name: counted, match: {{model: counted}}, to: far/scripted-1, limits: {{requests_per_minute: 60}}}}
              - {{name: parallel, to: far/scripted-1, limits: {{parallel: 8, on_outage: local, local_share: 0.5}}}}
        """
        replicas = [await serve(config) for _ in range(2)]
        with fronted(request.param, tmp_path, [replica.port for replica in replicas]) as port:
            yield port, server


async def ask(session: aiohttp.ClientSession, port: int, model: str) -> int:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"Authorization": f"Bearer {KEY}"}
    async with session.post(url, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_two_replicas_admit_what_one_would(front, upstream: ScriptedUpstream):
    port, server = front
    upstream.always(*openai_stream(["Hi"]))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began = time.monotonic()
        got = await asyncio.gather(*(ask(session, port, "counted") for _ in range(300)))
        most = 60 + math.floor(time.monotonic() - began)
        assert set(got) == {200, 429}
        assert 60 <= got.count(200) <= most, "60 at once, and one more for each second that passed"
        assert len(upstream.requests) == got.count(200)

        upstream.always(*openai_stream(["Hi"])[:3], Stall())
        asking = [asyncio.create_task(ask(session, port, "other")) for _ in range(40)]
        async with asyncio.timeout(60):
            while sum(one.done() for one in asking) < 32:
                await asyncio.sleep(0.01)
        await upstream.received(got.count(200) + 8)
        assert [one.result() for one in asking if one.done()] == [429] * 32, "exactly 8 run, whichever replica has them"
        upstream.drop_connections()
        await asyncio.wait(asking)

        server.stop()  # each replica counts half of it by itself
        upstream.always(*openai_stream(["Hi"])[:3], Stall())
        before = len(upstream.requests)
        asking = [asyncio.create_task(ask(session, port, "other")) for _ in range(40)]
        async with asyncio.timeout(60):
            while sum(one.done() for one in asking) < 32:
                await asyncio.sleep(0.01)
        await upstream.received(before + 8)
        assert [one.result() for one in asking if one.done()] == [429] * 32
        upstream.drop_connections()
        await asyncio.wait(asking)
