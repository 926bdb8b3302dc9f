"""Kind `anthropic` over real sockets: who asks whom, in which version, and what comes back of the same dialect."""

from pathlib import Path

import msgspec
import pytest
from pydantic import ValidationError

from proxy.backends.anthropic import AnthropicSettings
from proxy.contracts.anthropic.request import decode_request
from proxy.errors import UpstreamFailed, UpstreamRefused, UpstreamTruncated
from proxy.events import Fault, Finish, Start, TextDelta
from proxy.request import Message, Text, Usage
from proxy.testing.script import LAST_CHUNK, Fin, Send, Stall, chunked, head, json_reply, sse_head
from proxy.testing.wires import AnthropicWire, answer
from tests.support.wire import backend, batches, chat, events, failure

CANARY = "sk-ant-canary-1234567890abcdef"
FOREIGN = (Path(__file__).parents[1] / "contracts/golden/anthropic-foreign.sse").read_bytes()
WIRE = AnthropicWire()


def row(upstream, **more):
    return {"kind": "anthropic", "base_url": upstream.origin, "api_key": CANARY, **more}


def theirs(*, headers=(), **fields):
    """A request of the same dialect."""
    body = {"model": "asked", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    return decode_request(msgspec.json.encode({**body, **fields}), id="r1", headers=dict(headers))


async def seen(upstream, request=None, **more):
    """What the upstream is asked."""
    upstream.play(answer(WIRE, ["a"]))
    async with backend(row(upstream, **more)) as far:
        await events(far, request)
    return upstream.requests[-1]


@pytest.mark.parametrize("stream", [True, False])
async def test_U7_an_event_stream_labelled_as_json_is_read_as_one(upstream, stream):
    frames = list(answer(WIRE, ["a", "b"]))[1:]
    upstream.play(head(200, {"transfer-encoding": "chunked", "content-type": "application/json"}), *frames)
    async with backend(row(upstream)) as far:
        got = await events(far, chat(stream=stream))
    assert [event.text for event in got if isinstance(event, TextDelta)] == ["a", "b"]
    assert isinstance(got[-1], Finish)


# what is sent


async def test_a_request_goes_to_the_configured_address_with_our_key(upstream):
    asked = await seen(upstream, headers={"X-Title": "t"}, query={"v": "1 2"})
    assert (asked.method, asked.path) == ("POST", "/v1/messages?v=1+2")
    assert asked.json() == {
        "model": "m",
        "max_tokens": 16384,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
    }
    assert asked.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "content-type": "application/json",
        "content-length": str(len(asked.body)),
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "x-api-key": CANARY,
        "anthropic-version": "2023-06-01",
        "user-agent": asked.headers["user-agent"],
        "x-title": "t",
    }


async def test_the_key_may_be_a_bearer_and_the_address_end_in_a_version(upstream):
    asked = await seen(upstream, auth="bearer", base_url=f"{upstream.origin}/v1/")
    assert asked.path == "/v1/messages"
    assert asked.headers["authorization"] == f"Bearer {CANARY}"
    assert "x-api-key" not in asked.headers


async def test_the_length_of_an_answer_is_the_requests_or_the_rows(upstream):
    assert (await seen(upstream, max_tokens=77)).json()["max_tokens"] == 77
    assert (await seen(upstream, chat(params={"max_tokens": 5}), max_tokens=77)).json()["max_tokens"] == 5


@pytest.mark.parametrize(
    ("client", "configured", "sent"),
    [
        ({"anthropic-version": "2026-10-21"}, None, "2026-10-21"),
        ({"anthropic-version": "2026-10-21"}, "2023-06-01", "2023-06-01"),
        ({"anthropic-version": "latest\tplease"}, None, "2023-06-01"),
        ({}, None, "2023-06-01"),
        ({}, "2026-10-21", "2026-10-21"),
    ],
)
async def test_the_api_version_is_the_rows_or_the_clients_or_the_first(upstream, client, configured, sent):
    more = {"version": configured} if configured else {}
    asked = await seen(upstream, theirs(headers=client, temperature=0.7), **more)
    assert asked.headers["anthropic-version"] == sent
    assert ("temperature" in asked.json()) == (sent == "2023-06-01")


async def test_the_version_that_a_client_of_another_dialect_names_is_not_meant_for_anthropic(upstream):
    asked = await seen(upstream, chat(headers={"anthropic-version": "2026-10-21", "anthropic-beta": "x"}))
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in asked.headers


async def test_betas_of_the_client_and_of_the_row_go_together(upstream):
    client = {"anthropic-beta": "a-1,b-2"}
    assert (await seen(upstream, theirs(headers=client))).headers["anthropic-beta"] == "a-1,b-2"
    ours = {"headers": {"Anthropic-Beta": "c-3"}}
    assert (await seen(upstream, theirs(headers=client), **ours)).headers["anthropic-beta"] == "c-3,a-1,b-2"
    assert (await seen(upstream, **ours)).headers["anthropic-beta"] == "c-3"


async def test_H05_no_other_header_of_the_client_leaves(upstream):
    client = {
        "x-api-key": "client-key",
        "authorization": "Bearer client-key",
        "cookie": "c=1",
        "x-a": "1",
        "x-b": "2",
        "x-stainless-os": "Linux",
    }
    asked = await seen(upstream, theirs(headers=client), forward_headers=["X-A"])
    assert b"client-key" not in asked.raw_head
    assert not {"cookie", "x-b", "x-stainless-os"} & asked.headers.keys()
    assert asked.headers["x-a"] == "1"


