"""The wire over real sockets: what is sent, what each answer is taken for, and who closes."""

import asyncio
from contextlib import aclosing
from email.utils import formatdate

import msgspec
import pytest
from pydantic import ValidationError

from proxy.backends.base import Resources
from proxy.backends.http import retry_after
from proxy.backends.openai.compatible import PRESETS, CompatibleBackend, CompatibleSettings, PresetName
from proxy.contracts.openai.request import decode_request
from proxy.errors import (
    FrameTooLarge,
    ModelRefused,
    UpstreamAuth,
    UpstreamConnect,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRedirect,
    UpstreamRefused,
    UpstreamTruncated,
)
from proxy.events import Fault, Finish, Start, TextDelta
from proxy.request import Usage
from proxy.routing.plan import Target
from proxy.testing.script import (
    LAST_CHUNK,
    Fin,
    Rst,
    Send,
    Sleep,
    Split,
    Stall,
    Wait,
    chunked,
    event,
    head,
    json_reply,
    openai_chunk,
    openai_stream,
    sse_head,
)
from tests.support.said import says
from tests.support.wire import backend, batches, chat, events, failure

CANARY = "sk-canary-1234567890abcdef"


def row(upstream, **more):
    return {"kind": "openai-compatible", "base_url": upstream.url, "api_key": CANARY, **more}


# what is sent


async def test_a_request_goes_to_the_configured_address_with_our_key(upstream):
    upstream.play(openai_stream(["a"]))
    async with backend(row(upstream, headers={"X-Title": "t"}, query={"v": "1 2"})) as far:
        await events(far)
    seen = upstream.requests[0]
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions?v=1+2")
    assert seen.json() == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert seen.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "content-type": "application/json",
        "content-length": str(len(seen.body)),
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "authorization": f"Bearer {CANARY}",
        "user-agent": seen.headers["user-agent"],
        "x-title": "t",
    }
    assert seen.headers["user-agent"].startswith("chat-proxy/")


@pytest.mark.parametrize(
    ("id_", "passed"),
    [
        ("0af7651916cd43dd8448eb211c80319c", True),
        ("0AF76519-16cd-43dd-8448-eb211c80319c", True),
        ("chosen.by-them", False),
    ],
)
async def test_only_a_request_id_that_every_server_takes_is_passed_on(upstream, id_, passed):
    upstream.play(openai_stream(["a"]))
    async with backend(row(upstream)) as far:
        await events(far, chat(id=id_))
    assert upstream.requests[0].headers.get("x-request-id") == (id_ if passed else None)


async def test_H05_no_header_of_the_client_leaves_unless_it_is_named(upstream):
    upstream.play(openai_stream(["a"]))
    client = {"authorization": "Bearer client-key", "cookie": "c=1", "x-api-key": "client-key", "x-a": "1", "x-b": "2"}
    async with backend(row(upstream, api_key=CANARY, forward_headers=["X-A", "X-C"])) as far:
        await events(far, chat(headers=client))
    seen = upstream.requests[0]
    assert b"client-key" not in seen.raw_head
    assert "cookie" not in seen.headers
    assert seen.headers["x-a"] == "1"
    assert "x-b" not in seen.headers


async def test_without_a_key_none_is_sent(upstream):
    upstream.play(openai_stream(["a"]))
    async with backend({"kind": "openai-compatible", "base_url": upstream.url + "/"}) as far:
        await events(far)
    assert "authorization" not in upstream.requests[0].headers
    assert upstream.requests[0].path == "/v1/chat/completions"


async def test_a_header_of_the_config_replaces_ours(upstream):
    upstream.play(openai_stream(["a"]))
    async with backend(row(upstream, headers={"AUTHORIZATION": "Token t", "User-Agent": "me"})) as far:
        await events(far)
    assert upstream.requests[0].headers["authorization"] == "Token t"
    assert upstream.requests[0].headers["user-agent"] == "me"


