"""Limits of keys, users, routes and targets, seen from outside; counted in memory."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from proxy.request import Usage
from proxy.testing.script import Rst, Stall, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.testing.wires import AnthropicWire, answer
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient

KEYS = {name: f"cp-{name}-7Q2k0yXn3mVb8LrTz5WcHs" for name in ("web", "ci")}
CHAT = "/v1/chat/completions"


def digest(name: str) -> str:
    return hashlib.sha256(KEYS[name].encode()).hexdigest()


def config(upstream: ScriptedUpstream, *, auth: str = "{}", key: str = "{}", route: str = "{}", row: str = "{}") -> str:
    return f"""
        auth:
          limits: {auth}
          keys:
            - {{name: web, sha256: "{digest("web")}", limits: {key}}}
            - {{name: ci, sha256: "{digest("ci")}"}}
        backends:
          far: {{kind: openai-compatible, base_url: "{upstream.url}", limits: {row}}}
          near: {{kind: echo}}
        routes:
          - {{name: both, match: {{model: both}}, to: [far/scripted-1, near/echo]}}
          - {{name: default, to: far/scripted-1, limits: {route}}}
    """


async def ask(proxy: Running, key: str = "web", path: str = CHAT, **more: Any) -> tuple[int, Any, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, **more}
    headers = {"Authorization": f"Bearer {KEYS[key]}"}
    async with aiohttp.ClientSession() as session, session.post(proxy.url + path, json=body, headers=headers) as answer:
        return answer.status, answer.headers, await answer.text()


def answers(upstream: ScriptedUpstream, tokens: tuple[int, int] = (10, 20)) -> None:
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    upstream.always(*openai_stream(["Hi"], usage=usage))


async def test_a_request_beyond_the_limit_of_its_key_is_refused_before_anything_is_asked(
    start_proxy: StartProxy, upstream: ScriptedUpstream
):
    proxy = await start_proxy(config(upstream, auth="{requests_per_minute: 2}", key="{requests_per_minute: 3}"))
    answers(upstream)
    statuses = [(await ask(proxy))[0] for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert len(upstream.requests) == 3
    assert [(await ask(proxy, "ci"))[0] for _ in range(3)] == [200, 200, 429], "each key counts for itself"


async def test_answers_say_what_is_left_and_refusals_when_to_come_back(
    start_proxy: StartProxy, upstream: ScriptedUpstream
):
    proxy = await start_proxy(config(upstream, key="{requests_per_minute: 2, tokens_per_minute: 5000}"))
    answers(upstream)
    _, headers, _ = await ask(proxy)
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert headers["x-ratelimit-reset-requests"] == "30s"
    assert headers["x-ratelimit-limit-tokens"] == "5000"
    assert int(headers["x-ratelimit-remaining-tokens"]) == 5000 - 1 - 1000, "input counted, an answer expected"
    await ask(proxy)
    status, headers, text = await ask(proxy)
    assert status == 429
    assert 25 <= int(headers["Retry-After"]) <= 30
    assert headers["x-ratelimit-remaining-requests"] == "0"
    error = json.loads(text)["error"]
    assert error["type"] == "rate_limit_error"
    for fact in ("2 requests", "minute", "`web`"):
        assert fact in error["message"]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/messages", ("error", "type", "rate_limit_error")),
        ("/v1/responses", ("error", "type", "rate_limit_error")),
        ("/api/chat", None),
        ("/chat", None),
    ],
)
async def test_every_contract_refuses_in_its_own_form(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, form: tuple[str, ...] | None
):
    proxy = await start_proxy(config(upstream, key="{requests_per_minute: 1}"))
    answers(upstream)
    await ask(proxy)
    more = {"input": "hi", "max_tokens": 5} if path == "/v1/responses" else {"max_tokens": 5}
    status, headers, text = await ask(proxy, path=path, **more)
    assert status == 429, text
    assert headers["Retry-After"]
    if form:
        assert json.loads(text)[form[0]][form[1]] == form[2]


async def test_tokens_settle_with_what_an_answer_took(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{tokens_per_minute: 100000}"))
    answers(upstream, (30_000, 60_000))
    await ask(proxy)
    await proxy.ended()
    _, headers, _ = await ask(proxy, max_tokens=1)
    assert int(headers["x-ratelimit-remaining-tokens"]) == pytest.approx(10_000, abs=1500)
    await proxy.ended(2)
    status, headers, text = await ask(proxy)
    assert status == 429, "it used 180,000 of 100,000, so it waits for longer than a minute"
    assert int(headers["Retry-After"]) > 45, text


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_that_broke_off_counts_with_what_was_seen(
    start_proxy: StartProxy, upstream: ScriptedUpstream, stream: bool
):
    proxy = await start_proxy(config(upstream, key="{tokens_per_minute: 600}"))
    upstream.always(*openai_stream(["word "] * 40)[:42], Rst())
    question = [{"role": "user", "content": "x" * 400}]
    await ask(proxy, messages=question, max_tokens=100, stream=stream)
    (record,) = await proxy.ended()
    (attempt,) = record.attempts
    assert attempt.usage == record.usage == Usage(100, 40, estimated=True), "in the ledger as in the metrics"
    _, headers, _ = await ask(proxy, max_tokens=1)
    assert int(headers["x-ratelimit-remaining-tokens"]) == pytest.approx(600 - 140, abs=30)


async def test_an_attempt_that_failed_used_no_tokens(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{tokens_per_minute: 1100}"))
    upstream.always(*json_reply(503, {"error": {"message": "overloaded"}}))
    assert [(await ask(proxy))[0] for _ in range(3)] == [503, 503, 503]


async def test_a_request_that_can_never_fit_is_told_so(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{tokens_per_minute: 100}"))
    status, headers, text = await ask(proxy, messages=[{"role": "user", "content": "x" * 4000}])
    assert status == 429
    assert "Retry-After" not in headers
    assert headers["X-Should-Retry"] == "false"
    assert "1000 tokens" in text
    assert not upstream.requests


async def test_a_target_that_a_request_can_never_fit_into_is_passed_over_by_that_request_alone(
    start_proxy: StartProxy, upstream: ScriptedUpstream
):
    proxy = await start_proxy(config(upstream, row="{tokens_per_minute: 100}"))
    answers(upstream, (1, 1))
    long = [{"role": "user", "content": "x" * 4000}]
    status, headers, text = await ask(proxy, messages=long)
    assert (status, headers["X-Should-Retry"]) == (429, "false")
    assert "Retry-After" not in headers
    for fact in ("1000 tokens", "`far`", "100 tokens a minute"):
        assert fact in text
    assert (await ask(proxy, model="both", messages=long))[1]["X-Chat-Target"] == "near/echo"
    assert (await ask(proxy, model="both"))[1]["X-Chat-Target"] == "far/scripted-1", "a short one still goes there"


async def test_what_runs_at_once_is_freed_in_every_end(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{parallel: 1}"))
    upstream.always(*openai_stream(["Hi"]))
    assert (await ask(proxy))[0] == 200
    assert (await ask(proxy, messages=5))[0] == 400
    upstream.play(Stall())
    async with await RawClient.connect(proxy.port) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        await client.post(CHAT, body, headers={"Authorization": f"Bearer {KEYS['web']}"})
        await upstream.received(2)
        status, headers, _ = await ask(proxy)
        assert status == 429
        assert headers["Retry-After"] == "1"
        client.rst()
    await proxy.ended(4)
    upstream.play(*json_reply(503, {"error": {"message": "overloaded"}}))
    assert (await ask(proxy))[0] == 503
    upstream.play(*openai_stream(["Hi"], finish=None, done=False), Rst())
    assert "error" in (await ask(proxy))[2]
    assert [(await ask(proxy))[0] for _ in range(3)] == [200] * 3


async def test_each_user_of_a_key_has_limits_of_its_own(start_proxy: StartProxy, upstream: ScriptedUpstream):
    limits = "{requests_per_minute: 4, per_user: {requests_per_minute: 2}}"
    proxy = await start_proxy(config(upstream, key=limits))
    answers(upstream)
    got = [(await ask(proxy, user=user))[0] for user in ("ann", "ann", "ann", "bob", "bob", "eve")]
    assert got == [200, 200, 429, 200, 200, 429], "what one user is refused does not count for the key"


async def test_a_route_has_limits_for_all_keys_together(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, route="{requests_per_minute: 2}"))
    answers(upstream)
    assert [(await ask(proxy, key))[0] for key in ("web", "ci", "web")] == [200, 200, 429]


async def test_a_target_beyond_its_limit_is_passed_over(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, row="{requests_per_minute: 1, wait_s: 0}"))
    answers(upstream)
    got = [(await ask(proxy, model="both"))[1]["X-Chat-Target"] for _ in range(3)]
    assert got == ["far/scripted-1", "near/echo", "near/echo"]
    status, headers, text = await ask(proxy)
    assert status == 429, "no other target is left"
    assert int(headers["Retry-After"]) > 45
    assert "1 request a minute for `far`" in text
    assert len(upstream.requests) == 1
    passed = (await proxy.ended(3))[2].attempts[0]
    assert passed.error_code == "rate_limit_wait", "and the third request did not even ask the meter"


async def test_a_target_whose_room_comes_soon_is_waited_for(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, row="{requests_per_minute: 600, per_model: {requests_per_minute: 120}}"))
    answers(upstream)
    got = await asyncio.gather(*(ask(proxy) for _ in range(121)))
    assert [status for status, _, _ in got].count(200) == 121, "one came 121st and waited for half a second"


async def test_longer_answers_than_allowed_are_not_asked_for(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{max_output_tokens: 500}", row="{max_output_tokens: 300}"))
    answers(upstream)
    _, headers, _ = await ask(proxy, max_tokens=2000)
    assert upstream.requests[-1].json()["max_tokens"] == 300
    assert re.findall(r"\d+", headers["X-Chat-Notice"]) == ["500", "300"]
    _, headers, _ = await ask(proxy, "ci", max_tokens=200)
    assert upstream.requests[-1].json()["max_tokens"] == 200
    assert "X-Chat-Notice" not in headers
    await ask(proxy)
    assert upstream.requests[-1].json()["max_tokens"] == 300, "it named none"


@pytest.mark.parametrize(
    "asked",
    [
        {"max_tokens": -1},  # to some servers: as long as it likes
        {"max_tokens": 0},
        {"max_tokens": 10, "max_completion_tokens": 2000},
        {"max_completion_tokens": -1},
        {"n_predict": 2000},
        {"max_tokens": 10, "n_predict": -1},
    ],
    ids=str,
)
async def test_no_way_to_say_it_gets_a_longer_answer_than_allowed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, asked: dict[str, int]
):
    proxy = await start_proxy(config(upstream, key="{max_output_tokens: 500, tokens_per_minute: 9000}"))
    answers(upstream)
    _, headers, _ = await ask(proxy, **asked)
    sent = upstream.requests[-1].json()
    assert [sent[name] for name in ("max_tokens", "max_completion_tokens", "n_predict") if name in sent] == [500]
    assert int(headers["x-ratelimit-remaining-tokens"]) == 9000 - 1 - 500


@pytest.mark.parametrize(
    ("most", "thinking"),
    [(8000, {"type": "enabled", "budget_tokens": 4000}), (500, None)],
)
async def test_an_answer_that_was_made_shorter_thinks_less(
    start_proxy: StartProxy, upstream: ScriptedUpstream, most: int, thinking: Any
):
    row = (
        config(upstream, key=f"{{max_output_tokens: {most}}}")
        .replace("openai-compatible", "anthropic")
        .replace('/v1"', '"')
    )
    proxy = await start_proxy(row)
    upstream.always(*answer(AnthropicWire(), ["Hi"]))
    asked = {"max_tokens": 32000, "thinking": {"type": "enabled", "budget_tokens": 31999}}
    _, headers, _ = await ask(proxy, path="/v1/messages", **asked)
    sent = upstream.requests[-1].json()
    assert (sent["max_tokens"], sent.get("thinking")) == (most, thinking), "Anthropic refuses a budget that is larger"
    told = headers["X-Chat-Notice"]
    assert (str(most) in told, "thinking" in told) == (True, thinking is None)


async def test_all_choices_of_an_answer_are_reserved(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{tokens_per_minute: 9000}"))
    answers(upstream)
    _, headers, _ = await ask(proxy, max_tokens=100, n=4)
    assert int(headers["x-ratelimit-remaining-tokens"]) == 9000 - 1 - 400


async def test_without_limits_nothing_is_built(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(
        f"""
        backends: {{far: {{kind: openai-compatible, base_url: "{upstream.url}"}}}}
        routes: [{{name: default, to: far/scripted-1}}]
        """
    )
    assert proxy.app.snapshot.admission is None
    assert type(proxy.app.snapshot.backends["far"]).__module__.startswith("proxy.backends.openai")


async def test_limits_are_told_to_operators(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{requests_per_minute: 1}"))
    answers(upstream)
    await ask(proxy)
    await ask(proxy)
    headers = {"Authorization": f"Bearer {KEYS['ci']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(proxy.url + "/metrics") as answer:
            metrics = await answer.text()
        async with session.get(proxy.url + "/status") as answer:
            status = await answer.json()
    assert 'chat_proxy_limit_denials_total{limit="requests",name="web",scope="key"} 1.0' in metrics
    assert 'chat_proxy_limit_used_ratio{limit="requests",name="web",scope="key"} ' in metrics
    assert "chat_proxy_store_reachable 1.0" in metrics
    assert status["store"] == {"kind": "memory"}


async def test_a_reload_keeps_what_was_counted(start_proxy: StartProxy, upstream: ScriptedUpstream):
    proxy = await start_proxy(config(upstream, key="{requests_per_minute: 2}"))
    answers(upstream)
    await ask(proxy)
    proxy.rewrite(config(upstream, key="{requests_per_minute: 3}"))
    assert await proxy.app.reload()
    assert [(await ask(proxy))[0] for _ in range(3)] == [200, 200, 429]


def test_explain_says_which_limits_would_apply(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"""
        auth:
          limits: {{requests_per_minute: 60, per_user: {{parallel: 2}}}}
          keys: [{{name: web, sha256: "{digest("web")}", limits: {{tokens_per_minute: 1000}}}}]
        backends: {{near: {{kind: echo, limits: {{max_output_tokens: 9, per_model: {{parallel: 3}}}}}}}}
        routes: [{{name: default, to: near/echo, limits: {{parallel: 8}}}}]
        """
    )
    command = [sys.executable, "-m", "proxy", "explain", "-c", str(path), "--path", CHAT, "--key", "web"]
    done = subprocess.run(
        [*command, '{"model": "m", "user": "ann", "messages": [{"role": "user", "content": "hi"}]}'],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout[done.stdout.index("limits") :].splitlines()
    assert [line.removeprefix("limits").strip() for line in lines[:6]] == [
        "60 requests a minute for the key `web`",
        "1000 tokens a minute for the key `web`",
        "8 requests at a time for the route `default`",
        "2 requests at a time for each user of the key `web`",
        "answers of 9 tokens for the target `near`",
        "3 requests at a time for the target `near/echo`",
    ]