async def test_H08_a_client_of_the_same_dialect_cannot_choose_where_its_request_goes(upstream):
    hostile = {"api_base": "http://10.0.0.1", "api_key": "theirs", "extra_headers": {"x": "y"}, "timeout": 1}
    asked = await seen(upstream, theirs(**hostile, metadata={"user_id": "u", "base_url": "http://10.0.0.1"}))
    assert asked.json() == {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "metadata": {"user_id": "u"},
    }


# what comes back


async def passed(built, request):
    found = await batches(built, request)
    return [event for batch in found for event in batch.events], b"".join(p for b in found for p in b.payloads)


@pytest.mark.parametrize("size", [1, 100, 100_000])
async def test_a_stream_of_the_same_dialect_comes_back_byte_for_byte(upstream, size):
    pieces = [Send(chunked(FOREIGN[at : at + size])) for at in range(0, len(FOREIGN), size)]
    upstream.play(Send(sse_head()), pieces, Send(LAST_CHUNK))
    async with backend(row(upstream)) as far:
        found, payloads = await passed(far, theirs())
    assert payloads == FOREIGN
    assert isinstance(found[-1], Finish)


async def test_for_a_client_of_another_dialect_only_events_come_back(upstream):
    upstream.play(answer(WIRE, ["a"]))
    async with backend(row(upstream)) as far:
        assert await passed(far, chat()) == (
            [Start("msg_1", "scripted-1"), TextDelta("a"), Finish("stop", Usage(11, 7))],
            b"",
        )


async def test_a_whole_answer_of_the_same_dialect_comes_back_as_it_is(upstream):
    upstream.play(WIRE.whole("hi"))
    async with backend(row(upstream)) as far:
        (batch,) = await batches(far, theirs(stream=False))
    assert (batch.dialect, msgspec.json.decode(batch.whole)["content"][0]["text"]) == ("anthropic-messages", "hi")
    assert upstream.requests[0].json()["stream"] is False
    assert upstream.requests[0].headers["accept"] == "application/json"


async def test_an_answer_is_complete_with_its_stop_reason_even_if_the_rest_never_comes(upstream, monkeypatch):
    monkeypatch.setattr("proxy.contracts.anthropic.stream.StreamDecoder.finished_s", 0.05)
    for rest in (Stall(), Fin()):
        upstream.play(WIRE.begun(["a"]), WIRE.end()[:2], rest)
        async with backend(row(upstream)) as far:
            assert (await events(far))[-1] == Finish("stop", Usage(11, 7))


async def test_a_connection_is_used_again_after_a_complete_answer(upstream, monkeypatch):
    monkeypatch.setattr("proxy.backends.streaming.LAST_BYTES_S", 10.0)  # a busy machine may be late
    upstream.always(answer(WIRE, ["a"]))
    async with backend(row(upstream)) as far:
        for _ in range(3):
            await events(far)
    assert upstream.connections == 1


async def test_an_error_before_the_answer_is_a_real_one_and_inside_it_a_fault(upstream):
    upstream.play(Send(sse_head()), WIRE.error_inside("busy"))
    upstream.play(WIRE.begun(["a"]), WIRE.error_inside("busy"))
    upstream.play(json_reply(529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}))
    upstream.play(json_reply(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}))
    async with backend(row(upstream)) as far:
        told = await failure(far)
        assert (type(told), told.status, told.message) == (UpstreamFailed, 529, "busy")
        end = (await events(far))[-1]
        assert isinstance(end, Fault)
        assert (type(end.error), end.error.status, end.usage) == (UpstreamFailed, 529, Usage(11, 1, estimated=True))
        assert (await failure(far)).status == 529
        assert isinstance(await failure(far), UpstreamRefused)


async def test_a_cut_tool_call_is_never_finished(upstream):
    begun = WIRE.event("content_block_start", index=0, content_block={"type": "tool_use", "id": "c", "name": "f"})
    piece = WIRE.event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"a'})
    upstream.play(WIRE.opened(), begun, piece, Fin())
    async with backend(row(upstream)) as far:
        end = (await events(far, chat(messages=(Message("user", (Text("hi"),)),))))[-1]
    assert isinstance(end, Fault)
    assert isinstance(end.error, UpstreamTruncated)


# the config


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "${ANTHROPIC_API_KEY}"),
        ({"base_url": "https://api.anthropic.com/v1"}, "${ANTHROPIC_API_KEY}"),
        ({"api_key": "k", "version": "yesterday"}, "2023-06-01"),
        ({"api_key": "k", "max_tokens": 0}, "max_tokens"),
        ({"api_key": "k", "auth": "basic"}, "bearer"),
        ({"api_key": "k", "base_url": "ftp://x"}, "https://"),
        ({"api_key": "k", "forward_headers": ["x-api-key"]}, "never forwarded"),
    ],
)
def test_a_mistake_in_the_config_says_what_to_do(fields, says):
    with pytest.raises(ValidationError) as refused:
        AnthropicSettings.model_validate({"kind": "anthropic", **fields})
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": "k"},
        {"headers": {"Authorization": "Bearer k"}},
        {"headers": {"X-Api-Key": "k"}},
        {"base_url": "http://127.0.0.1:8000"},
    ],
)
def test_a_key_may_be_a_header_and_a_local_server_needs_none(fields):
    AnthropicSettings.model_validate({"kind": "anthropic", **fields})
