"""Group B: what goes wrong after the answer has begun. All that came is delivered, and the end is truthful."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Sleep,
    Stall,
    Step,
    chunked,
    event,
    head,
    openai_chunk,
    openai_stream,
    sse_head,
)
from proxy.testing.upstream import ScriptedUpstream
from tests.support.app import Running, StartProxy, openai_config
from tests.support.clients import RawClient

ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
TOKENS = ["One", " two", " three", " four"]
DONE = b"event: done\ndata:[DONE]\n\n"


class Told:
    """What a client of either contract concluded from an answer."""

    def __init__(self, path: str, status: int, body: bytes, end: str) -> None:
        self.status, self.body, self.end = status, body, end
        frames = [frame for frame in body.decode().split("\n\n") if frame and not frame.startswith(":")]
        if path == "/chat":
            self.text = "".join(frame[5:] for frame in frames if frame.startswith("data:"))
            self.done = "event: done\ndata:[DONE]" in frames
            self.errors = [frame.split("data:", 1)[1] for frame in frames if frame.startswith("event: error")]
        else:
            data = [frame.removeprefix("data: ") for frame in frames]
            self.done = "[DONE]" in data
            chunks = [json.loads(one) for one in data if one != "[DONE]"]
            self.errors = [chunk["error"] for chunk in chunks if "error" in chunk]
            deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]
            self.text = "".join(delta.get("content") or "" for delta in deltas)
            self.finish = [
                choice["finish_reason"]
                for chunk in chunks
                for choice in chunk.get("choices", [])
                if choice.get("finish_reason")
            ]

    def assert_broken_off(self, text: str) -> None:
        """All of `text` came, then one error, and nothing says done (R2)."""
        assert self.text == text
        assert len(self.errors) == 1
        assert not self.done
        assert self.end == "final chunk", "the body ends cleanly after its error frame"
        assert not getattr(self, "finish", [])


PATHS = ["/chat", "/v1/chat/completions"]


async def ask(proxy: Running, path: str, *, within: float = 60, **more: Any) -> Told:
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, {**ASK, **more})
        answer = await client.read_head(within=within)
        body = await client.read_body(within=within)
        return Told(path, answer.status, body, client.end or "")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("leave", [Fin(), Rst()], ids=["FIN", "RST"])
@pytest.mark.parametrize("count", range(1, 5))
async def test_B01_a_cut_after_k_tokens_delivers_k_and_says_so(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, leave: Step, count: int
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[: 2 + count], leave)
    (await ask(proxy, path)).assert_broken_off("".join(TOKENS[:count]))
    [record] = await proxy.ended()
    assert (record.end, record.error_code) == ("upstream_truncated", "upstream_truncated")
    assert record.usage is not None
    assert record.usage.estimated
    assert record.usage.output_tokens == count


async def test_B01_a_cut_tool_call_is_never_finalised(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
    upstream.play(Send(sse_head()), Send(event(openai_chunk({"tool_calls": [call]}))), Fin())
    (await ask(proxy, "/v1/chat/completions")).assert_broken_off("")


@pytest.mark.parametrize("path", PATHS)
async def test_B02_a_close_delimited_body_that_just_ends_is_cut(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    body = b"".join(b"data: %b\n\n" % json.dumps(openai_chunk({"content": token})).encode() for token in TOKENS)
    upstream.play(Send(head(200, {"content-type": "text/event-stream", "connection": "close"}) + body), Fin())
    (await ask(proxy, path)).assert_broken_off("".join(TOKENS))
    assert await proxy.end_reason() == "upstream_truncated"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("finish", "done", "counted"), [("stop", False, True), (None, True, False), ("stop", True, True)]
)
async def test_B03_a_finish_reason_or_the_sentinel_is_an_end(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, finish: str | None, done: bool, counted: bool
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(TOKENS, finish=finish, done=done))
    told = await ask(proxy, path)
    assert (told.text, told.done, told.errors) == ("".join(TOKENS), True, [])
    [record] = await proxy.ended()
    assert (record.end, record.has_finish_reason) == ("done", counted)
    if not counted:
        assert b"chat_proxy_done_without_finish_reason_total" in proxy.app.metrics.exposition()[0]


async def test_B03_one_choice_of_two_finished_is_not_an_end(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    second = openai_chunk({"content": "Two"})
    second["choices"][0]["index"] = 1
    upstream.play(
        Send(sse_head()),
        Send(event(openai_chunk({"content": "One"}))),
        Send(event(second)),
        Send(event(openai_chunk({}, finish="stop"))),
        Send(LAST_CHUNK),
    )
    told = await ask(proxy, "/v1/chat/completions", n=2)
    assert (told.done, len(told.errors)) == (False, 1)
    assert await proxy.end_reason() == "upstream_truncated"


@pytest.mark.parametrize("path", PATHS)
async def test_B04_a_stall_ends_at_the_gap_timer(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{token_gap_s: 0.3}"))
    upstream.play(openai_stream(TOKENS)[:4], Stall())
    began = time.monotonic()
    (await ask(proxy, path)).assert_broken_off("One two")
    assert time.monotonic() - began < 20
    await upstream.peer_gone(1)
    assert await proxy.end_reason() == "upstream_idle"


@pytest.mark.parametrize("path", PATHS)
async def test_B05_pings_do_not_hide_a_stall(start_proxy: StartProxy, upstream: ScriptedUpstream, path: str) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{token_gap_s: 0.4}"))
    pings = [step for _ in range(100) for step in (Send(chunked(b": ping\n\n")), Sleep(0.02))]
    upstream.play(openai_stream(TOKENS)[:4], pings)
    (await ask(proxy, path)).assert_broken_off("One two")
    assert await proxy.end_reason() == "upstream_idle"


async def test_B05_a_drip_ends_at_the_total_timer(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{token_gap_s: 0.5, total_s: 0.8}"))
    drip = [step for _ in range(100) for step in (Send(event(openai_chunk({"content": "x"}))), Sleep(0.1))]
    upstream.play(Send(sse_head()), drip)
    told = await ask(proxy, "/chat")
    assert (told.done, len(told.errors)) == (False, 1)
    assert await proxy.end_reason() == "limit"
    await upstream.peer_gone(1)


async def test_B06_pauses_shorter_than_the_timers_kill_nothing(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{first_token_s: 1.2, token_gap_s: 1}"))
    upstream.play(*openai_stream(TOKENS, gap_s=0.35))  # in all longer than either timer
    told = await ask(proxy, "/chat")
    assert (told.text, told.done) == ("".join(TOKENS), True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("begun", [1, 4], ids=["before the first token", "between two"])
async def test_B06_what_came_while_the_process_stood_still_is_no_silence(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, begun: int
) -> None:
    """As after Ctrl-Z, or on a machine that is far too busy: the bytes are there, and nobody has read them yet."""
    proxy = await start_proxy(openai_config(upstream.url, timeouts="{first_token_s: 0.4, token_gap_s: 0.4}"))
    steps = openai_stream(TOKENS)
    upstream.play(steps[:begun], Stall())
    async with await RawClient.connect(proxy.port) as client:
        await client.post(path, ASK)
        await upstream.received(1)
        if begun == 4:
            await client.read_head()
            await client.read_until(b" two")
        (connection,) = upstream._live
        os.write(connection._transport.get_extra_info("socket").fileno(), b"".join(step.data for step in steps[begun:]))
        time.sleep(0.6)
        if begun == 1:
            await client.read_head()
        assert b" four" in await client.read_body()
    assert await proxy.end_reason() == "done"


@pytest.mark.parametrize("path", PATHS)
async def test_B07_an_error_event_in_the_middle_is_passed_on_once(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    error = {"error": {"message": "overloaded,\nsorry sk-live-abcdefghijklmnopqrstu", "type": "overloaded_error"}}
    upstream.play(openai_stream(TOKENS)[:4], Send(event(error)), openai_stream([])[-2:])
    told = await ask(proxy, path)
    told.assert_broken_off("One two")
    assert b"overloaded" in told.body
    assert b"sk-live" not in told.body
    assert await proxy.end_reason() == "upstream_error"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rubbish", ['{"choices": [{"delta"', "[1, 2]", '"text"'])
async def test_B08_what_is_no_chunk_ends_as_malformed(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str, rubbish: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[:4], Send(event(rubbish)), openai_stream(TOKENS)[4:])
    (await ask(proxy, path)).assert_broken_off("One two")
    assert await proxy.end_reason() == "upstream_malformed"


async def test_B08_unknown_fields_do_no_harm(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    odd = openai_chunk({"content": "x", "strange": {"deep": [None]}}, obfuscation="zzz", new_thing=1)
    upstream.play(Send(sse_head()), Send(event(odd)), openai_stream([])[2:])
    told = await ask(proxy, "/v1/chat/completions")
    assert (told.text, told.done) == ("x", True)
    assert b'"strange":{"deep":[null]}' in told.body


@pytest.mark.parametrize("path", PATHS)
async def test_B08_unknown_objects_do_no_harm(start_proxy: StartProxy, upstream: ScriptedUpstream, path: str) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    odd = Send(event('{"object": "something.else"}'))
    upstream.play(openai_stream(TOKENS)[:4], odd, openai_stream(TOKENS)[4:])
    told = await ask(proxy, path)
    assert told.text == "".join(TOKENS)
    assert told.done


@pytest.mark.parametrize("path", PATHS)
async def test_B09_one_event_of_a_megabyte_passes_intact(
    start_proxy: StartProxy, upstream: ScriptedUpstream, path: str
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    big = "wörd " * 200_000 + "."
    upstream.play(*openai_stream([big]))
    told = await ask(proxy, path)
    assert told.text == big
    assert told.done


async def test_B09_an_event_past_the_limit_is_refused_without_being_kept(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[:4], Send(chunked(b'data: {"a":"')), Send(chunked(b"x" * 65536), times=400))
    tracemalloc.start()
    try:
        (await ask(proxy, "/chat")).assert_broken_off("One two")
        assert tracemalloc.get_traced_memory()[1] < 3 * 4_000_000
    finally:
        tracemalloc.stop()
    assert await proxy.end_reason() == "frame_too_large"
    await upstream.peer_gone(1)


async def test_B09_an_endless_answer_ends_at_the_limit(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url, server="{limits: {answer_mb: 1}}"))
    upstream.play(Send(sse_head()), Send(event(openai_chunk({"content": "x" * 1000})), times=10_000))
    told = await ask(proxy, "/chat")
    assert (told.done, len(told.errors)) == (False, 1)
    assert await proxy.end_reason() == "limit"
    await upstream.peer_gone(1)


async def test_B09_bytes_after_the_end_are_ignored_and_the_connection_is_not_used_again(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    endless = [step for _ in range(200) for step in (Send(event(openai_chunk({"content": "late"}))), Sleep(0.01))]
    upstream.play(openai_stream(TOKENS)[:-1], endless)
    upstream.play(*openai_stream(TOKENS))
    for _ in range(2):
        told = await ask(proxy, "/chat")
        assert (told.text, told.done) == ("".join(TOKENS), True)
    assert [seen.connection_number for seen in upstream.requests] == [1, 2]


TEXT = "Grüße 🙂 你好\r\nnext [DONE] data: x 👩‍👩‍👧 end"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_B10_the_text_is_the_same_however_the_bytes_fall(
    start_proxy: StartProxy, upstream: ScriptedUpstream, size: int
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    lines = [f"data: {json.dumps(openai_chunk({'content': TEXT}), ensure_ascii=False)}\r\n\r\n", "data: [DONE]\r\n\r\n"]
    whole = "".join(lines).encode()
    steps = [Send(chunked(whole[i : i + size])) for i in range(0, len(whole), size)]
    upstream.play(Send(sse_head()), steps, Send(LAST_CHUNK))
    told = await ask(proxy, "/v1/chat/completions")
    assert (told.text, told.done) == (TEXT, True)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"data: %b\r\rdata: [DONE]\r\r", id="CR only"),
        pytest.param(b"\xef\xbb\xbfdata: %b\n\ndata: [DONE]\n\n", id="BOM"),
        pytest.param(b": hello\n\nevent: x\nid: 7\nretry: 10\ndata:%b\n\n:\n\ndata:[DONE]\n\n", id="all fields"),
    ],
)
async def test_B11_every_form_of_event_stream_is_read(
    start_proxy: StartProxy, upstream: ScriptedUpstream, body: bytes
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    content = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    data = json.dumps(openai_chunk({"content": content}), ensure_ascii=False).encode()
    upstream.play(Send(sse_head()), Send(chunked(body % data)), Send(LAST_CHUNK))
    told = await ask(proxy, "/v1/chat/completions")
    assert (told.text, told.done) == (content, True)
    assert b"id:" not in told.body.replace(b'"id":', b"")
    assert b"retry:" not in told.body


async def test_B11_an_unfinished_last_event_is_a_cut(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(openai_stream(TOKENS)[:4], Send(chunked(b"data: [DONE]\n")), Send(LAST_CHUNK))
    (await ask(proxy, "/chat")).assert_broken_off("One two")


def gzipped(cut: int | None = None) -> list[Step]:
    squeeze = zlib.compressobj(wbits=31)
    plain = [b"data: %b\n\n" % json.dumps(openai_chunk({"content": token})).encode() for token in TOKENS]
    pieces = [squeeze.compress(one) + squeeze.flush(zlib.Z_SYNC_FLUSH) for one in [*plain, b"data: [DONE]\n\n"]]
    pieces.append(squeeze.flush())
    return [Send(sse_head(content_encoding="gzip")), *(Send(chunked(one)) for one in pieces[:cut]), Send(LAST_CHUNK)]


async def test_B12_a_compressed_stream_is_read_as_it_comes_and_a_cut_one_is_cut(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*gzipped())
    told = await ask(proxy, "/chat")
    assert (told.text, told.done) == ("".join(TOKENS), True)
    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    upstream.play(*gzipped(2))
    (await ask(proxy, "/chat")).assert_broken_off("One two")


async def test_B12_a_compressed_bomb_is_refused(start_proxy: StartProxy, upstream: ScriptedUpstream) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    bomb = await asyncio.to_thread(gzip.compress, b"data: " + b"x" * 100_000_000)
    upstream.play(Send(sse_head(content_encoding="gzip")), Send(chunked(bomb)), Send(LAST_CHUNK))
    tracemalloc.start()
    try:
        told = await ask(proxy, "/chat")
        assert (told.text, told.done, len(told.errors)) == ("", False, 1)
        assert tracemalloc.get_traced_memory()[1] < 3 * 4_000_000
    finally:
        tracemalloc.stop()


async def test_B14_usage_is_the_upstreams_where_it_gave_any(
    start_proxy: StartProxy, upstream: ScriptedUpstream
) -> None:
    proxy = await start_proxy(openai_config(upstream.url))
    upstream.play(*openai_stream(TOKENS, usage={"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}))
    told = await ask(proxy, "/v1/chat/completions")
    assert b'"usage"' not in told.body.replace(b'"usage":null', b""), "the client did not ask for it"
    [record] = await proxy.ended()
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens, record.usage.estimated) == (11, 22, False)
    assert upstream.requests[0].json()["stream_options"] == {"include_usage": True}
