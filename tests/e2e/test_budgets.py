"""Budgets of a proxy that runs: refused with a reason, answered by another target, remembered after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from proxy.cli import main
from proxy.config.load import load_config
from proxy.config.usage import UsageSettings
from proxy.errors import ConfigErrors
from proxy.ledger.check import spent
from tests.support import redis
from tests.support.app import StartProxy

Serve = Callable[..., Any]

KEY = "a-key-with-a-budget"

CONFIG = """
    usage: {store: "sqlite:///FOLDER/usage.db"}
    auth:
      keys:
        - name: web
          sha256: "DIGEST"
          budget: {BUDGET}
    backends: {dear: {kind: echo}, cheap: {kind: echo}}
    prices: {dear/*: {input_per_million: 1, output_per_million: 100}, cheap/*: {input_per_million: 0, output_per_million: 0}}
    routes: [{name: default, to: dear/m}]
"""


def config(folder: Path, budget: str) -> str:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    return CONFIG.replace("FOLDER", str(folder)).replace("DIGEST", digest).replace("BUDGET", budget)


async def ask(url: str, path: str = "/v1/chat/completions", **more: Any) -> tuple[int, dict[str, str], Any]:
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "one two three"}], **more}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.post(f"{url}{path}", json=body) as answer,
    ):
        return answer.status, dict(answer.headers), await answer.json()


async def test_a_request_beyond_the_budget_is_refused_and_told_when_it_begins_again(
    start_proxy: StartProxy, tmp_path: Path
):
    proxy = await start_proxy(config(tmp_path, "usd: 0.0015, per: day, reset: '00:00 Europe/Oslo'"))
    assert (await ask(proxy.url))[0] == 200  # reserves ten tokens, takes three: 0.0003 dollars
    assert (await ask(proxy.url))[0] == 200
    status, _, refused = await ask(proxy.url)
    assert status == 402
    assert refused["error"]["code"] == "budget_exceeded"
    said = refused["error"]["message"]
    for fact in ("$0.0015 a day", "`web`", "$0.000894", "00:00 CE"):
        assert fact in said, said
    assert (await ask(proxy.url, max_tokens=3))[0] == 200  # that much is left
    status, _, refused = await ask(proxy.url, "/v1/messages")
    assert (status, refused["error"]["type"]) == (402, "billing_error")
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client,
        client.get(f"{proxy.url}/metrics") as answer,
    ):
        text = await answer.text()
    assert 'chat_proxy_limit_denials_total{limit="usd",name="web",scope="key"} 2.0' in text


async def test_another_target_answers_instead_and_the_client_is_told(start_proxy: StartProxy, tmp_path: Path):
    proxy = await start_proxy(config(tmp_path, "usd: 0.0012, downgrade_to: cheap/small"))
    status, headers, _ = await ask(proxy.url)
    assert (status, headers["X-Chat-Target"]) == (200, "dear/m")
    status, headers, _ = await ask(proxy.url)
    assert (status, headers["X-Chat-Target"]) == (200, "cheap/small")
    assert "`web`" in headers["X-Chat-Notice"]
    assert "cheap/small" in headers["X-Chat-Notice"]


async def test_what_was_spent_is_remembered_after_a_kill(serve: Serve, tmp_path: Path):
    text = config(tmp_path, "usd: 0.0013")
    first = await serve(text)
    assert (await ask(first.url))[0] == 200
    usage = UsageSettings.model_validate({"store": f"sqlite:///{tmp_path}/usage.db"})
    async with asyncio.timeout(60):
        while await asyncio.to_thread(spent, usage, [("key", "web", 0.0)]) == [0.0]:  # not in the spool yet
            await asyncio.sleep(0.01)
    first.signal(signal.SIGKILL)
    await first.exit_code()
    second = await serve(text)
    assert (await ask(second.url))[0] == 402
    assert (await ask(second.url, max_tokens=3))[0] == 200


async def test_replicas_spend_one_budget_to_the_last_reserve(serve: Serve, tmp_path: Path):
    with redis.running() as server:
        text = config(tmp_path, "usd: 0.0052, per: total") + f"    store: {server.url}\n"
        replicas = [await serve(text) for _ in range(2)]
        answers = await asyncio.gather(*(ask(replicas[number % 2].url, max_tokens=3) for number in range(40)))
    statuses = [status for status, *_ in answers]
    assert set(statuses) == {200, 402}
    assert statuses.count(200) == 17  # each reserves and takes 0.000303 dollars


@pytest.mark.parametrize(("rule", "status"), [("allow", 200), ("deny", 402)])
async def test_a_price_that_nobody_knows(start_proxy: StartProxy, tmp_path: Path, rule: str, status: int):
    text = config(tmp_path, f"usd: 0.000001, unknown_price: {rule}").replace("dear/*:", "other/*:")
    proxy = await start_proxy(text)
    got, _, body = await ask(proxy.url)
    assert got == status
    if status == 402:
        assert (body["error"]["code"], "dear/m" in body["error"]["message"]) == ("price_unknown", True)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands_say_which_budget_there_is_and_what_it_does_not_count(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(config(tmp_path, "usd: 3, per: week").replace("to: dear/m", "to: [dear/m, cheap/m]"))
    assert "`web`" not in run("check", str(path))
    assert "$3 a week for the key `web`" in run("explain", "-c", str(path), "--key", "web")
    path.write_text(path.read_text().replace("dear/*:", "other/*:"))
    (doubt,) = [line for line in run("check", str(path)).splitlines() if "`web`" in line]
    assert "dear/m" in doubt
    path.write_text(path.read_text().replace("per: week", "per: week, unknown_price: deny"))
    assert "`web`" not in run("check", str(path))


def test_a_target_that_is_none_is_an_error_with_its_place(tmp_path: Path):
    from proxy.backends.base import kind

    path = tmp_path / "config.yaml"
    path.write_text(config(tmp_path, "usd: 1, downgrade_to: cheep/small"))
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, settings_for=lambda name: kind(name).settings)
    (error,) = caught.value.errors
    assert "`cheep`" in str(error)
    assert "`cheap`" in str(error)
    assert error.line == 7