@pytest.mark.parametrize(
    ("preset", "sent"),
    [
        ({}, set()),
        ({"preset": "ollama"}, {"reasoning_effort"}),
        ({"preset": "vllm"}, {"top_k", "min_p", "reasoning_effort", "chat_template_kwargs"}),
    ],
)
async def test_a_hint_goes_to_servers_that_are_known_to_take_it(upstream, preset, sent):
    upstream.play(openai_stream(["a"]))
    hints = {"top_k": 40, "min_p": 0.1, "reasoning_effort": "low"}
    async with backend(row(upstream, **preset)) as far:
        await events(far, chat(params={"temperature": 1, **hints}, hints=frozenset(hints)))
    assert (
        upstream.requests[0].json().keys() - {"model", "messages", "stream", "stream_options"} == {"temperature"} | sent
    )


async def test_usage_is_not_asked_of_servers_that_refuse_to_be_asked(upstream):
    upstream.play(openai_stream(["a"]))
    async with backend(row(upstream, include_usage=False, max_tokens_name="max_completion_tokens")) as far:
        await events(far, chat(params={"max_tokens": 5}))
    body = upstream.requests[0].json()
    assert "stream_options" not in body
    assert body["max_completion_tokens"] == 5


# streams


async def test_a_stream_is_read_as_it_comes(upstream):
    more = asyncio.Event()
    steps = openai_stream(["Hel", "lo"], usage={"prompt_tokens": 3, "completion_tokens": 2})
    upstream.play(steps[:3], Wait(more), steps[3:])
    async with backend(row(upstream)) as far, aclosing(far.stream(chat(), Target("far", "m"))) as stream:
        seen = []
        async for batch in stream:
            seen += batch.events
            if TextDelta("Hel") in batch.events:
                more.set()  # only now does the upstream go on: nothing was held back
    assert seen == [
        Start("chatcmpl-scripted", "scripted-1"),
        TextDelta("Hel"),
        TextDelta("lo"),
        Finish("stop", Usage(3, 2)),
    ]


async def test_the_usage_that_we_asked_for_is_kept_from_a_client_that_did_not(upstream):
    upstream.always(openai_stream(["a"], usage={"prompt_tokens": 3, "completion_tokens": 2}))
    body = b'{"messages":[{"role":"user","content":"hi"}],"stream":true%b}'
    asked = decode_request(body % b',"stream_options":{"include_usage":true}', id="r1")
    async with backend(row(upstream)) as far:
        hidden = [p for batch in await batches(far, decode_request(body % b"", id="r1")) for p in batch.payloads]
        shown = [p for batch in await batches(far, asked) for p in batch.payloads]
    assert len(shown) == len(hidden) + 1
    assert b'"usage"' in shown[-1]


async def test_B10_bytes_may_fall_anywhere(upstream):
    text = "👩‍💻 é\u2028 [DONE]"
    raw = b"".join(step.data for step in openai_stream([text])[1:-1])
    upstream.play(Send(sse_head()), Split(raw, 1), LAST_CHUNK)
    async with backend(row(upstream)) as far:
        assert await events(far) == [Start("chatcmpl-scripted", "scripted-1"), TextDelta(text), Finish()]


async def test_a_connection_serves_the_next_request_even_if_the_end_comes_late(upstream, monkeypatch):
    monkeypatch.setattr("proxy.backends.streaming.LAST_BYTES_S", 10.0)  # a busy machine may be late
    steps = openai_stream(["a"])
    upstream.always(steps[:-1], Sleep(0.01), steps[-1])
    async with backend(row(upstream)) as far:
        for _ in range(3):
            assert isinstance((await events(far))[-1], Finish)
    assert upstream.connections == 1


async def test_B09_bytes_after_the_sentinel_are_ignored_and_their_connection_is_not_used_again(upstream):
    steps = openai_stream(["a"])
    upstream.always(steps[:-1], event(openai_chunk({"content": "late"})), Stall())
    async with backend(row(upstream)) as far:
        assert (await events(far))[1:] == [TextDelta("a"), Finish()]
        await upstream.peer_gone(1)


