"""The models that an upstream lists: asked for in the background, and never waited for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.backends.discovery import Model, ModelList, read_models
from proxy.errors import UpstreamMalformed
from proxy.testing.script import Stall, json_reply, openai_stream
from proxy.testing.upstream import ScriptedUpstream
from proxy.transport import HttpTransport, Request
from tests.support.wire import backend, events

KEY = "k-0123456789abcdef"
LIST = {"object": "list", "data": [{"id": "one"}, {"id": "two", "context_length": 8192}]}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("row", "path", "header"),
    [
        ({"kind": "openai-compatible", "query": {"v": "1"}}, "/v1/models?v=1", ("authorization", f"Bearer {KEY}")),
        ({"kind": "openai"}, "/v1/models", ("authorization", f"Bearer {KEY}")),
        ({"kind": "anthropic"}, "/v1/models?limit=1000", ("anthropic-version", "2023-06-01")),
    ],
)
async def test_N1_an_upstream_is_asked_for_its_models_in_the_background(
    upstream: ScriptedUpstream, row: dict[str, Any], path: str, header: tuple[str, str]
) -> None:
    upstream.play(*json_reply(200, LIST))
    async with backend({"base_url": upstream.url, "api_key": KEY, **row}) as far:
        assert upstream.connections == 0, "opening asks nothing"
        assert far.models() == []  # at once
        await until(far.models)
        assert far.models() == ["one", "two"]
        assert len(upstream.requests) == 1
        assert (upstream.requests[0].method, upstream.requests[0].path) == ("GET", path)
        assert upstream.requests[0].headers[header[0]] == header[1]


async def test_N1_a_list_that_never_comes_blocks_no_answer_and_no_end(upstream: ScriptedUpstream) -> None:
    upstream.play(Stall())
    async with backend({"kind": "openai-compatible", "base_url": upstream.url}) as far:
        assert far.models() == []
        await until(lambda: upstream.requests)
        upstream.play(*openai_stream(["ok"]))
        assert await events(far)
        assert far.models() == []
    await until(lambda: upstream.open_connections == 0)


@pytest.mark.parametrize("row", [{"discover": "off"}, {"discover": "off", "preset": "ollama"}])
async def test_N1_a_row_can_turn_it_off(upstream: ScriptedUpstream, row: dict[str, Any]) -> None:
    async with backend({"kind": "openai-compatible", "base_url": upstream.url, **row}) as far:
        assert far.models() == []
        await asyncio.sleep(0.05)
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "bad",
    [
        json_reply(500, {"error": "x"}),
        json_reply(200, b"<html>"),
        json_reply(200, {"data": 5}),
        json_reply(200, {"data": [], "error": {"message": "x"}}),
    ],
    ids=str,
)
async def test_N1_the_last_good_list_is_kept(upstream: ScriptedUpstream, bad: Any) -> None:
    transport = HttpTransport()
    request = Request(method="GET", url=f"{upstream.url}/models", headers={})
    models = ModelList("far", transport, lambda: request, every_s=0.01, kept={})
    upstream.play(*json_reply(200, LIST))
    await until(models.models)
    upstream.play(*bad)
    await asyncio.sleep(0.02)
    await until(lambda: models.models() and len(upstream.requests) > 1)
    assert [model.id for model in models.models()] == ["one", "two"]
    upstream.always(*json_reply(200, {"data": [{"id": "three"}]}))
    await until(lambda: [model.id for model in models.models()] == ["three"])
    await models.aclose()
    await transport.aclose()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (LIST, [Model("one"), Model("two", 8192)]),
        ({"data": [{"type": "model", "id": "claude", "display_name": "Claude"}], "has_more": False}, [Model("claude")]),
        ({"models": [{"name": "llama3:latest", "model": "llama3:latest"}]}, [Model("llama3:latest")]),
        ([{"id": "a"}, "b"], [Model("a"), Model("b")]),
        ({"data": [{"id": "a", "max_model_len": 4096}]}, [Model("a", 4096)]),
        ({"data": [{}, {"id": 5}, None, {"id": "x" * 300}, {"id": "a\nb"}, {"id": "ok"}, {"id": "ok"}]}, [Model("ok")]),
        ({"data": []}, []),
        ({"object": "list", "data": None}, []),  # Ollama, without models
        ({"data": [{"id": "a"}], "error": None}, [Model("a")]),
    ],
)
def test_N1_lists_of_all_vendors_are_read(body: object, found: list[Model]) -> None:
    assert list(read_models(json.dumps(body).encode())) == found


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"data": [{"id": "a"}]}',
        b'{"data": [{"id": "a", "price": NaN, "context_length": Infinity}]}',
        b'{"data": [{"id": "a"}, {"id": "half \\ud83d"}]}',
        b'{"data": [{"id": "a"}, {"id": "caf\xe9"}]}',
        b'{"data": [{"id": "a", "description": "two\nlines"}]}',
    ],
)
def test_N1_what_is_wrong_with_one_name_or_number_leaves_the_others(body: bytes) -> None:
    assert list(read_models(body)) == [Model("a")]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b'{"data": 5}', b"5", b'{"error": "x"}', b'{"error": "x", "data": []}', b"[" * 10**5],
)
def test_N1_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        read_models(body)


async def test_N1_the_log_says_why_a_list_did_not_come(
    upstream: ScriptedUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.play(*json_reply(401, {"error": {"message": "no"}}))
    async with backend({"kind": "openai-compatible", "base_url": upstream.url}) as far:
        far.models()
        await until(lambda: "models_not_listed" in (said := capsys.readouterr().out) and "status 401" in said)
