"""Names are looked up once for many, and for a while."""

from __future__ import annotations

import asyncio
import socket

import pytest

from proxy.transport.names import Resolver

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("192.0.2.1", 80))]


@pytest.fixture
def asked(monkeypatch):
    """Names the system was asked for; the answers wait until `answered` is set."""
    names: list[str] = []

    class Asked(list[str]):
        answered = asyncio.Event()

    names = Asked()

    async def getaddrinfo(host, port, **more):
        names.append(host)
        await names.answered.wait()
        if host == "bad":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return FOUND

    return names, getaddrinfo


@pytest.fixture
def resolver(asked):
    return Resolver(ttl_s=60)


@pytest.fixture(autouse=True)
async def system(asked, monkeypatch):
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", asked[1], raising=False)


async def test_concurrent_look_ups_share_one_question(asked, resolver):
    both = asyncio.gather(resolver.addresses("far", 80), resolver.addresses("far", 80))
    await asyncio.sleep(0)
    asked[0].answered.set()
    assert await both == [FOUND, FOUND]
    assert asked[0] == ["far"]


async def test_an_answer_is_remembered_until_it_is_old_or_forgotten(asked, resolver, monkeypatch):
    asked[0].answered.set()
    for _ in range(3):
        assert await resolver.addresses("far", 80) == FOUND
    assert asked[0] == ["far"]
    resolver.forget("far", 80)
    await resolver.addresses("far", 80)
    assert asked[0] == ["far"] * 2
    loop = asyncio.get_running_loop()
    later = loop.time() + 61
    monkeypatch.setattr(loop, "time", lambda: later)
    await resolver.addresses("far", 80)
    assert asked[0] == ["far"] * 3


async def test_a_failure_is_told_to_all_and_not_remembered(asked, resolver):
    asked[0].answered.set()
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await resolver.addresses("bad", 80)
    assert asked[0] == ["bad"] * 2


async def test_one_cancelled_caller_does_not_cancel_the_other(asked, resolver):
    first = asyncio.create_task(resolver.addresses("far", 80))
    second = asyncio.create_task(resolver.addresses("far", 80))
    await asyncio.sleep(0)
    first.cancel()
    asked[0].answered.set()
    assert await second == FOUND
    assert first.cancelled()


async def test_closing_ends_a_look_up_that_hangs(asked, resolver):
    waiting = asyncio.create_task(resolver.addresses("far", 80))
    await asyncio.sleep(0)
    await resolver.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", ("127.0.0.1", 80)), ("::1", ("::1", 80, 0, 0)), ("2001:db8::1", None)]
)
async def test_an_address_needs_no_question(asked, resolver, host, address):
    (info,) = await resolver.addresses(host, 80)
    assert info[4] == (address or (host, 80, 0, 0))
    assert asked[0] == []


@pytest.mark.parametrize("host", ["far.example", "1.2.3.4.example", "host1"])
async def test_a_name_that_only_looks_like_an_address_is_asked_for(asked, resolver, host):
    asked[0].answered.set()
    assert await resolver.addresses(host, 80) == FOUND
    assert asked[0] == [host]