@pytest.mark.parametrize("cut", [Fin(), Rst(), Send(LAST_CHUNK)])
async def test_B01_a_cut_after_content_is_a_fault_after_all_that_came(upstream, cut):
    upstream.play(openai_stream(["a", "b"])[:4], cut)
    async with backend(row(upstream)) as far:
        seen = await events(far)
    assert seen[1:3] == [TextDelta("a"), TextDelta("b")]
    assert isinstance(seen[3], Fault)
    assert isinstance(seen[3].error, UpstreamTruncated)


async def test_B02_a_body_that_only_its_connection_delimits_is_no_success(upstream):
    upstream.play(
        head(200, {"content-type": "text/event-stream", "connection": "close"}),
        b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
        Fin(),
    )
    async with backend(row(upstream)) as far:
        assert isinstance((await events(far))[-1], Fault)


@pytest.mark.parametrize("end", [Fin(), Rst(), Stall()])
async def test_B03_what_happens_after_the_finish_reason_cannot_undo_it(upstream, end, monkeypatch):
    monkeypatch.setattr("proxy.wire.stream_end.StreamEnd.finished_s", 0.05)
    upstream.play(openai_stream(["a"], done=False)[:-1], end)
    async with backend(row(upstream)) as far:
        assert (await events(far))[-1] == Finish("stop")


async def test_U2_keep_alives_after_the_finish_reason_do_not_hold_a_client(upstream, monkeypatch):
    monkeypatch.setattr("proxy.wire.stream_end.StreamEnd.finished_s", 0.3)
    pings = [step for _ in range(6000) for step in (Sleep(0.02), chunked(b": ping\n\n"))]
    upstream.play(openai_stream(["a"], done=False)[:-1], pings, Stall())
    async with backend(row(upstream)) as far:
        async with asyncio.timeout(60):
            assert (await events(far))[-1] == Finish("stop")


async def test_U2_content_after_a_finish_reason_is_waited_for_and_passed_on(upstream, monkeypatch):
    monkeypatch.setattr("proxy.wire.stream_end.StreamEnd.finished_s", 0.2)
    early = [event(openai_chunk({"content": "Look. "}, finish="stop"))]
    late = [event(openai_chunk({"content": "42"})), event(openai_chunk({}, finish="stop")), event("[DONE]")]
    upstream.play(sse_head(), early, Sleep(0.6), late, LAST_CHUNK)  # with content: more may come at any time
    upstream.play(
        sse_head(), event(openai_chunk({"content": "Look. "})), event(openai_chunk({}, finish="stop")), late, LAST_CHUNK
    )
    async with backend(row(upstream)) as far:
        for _ in range(2):
            seen = await events(far)
            assert [one.text for one in seen if isinstance(one, TextDelta)] == ["Look. ", "42"]
            assert seen[-1] == Finish("stop")


async def test_a_cut_before_content_raises_so_that_another_target_may_be_tried(upstream):
    upstream.play(openai_stream(["a"])[:2], Fin())
    async with backend(row(upstream)) as far:
        assert isinstance(await failure(far), UpstreamTruncated)


async def test_A04_a_first_event_that_is_an_error_raises_with_its_status(upstream):
    upstream.play(sse_head(), event({"error": {"message": "busy", "code": 503}}), LAST_CHUNK)
    async with backend(row(upstream)) as far:
        error = await failure(far)
    assert (type(error), error.status, error.message) == (UpstreamFailed, 503, "busy")


async def test_B09_an_event_past_the_limit_is_refused(upstream):
    upstream.play(openai_stream(["x" * 2000]))
    async with backend(row(upstream), frame_bytes=1000) as far:
        assert isinstance(await failure(far), FrameTooLarge)


# whole answers

COMPLETION = {
    "id": "c1",
    "model": "up",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}


