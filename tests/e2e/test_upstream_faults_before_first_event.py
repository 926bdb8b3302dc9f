"""Group A: what goes wrong before the first meaningful event. Statuses are real and falling back is free."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from typing import Any

import pytest

from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Sleep,
    Split,
    Stall,
    Step,
    Wait,
    chunked,
    event,
    head,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Running, StartProxy
from tests.support.clients import RawClient
from tests.support.ports import free_port

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
HELLO = openai_stream(["Hel", "lo"])


def config(*urls: str, timeouts: str = "{first_token_s: 60}") -> str:
    """One route over as many backends as there are addresses."""
    backends = "\n".join(f'  b{n}: {{kind: openai-compatible, base_url: "{url}"}}' for n, url in enumerate(urls))
    targets = ", ".join(f"b{n}/scripted-1" for n in range(len(urls)))
    return f"backends:\n{backends}\nroutes:\n  - {{name: default, to: [{targets}], timeouts: {timeouts}}}\n"


async def ask(proxy: Running, path: str = "/v1/chat/completions", **more: Any) -> tuple[int, dict[str, str], bytes]:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {**ASK, **more})
        answer = await client.read_head()
        return answer.status, answer.headers, await client.read_body()


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    return error


def told(body: bytes) -> str:
    """The text of an OpenAI stream."""
    chunks = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices", []))


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_an_answer_in_one_piece_may_take_as_long_as_one_does(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    upstream.play(Sleep(0.4), json_reply(200, answer))
    patient = await start_proxy(config(upstream.url, timeouts="{first_token_s: 0.2, whole_s: 5}"))
    status, _, body = await ask(patient, path, stream=False)
    assert (status, b'"hi"' in body) == (200, True), "whatever the contract: the upstream was asked for one piece"
    upstream.play(Stall())
    impatient = await start_proxy(config(upstream.url, timeouts="{whole_s: 0.2}"))
    status, _, body = await ask(impatient, path, stream=False)
    assert status == 504
    assert b"timeouts.whole_s" in body


async def test_A01_connection_refused_falls_back_and_else_is_a_502(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    refused = f"http://127.0.0.1:{free_port()}/v1"
    proxy = await start_proxy(config(refused, upstream.url))
    upstream.play(*HELLO)
    status, _, body = await ask(proxy)
    assert (status, told(body)) == (200, "Hello")
    [record] = await proxy.ended()
    assert [(tried.backend, tried.outcome) for tried in record.attempts] == [("b0", "upstream_connect"), ("b1", "ok")]

    alone = await start_proxy(config(refused))
    status, _, body = await ask(alone)
    assert (status, error_of(body)["code"]) == (502, "upstream_connect")
    assert await alone.end_reason() == "upstream_error"


async def test_A02_a_black_hole_costs_the_connect_timer_and_then_the_next_target_answers(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    with socket.socket() as full:  # its accept queue is, so that further connections are not even refused
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:
            for _ in range(4):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            hole = f"http://127.0.0.1:{port}/v1"
            proxy = await start_proxy(config(hole, upstream.url, timeouts="{connect_s: 0.3}"))
            upstream.play(*HELLO)
            began = time.monotonic()
            assert told((await ask(proxy))[2]) == "Hello"
            assert 0.25 < time.monotonic() - began < 20
            alone = await start_proxy(config(hole, timeouts="{connect_s: 0.3}"))
            status, _, body = await ask(alone)
            assert (status, error_of(body)["code"]) == (504, "upstream_connect")


async def test_A03_one_deadline_for_a_whole_chain_of_stalling_targets(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(*[upstream.url] * 4, timeouts="{first_token_s: 0.8}"))
    upstream.always(Stall())
    for _ in range(5):  # a machine that stands still for a share of it leaves none for the last target
        before, began = len(upstream.requests), time.monotonic()
        status, _, body = await ask(proxy)
        assert (status, error_of(body)["code"]) == (504, "upstream_timeout")
        assert 0.7 < time.monotonic() - began < 60
        if (asked := len(upstream.requests) - before) == 4:
            break
    assert asked == 4
    await upstream.peer_gone(before + 4)
    assert await proxy.end_reason() == "upstream_idle"


async def test_A03_a_stalling_target_leaves_time_for_the_next(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url, timeouts="{first_token_s: 3}"))
    upstream.play(Stall())
    upstream.play(*HELLO)
    status, _, body = await ask(proxy)
    assert (status, told(body)) == (200, "Hello")
    await upstream.peer_gone(1)


PINGS: list[Step] = [step for _ in range(20) for step in (Send(chunked(b": ping\n\n")), Sleep(0.05))]


@pytest.mark.parametrize(
    "preamble",
    [
        pytest.param([Stall()], id="silence"),
        pytest.param([*PINGS, Stall()], id="pings"),
        pytest.param([Send(event(openai_chunk({"role": "assistant", "content": ""}))), Stall()], id="role only"),
    ],
)
async def test_A04_headers_without_content_are_no_answer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, preamble: list[Step]
) -> None:
    proxy = await start_proxy(config(upstream.url, timeouts="{first_token_s: 0.4}"))
    upstream.play(Send(sse_head()), *preamble)
    status, headers, body = await ask(proxy)
    assert (status, error_of(body)["code"]) == (504, "upstream_timeout")
    assert headers["content-type"] == "application/json"
    await upstream.peer_gone(1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "slow down", "type": "rate_limit_error", "code": 429}, 429),
        ({"message": "busy", "type": "overloaded_error", "code": "503"}, 503),
        ({"message": "no such thing", "type": "invalid_request_error", "code": 400}, 400),
    ],
)
async def test_A04_an_error_as_first_event_is_a_real_status(
    start_proxy: StartProxy, upstream: ScriptedUpstream, error: dict[str, Any], status: int
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(Send(sse_head()), Send(event({"error": error})), Send(LAST_CHUNK))
    got, _, body = await ask(proxy)
    assert got == status
    assert error["message"] in error_of(body)["message"]


async def test_A04_an_error_as_first_event_still_falls_back(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url))
    upstream.play(Send(sse_head()), Send(event({"error": {"message": "busy", "code": 503}})), Send(LAST_CHUNK))
    upstream.play(*HELLO)
    status, _, body = await ask(proxy)
    assert (status, told(body)) == (200, "Hello")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
async def test_A05_an_overloaded_target_gives_way_and_else_says_when_to_come_back(
    start_proxy: StartProxy, upstream: ScriptedUpstream, status: int
) -> None:
    busy = json_reply(status, {"error": {"message": "too much"}}, {"retry-after": "7"})
    proxy = await start_proxy(config(upstream.url, upstream.url))
    upstream.play(*busy)
    upstream.play(*HELLO)
    assert told((await ask(proxy))[2]) == "Hello"
    upstream.play(*busy, times=2)
    got, headers, body = await ask(proxy)
    assert (got, headers["retry-after"]) == (status, "7")
    assert "too much" in error_of(body)["message"]
    assert len(upstream.requests) == 4, "each target is tried once"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_A06_the_clients_fault_is_passed_on_without_fallback(
    start_proxy: StartProxy, upstream: ScriptedUpstream, status: int
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url))
    upstream.play(*json_reply(status, {"error": {"message": "bad field", "param": "top_p", "code": "odd"}}))
    got, _, body = await ask(proxy)
    assert got == status
    assert error_of(body) | {"type": ""} == {"message": "bad field", "param": "top_p", "code": "odd", "type": ""}
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_A06_our_key_refused_is_not_the_clients_401(
    start_proxy: StartProxy, upstream: ScriptedUpstream, status: int
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url))
    refused = json_reply(status, {"error": {"message": "Incorrect API key provided: sk-live-abcdefghijklmnop"}})
    upstream.play(*refused)
    upstream.play(*HELLO)
    assert told((await ask(proxy))[2]) == "Hello"
    upstream.play(*refused, times=2)
    got, _, body = await ask(proxy)
    assert (got, error_of(body)["code"]) == (502, "upstream_auth")
    assert b"sk-live" not in body


async def test_A07_a_whole_completion_where_a_stream_was_asked_for_is_streamed(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    message = {"role": "assistant", "content": "Hello"}
    upstream.play(*json_reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    status, _, body = await ask(proxy)
    assert (status, told(body)) == (200, "Hello")
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        pytest.param(json_reply(200, {"error": {"message": "quota", "code": 429}}), 429, id="JSON error"),
        pytest.param(json_reply(200, b"<html>secret login page</html>", {"content-type": "text/html"}), 502, id="HTML"),
        pytest.param(json_reply(200, b"{broken"), 502, id="broken JSON"),
        pytest.param(json_reply(200, {"hello": "world"}), 502, id="some other JSON"),
    ],
)
async def test_A07_what_is_no_answer_is_not_passed_on(
    start_proxy: StartProxy, upstream: ScriptedUpstream, reply: list[Step], status: int
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(*reply)
    got, _, body = await ask(proxy)
    assert got == status
    assert b"login page" not in body
    assert error_of(body)["message"]


async def test_A08_a_pooled_connection_that_died_costs_no_client_an_error(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    for close in (Fin(), Rst()):
        for _ in range(20):
            upstream.play(*HELLO, close)
            status, _, body = await ask(proxy)
            assert (status, told(body)) == (200, "Hello")


async def test_A09_an_early_refusal_reaches_the_client_while_the_body_is_unsent(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(*json_reply(413, {"error": {"message": "too long for me"}}), Fin())
    status, _, body = await ask(proxy, messages=[{"role": "user", "content": "x" * 3_000_000}])
    assert status == 413
    assert error_of(body)["message"] == "too long for me"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param([Send(b"not http at all\r\n\r\n"), Fin()], id="malformed"),
        pytest.param([Send(head(200, {"x-long": "a" * 70_000}))], id="oversized"),
        pytest.param([Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"), Fin()], id="cut"),
    ],
)
async def test_A09_a_broken_head_is_the_upstreams_fault(
    start_proxy: StartProxy, upstream: ScriptedUpstream, reply: list[Step]
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(*reply)
    status, _, body = await ask(proxy)
    assert status == 502
    assert error_of(body)["code"].startswith("upstream_")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_A10_redirects_are_not_followed(start_proxy: StartProxy, upstream: ScriptedUpstream, status: int) -> None:
    async with ScriptedUpstream() as elsewhere:
        proxy = await start_proxy(config(upstream.url))
        upstream.play(*json_reply(status, b"", {"location": elsewhere.url + "/chat/completions"}))
        got, _, body = await ask(proxy)
        assert (got, error_of(body)["code"]) == (502, "upstream_redirect")
        assert elsewhere.connections == 0


async def test_A11_a_target_that_keeps_failing_is_tried_after_the_others(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as other:
        proxy = await start_proxy(config(upstream.url, other.url) + "server: {breaker: {failures: 3, open_s: 30}}\n")
        upstream.always(*json_reply(503, {"error": {"message": "down"}}))
        other.always(*HELLO)
        assert [told((await ask(proxy))[2]) for _ in range(10)] == ["Hello"] * 10
        assert len(upstream.requests) == 3
        last = (await proxy.ended(10))[-1]
        assert [(tried.backend, tried.outcome) for tried in last.attempts] == [("b0", "circuit_open"), ("b1", "ok")]
        async with await RawClient.connect(proxy.port) as client:
            await client.get("/status")
            await client.read_head()
            assert set(json.loads(await client.read_body())["circuits_open"]) == {"b0/scripted-1"}


async def test_A05_A11_in_an_outage_every_target_is_still_tried(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url) + "server: {breaker: {failures: 3, open_s: 30}}\n")
    upstream.always(*json_reply(503, {"error": {"message": "down"}}, {"retry-after": "7"}))
    answers = [await ask(proxy) for _ in range(100)]
    assert {(status, headers["retry-after"]) for status, headers, _ in answers} == {(503, "7")}
    assert 100 < len(upstream.requests) <= 123, "one for each, one more for every fifth, and three at first"
    last = (await proxy.ended(100))[-2]
    assert [(tried.backend, tried.outcome) for tried in last.attempts] == [
        ("b0", "circuit_open"),
        ("b1", "circuit_open"),
        ("b0", "upstream_error"),
        ("b1", "no_budget"),
    ]
    assert answers[-2][1]["x-should-retry"] == "false", "it would be what the budget forbids"


async def test_A05_without_a_budget_a_target_that_is_well_is_asked_all_the_same(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as other:
        proxy = await start_proxy(config(upstream.url, other.url) + "server: {breaker: {failures: 0}}\n")
        upstream.always(*json_reply(503, {"error": {"message": "down"}}))
        other.always(*HELLO)
        assert [told((await ask(proxy))[2]) for _ in range(20)] == ["Hello"] * 20
        assert not proxy.app.states.extra.draw("b0"), "retries are extra work too"


async def test_A11_one_request_probes_a_target_that_failed(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    async with ScriptedUpstream() as other:
        proxy = await start_proxy(config(upstream.url, other.url) + "server: {breaker: {failures: 2, open_s: 30}}\n")
        now = 0.0
        proxy.app.states.now = lambda: now
        upstream.play(*json_reply(503, {"error": {"message": "down"}}), times=2)
        other.always(*HELLO)
        for _ in range(3):
            await ask(proxy)
        assert len(upstream.requests) == 2
        now = 31
        go = asyncio.Event()
        upstream.play(Wait(go), *HELLO)
        probe = asyncio.create_task(ask(proxy))
        await upstream.received(3)
        assert [told((await ask(proxy))[2]) for _ in range(5)] == ["Hello"] * 5
        assert (len(upstream.requests), len(other.requests)) == (3, 8), "one probe at a time"
        go.set()
        assert told((await probe)[2]) == "Hello"
        upstream.play(*HELLO)
        await ask(proxy)
        assert len(upstream.requests) == 4


async def test_A11_requests_that_are_refused_for_what_they_say_do_not_count_against_the_target(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url) + "server: {breaker: {failures: 2, open_s: 30}}\n")
    for status in (400, 422, 401, 403, 400):
        upstream.play(*json_reply(status, {"error": {"message": "no"}}))
        await ask(proxy)
    upstream.play(*HELLO)
    assert told((await ask(proxy))[2]) == "Hello"
    assert proxy.app.states.open_circuits() == {}


FAILURES = {
    "429": json_reply(429, {"error": {"message": "slow down"}}, {"retry-after": "60"}),
    "500": json_reply(500, {"error": {"message": "down"}}),
    "reset": [Rst()],
    "cut before": [Send(sse_head()), Fin()],
    "cut after": [Send(sse_head() + event(openai_chunk({"content": "Hel"}))), Fin()],
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("next_model", ["mine", "theirs"])
async def test_A2_the_only_target_answers_whatever_it_did_to_others(
    start_proxy: StartProxy, upstream: ScriptedUpstream, failure: list[Step], next_model: str
) -> None:
    proxy = await start_proxy(config(upstream.url).replace("b0/scripted-1", "b0"))
    upstream.play(*failure, times=6)
    for _ in range(6):
        await ask(proxy, model="theirs")
    upstream.play(*HELLO)
    status, _, body = await ask(proxy, model=next_model)
    assert (status, told(body)) == (200, "Hello")


async def test_A2_a_429_sends_others_to_the_next_target_and_is_no_failure(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    async with ScriptedUpstream() as other:
        proxy = await start_proxy(config(upstream.url, other.url))
        upstream.play(*FAILURES["429"])
        other.always(*HELLO)
        assert [told((await ask(proxy))[2]) for _ in range(3)] == ["Hello"] * 3
        assert len(upstream.requests) == 1
        last = (await proxy.ended(3))[-1]
        assert [(tried.backend, tried.outcome) for tried in last.attempts] == [("b0", "rate_limit_wait"), ("b1", "ok")]
        assert proxy.app.states.open_circuits() == {}


MODEL_REFUSED = {
    "unknown": json_reply(404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}),
    "too long for it": json_reply(400, {"error": {"message": "This model's maximum context length is 9 tokens"}}),
}


@pytest.mark.parametrize("refusal", MODEL_REFUSED.values(), ids=MODEL_REFUSED)
async def test_N4_a_model_that_the_route_chose_is_followed_by_the_next_target(
    start_proxy: StartProxy, upstream: ScriptedUpstream, refusal: list[Step]
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url))
    upstream.play(*refusal)
    upstream.play(*HELLO)
    status, _, body = await ask(proxy)
    assert (status, told(body)) == (200, "Hello")
    assert proxy.app.states.open_circuits() == {}


@pytest.mark.parametrize("refusal", MODEL_REFUSED.values(), ids=MODEL_REFUSED)
async def test_N4_a_model_that_the_client_chose_is_replaced_by_no_other(
    start_proxy: StartProxy, upstream: ScriptedUpstream, refusal: list[Step]
) -> None:
    proxy = await start_proxy(config(upstream.url, upstream.url).replace("b0/scripted-1", "b0"))
    upstream.play(*refusal)
    status, _, _ = await ask(proxy, model="mine")
    assert status in {400, 404}
    assert len(upstream.requests) == 1


async def test_chat_clients_get_their_error_frame_since_their_headers_are_out(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(*json_reply(503, {"error": {"message": "busy\nvery busy"}}))
    status, _, body = await ask(proxy, "/chat")
    assert status == 200
    assert body.startswith(b"event: error\ndata:")
    assert body.count(b"\n\n") == 1
    assert b"busy very busy" in body


async def test_chat_headers_are_out_before_the_upstream_answers(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(config(upstream.url))
    upstream.play(Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post("/chat", ASK)
        assert (await client.read_head()).status == 200
        await upstream.received(1)
    await upstream.peer_gone(1)
    assert await proxy.end_reason() == "client_gone"


async def test_bytes_one_by_one_make_the_same_answer(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(config(upstream.url))
    wire = b"".join(step.data for step in HELLO if isinstance(step, Send))
    upstream.play(Split(wire, 1))
    assert told((await ask(proxy))[2]) == "Hello"
