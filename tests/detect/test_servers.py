"""Asking local servers for their models: who is asked, who counts, and how long it may take."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from proxy.detect.servers import Place, ask, places
from tests.support.ports import free_port


def test_the_usual_ports_are_asked_but_not_our_own():
    asked = {place.name: place.base_url for place in places({}, own_port=8080)}
    assert asked["ollama"] == "http://127.0.0.1:11434/v1"
    assert {"lmstudio", "vllm", "llama.cpp", "koboldcpp"} <= asked.keys()
    assert not any(":8080/" in url for url in asked.values())
    assert any(":8080/" in place.base_url for place in places({}, own_port=9000))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("10.0.0.5", "http://10.0.0.5:11434/v1"),
        (":1234", "http://127.0.0.1:1234/v1"),
        ("box:80", "http://box:80/v1"),
        ("[::]:9", "http://127.0.0.1:9/v1"),
        ("[fe80::1]", "http://[fe80::1]:11434/v1"),
        ("https://ollama.example.com/", "https://ollama.example.com:443/v1"),
    ],
)
def test_ollama_is_where_ollama_host_says(host, url):
    [found] = [place.base_url for place in places({"OLLAMA_HOST": host}, own_port=1) if place.name == "ollama"]
    assert found == url


def test_an_ollama_host_that_is_none_is_passed_over():
    assert "ollama" not in [place.name for place in places({"OLLAMA_HOST": "a:b:c"}, own_port=1)]


def test_an_address_is_asked_once_and_by_the_name_that_was_given():
    found = places({"LOCAL_BASE_URL": "http://127.0.0.1:11434/v1/"}, own_port=1)
    assert [place.name for place in found if ":11434/" in place.base_url] == ["local"]


@pytest.fixture
async def machine():
    """Servers of every sort, on one port: `places` are where they are found."""
    stuck = asyncio.Event()

    def listing(*ids, **headers):
        async def answer(_request):
            body = {"object": "list", "data": [{"id": id_, "object": "model"} for id_ in ids]}
            return web.json_response(body, headers=headers)

        return answer

    async def never(_request):
        await stuck.wait()

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await stuck.wait()
        return response

    app = web.Application()
    app.router.add_get("/good/models", listing("llama3.2:latest", "qwen2.5:7b"))
    app.router.add_get("/empty/models", listing())
    app.router.add_get("/us/models", listing("gpt-4o", Server="chat-proxy/1.0"))
    app.router.add_get("/page/models", _html)
    app.router.add_get("/stuck/models", never)
    app.router.add_get("/endless/models", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    names = ("stuck", "good", "empty", "us", "page", "endless", "none")
    yield [Place(name, f"http://127.0.0.1:{port}/{name}") for name in names]
    stuck.set()
    await runner.cleanup()


async def _html(_request):
    return web.Response(text="<html>a router's login page</html>", content_type="text/html")


async def test_those_with_a_list_of_models_count_and_the_others_hold_nobody_up(machine):
    nobody = Place("nobody", f"http://127.0.0.1:{free_port()}/v1")
    started = time.perf_counter()
    found = await ask([nobody, *machine, *machine[:1] * 20], within_s=4.0)
    took = time.perf_counter() - started
    assert {server.place.name: server.models for server in found} == {
        "good": ("llama3.2:latest", "qwen2.5:7b"),
        "empty": (),
    }
    assert took < 20, "those that never answer are waited for at once"