async def test_an_unstreamed_answer_keeps_its_body(upstream):
    upstream.play(json_reply(200, COMPLETION))
    async with backend(row(upstream)) as far:
        (batch,) = await batches(far, chat(stream=False, dialect="openai-chat"))
    assert upstream.requests[0].headers["accept"] == "application/json"
    assert upstream.requests[0].json()["stream"] is False
    assert batch.whole.startswith(b'{"id": "c1"')
    assert batch.events == [Start("c1", "up"), TextDelta("hi"), Finish("stop", Usage(1, 1))]


async def test_A07_a_completion_where_a_stream_was_asked_is_an_answer(upstream):
    upstream.play(json_reply(200, COMPLETION))
    async with backend(row(upstream)) as far:
        (batch,) = await batches(far)
    assert batch.events == [Start("c1", "up"), TextDelta("hi"), Finish("stop", Usage(1, 1))]
    assert (batch.whole, batch.dialect) == (b"", "")


async def test_a_stream_where_none_was_asked_is_an_answer_too(upstream):
    upstream.play(openai_stream(["a"]))
    async with backend(row(upstream)) as far:
        assert (await events(far, chat(stream=False)))[1:] == [TextDelta("a"), Finish()]


@pytest.mark.parametrize("kind", ["text/plain", "", "application/octet-stream"])
async def test_B11_a_stream_or_completion_without_its_content_type_is_known_by_its_looks(upstream, kind):
    frames = b"".join(step.data for step in openai_stream(["a"])[1:])
    headers = {"transfer-encoding": "chunked"} | ({"content-type": kind} if kind else {})
    upstream.play(head(200, headers), chunked(b": hi\n\n"), frames)
    upstream.play(json_reply(200, COMPLETION, {"content-type": kind}))
    async with backend(row(upstream)) as far:
        assert (await events(far))[1:] == [TextDelta("a"), Finish()]
        assert (await events(far))[1] == TextDelta("hi")


ERROR = {"error": {"message": "queue full", "type": "server_error", "code": 503}}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/html", ""])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n\n", b": keep-alive\n\n"])
async def test_U7_an_event_stream_is_known_whatever_its_label_says(upstream, kind, before, stream):
    frames = b"".join(step.data for step in openai_stream(["a"])[1:])
    headers = {"transfer-encoding": "chunked"} | ({"content-type": kind} if kind else {})
    upstream.play(head(200, headers), *([chunked(before)] if before else []), frames)
    async with backend(row(upstream)) as far:
        assert (await events(far, chat(stream=stream)))[1:] == [TextDelta("a"), Finish()]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", ""])
async def test_U7_a_whole_answer_or_error_is_known_whatever_its_label_says(upstream, kind, stream):
    whole, error = (msgspec.json.format(msgspec.json.encode(value)) for value in (COMPLETION, ERROR))
    headers = {"transfer-encoding": "chunked"} | ({"content-type": kind} if kind else {})
    for body in (whole, error):
        half = len(body) // 2
        upstream.play(head(200, headers), chunked(body[:half]), Sleep(0.02), chunked(body[half:]), Stall())
    async with backend(row(upstream)) as far, asyncio.timeout(60):  # the connection stays open
        assert (await events(far, chat(stream=stream)))[1] == TextDelta("hi")
        failed = await failure(far, chat(stream=stream))
    assert (failed.status, failed.message) == (503, "queue full")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "application/x-ndjson"])
async def test_U7_chunks_on_lines_of_their_own_are_a_stream_whatever_its_label_says(upstream, kind, stream):
    lines = [step.data.partition(b"data: ")[2][:-3] for step in openai_stream(["a", "b"], done=False)[2:-1]]
    fields = {"content-type": kind, "transfer-encoding": "chunked"}
    for some in (lines, lines[:1]):
        upstream.play(head(200, fields), [(chunked(line), Sleep(0.02)) for line in some], LAST_CHUNK)
    async with backend(row(upstream)) as far:
        assert (await events(far, chat(stream=stream)))[1:] == [TextDelta("a"), TextDelta("b"), Finish()]
        cut = await events(far, chat(stream=stream))
    assert cut[1] == TextDelta("a")
    assert isinstance(cut[-1].error, UpstreamTruncated)


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"<html>secret page</html>", "text/html"), (b"<html>secret page</html>", "application/json"), (b"", "text/html")],
)
async def test_A07_a_page_is_no_answer_and_its_text_goes_nowhere(upstream, body, kind):
    upstream.play(json_reply(200, body, {"content-type": kind}))
    async with backend(row(upstream)) as far:
        error = await failure(far)
    assert isinstance(error, UpstreamMalformed)
    assert error.fallback
    assert "secret" not in error.message


async def test_A07_an_error_with_status_200_is_mapped(upstream):
    upstream.play(json_reply(200, {"error": {"message": "slow down", "type": "rate_limit_error"}}))
    async with backend(row(upstream)) as far:
        assert (await failure(far)).status == 429


async def test_a_whole_answer_past_the_limit_is_refused(upstream):
    upstream.play(json_reply(200, {**COMPLETION, "pad": "x" * 5000}))
    async with backend(row(upstream), answer_bytes=2000) as far:
        assert isinstance(await failure(far, chat(stream=False)), FrameTooLarge)


# statuses


@pytest.mark.parametrize(
    ("status", "kind", "shown", "fallback"),
    [
        (400, UpstreamRefused, 400, False),
        (422, UpstreamRefused, 422, False),
        (401, UpstreamAuth, 502, True),
        (403, UpstreamAuth, 502, True),
        (429, UpstreamFailed, 429, True),
        (500, UpstreamFailed, 500, True),
        (529, UpstreamFailed, 529, True),
    ],
)
async def test_A05_A06_statuses_are_mapped(upstream, status, kind, shown, fallback):
    body = {"error": {"message": f"bad {CANARY}", "code": "why", "param": "messages"}}
    upstream.play(json_reply(status, body, {"retry-after": "7"}))
    async with backend(row(upstream)) as far:
        error = await failure(far)
    assert (type(error), error.status, error.fallback) == (kind, shown, fallback)
    assert CANARY not in error.message
    if kind is UpstreamRefused:
        assert (error.message, error.code, error.param) == ("bad [redacted]", "why", "messages")
    if kind is UpstreamFailed:
        assert error.retry_after == 7


@pytest.mark.parametrize("body", [b"<html>oops 10.0.0.1</html>", b"", b'{"x":1}', b"\xff", b"x" * 100_000])
async def test_an_error_without_a_readable_body_is_reported_by_its_status(upstream, body):
    upstream.play(json_reply(503, body))
    async with backend(row(upstream)) as far:
        error = await failure(far)
    assert error.status == 503
    assert says(error.message, "backend far 503")
    assert len(error.message) < 60, "nothing of the body is in it"


async def test_an_error_whose_body_never_ends_is_reported_by_its_status(upstream, monkeypatch):
    monkeypatch.setattr("proxy.backends.http.ERROR_S", 0.05)
    upstream.play(head(500, {"content-length": "50"}), Stall())
    async with backend(row(upstream)) as far:
        assert (await failure(far)).status == 500
        await upstream.peer_gone(1)


async def test_a_404_that_is_no_error_object_blames_the_config(upstream):
    upstream.play(json_reply(404, b"<html>not found</html>"))
    upstream.play(json_reply(404, {"error": {"message": "no such model", "code": "model_not_found"}}))
    async with backend(row(upstream)) as far:
        wrong_address, wrong_model = await failure(far), await failure(far)
    assert (type(wrong_address), wrong_address.status) == (UpstreamFailed, 502)
    assert "base_url" in wrong_address.message
    assert (type(wrong_model), wrong_model.status, wrong_model.code) == (ModelRefused, 404, "model_not_found")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_A10_a_redirect_is_an_error_and_is_not_followed(upstream, status):
    upstream.play(head(status, {"location": upstream.origin + "/elsewhere", "content-length": "0"}))
    async with backend(row(upstream)) as far:
        assert isinstance(await failure(far), UpstreamRedirect)
    assert len(upstream.requests) == 1


async def test_A01_a_upstream_that_is_not_there(upstream):
    await upstream.stop_listening()
    async with backend(row(upstream)) as far:
        assert isinstance(await failure(far), UpstreamConnect)


NOW = 1_793_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "99999"}, 600),
        ({"retry-after": "inf"}, 600),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0),
        ({"retry-after": formatdate(NOW + 3630, usegmt=True), "date": formatdate(NOW + 3600, usegmt=True)}, 30),
        ({"retry-after": formatdate(NOW + 30, usegmt=True), "date": "?"}, 30),
    ],
)
def test_A05_the_time_to_try_again_is_read_in_every_form(headers, seconds):
    assert retry_after(headers, NOW) == seconds


# who closes


async def test_R4_closing_the_stream_closes_the_upstream(upstream):
    upstream.play(openai_stream(["a"])[:3], Stall())
    async with backend(row(upstream)) as far:
        async with aclosing(far.stream(chat(), Target("far", "m"))) as stream:
            async for batch in stream:
                if batch.has_content:
                    break
        await upstream.peer_gone(1)


@pytest.mark.parametrize("script", [[Stall()], [Send(sse_head()), Stall()], [*openai_stream(["a"])[:3], Stall()]])
async def test_R4_cancelling_closes_the_upstream_in_every_phase(upstream, script):
    upstream.play(*script)
    async with backend(row(upstream)) as far:
        task = asyncio.create_task(events(far))
        await upstream.received(1)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.peer_gone(1)


# settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "base_url"),
        ({"preset": "nobody"}, "ollama"),
        ({"preset": "groq"}, "GROQ_API_KEY"),
        ({"base_url": "ftp://x"}, "http://"),
        ({"base_url": "x.test/v1"}, "http://"),
        ({"base_url": "https://u:p@x.test"}, "api_key"),
        ({"base_url": "https://x.test/v1?key=1"}, "query"),
        ({"base_url": "https://x.test", "api_key": ""}, "empty"),
        ({"base_url": "https://x.test", "api_key": "a b"}, "space"),
        ({"base_url": "https://x.test", "api_key": "ab\n"}, "line break"),
        ({"base_url": "https://x.test", "headers": {"x-a": "b\r\nc: d"}}, "line break"),
        ({"base_url": "https://x.test", "headers": {"x a": "b"}}, "header name"),
        ({"base_url": "https://x.test", "forward_headers": ["Authorization"]}, "never forwarded"),
        ({"base_url": "https://x.test", "forward_headers": ["COOKIE"]}, "never forwarded"),
        ({"base_url": "https://x.test", "baseurl": "x"}, "baseurl"),
    ],
)
def test_a_row_that_cannot_work_is_refused_with_what_to_do(settings, words):
    with pytest.raises(ValidationError) as caught:
        CompatibleSettings.model_validate({"kind": "openai-compatible", **settings})
    assert words in str(caught.value)


def test_every_preset_is_a_row_that_works_with_a_key():
    assert set(PRESETS) == set(PresetName.__args__)
    for name, preset in PRESETS.items():
        key = {"api_key": "k" * 20} if preset.key_variable else {}
        settings = CompatibleSettings.model_validate({"kind": "openai-compatible", "preset": name, **key})
        CompatibleBackend(name, settings, resources=Resources(None))
        assert preset.key_variable == "" or preset.base_url.startswith("https://")


def test_a_preset_at_another_address_needs_no_key():
    CompatibleSettings.model_validate({"kind": "openai-compatible", "preset": "mistral", "base_url": "http://x:1"})


def test_I01_no_repr_shows_a_secret():
    settings = CompatibleSettings.model_validate(
        {"kind": "openai-compatible", "base_url": "http://x", "api_key": CANARY, "headers": {"x-key": CANARY}}
    )
    far = CompatibleBackend("far", settings, resources=Resources(None))
    for thing in (settings, far, far._identity, far._clean):
        assert CANARY not in repr(thing)
        assert CANARY not in str(thing)


def test_every_setting_is_described():
    for name, field in CompatibleSettings.model_fields.items():
        assert field.description, name
