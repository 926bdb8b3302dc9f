"""The one path of a request, with backends and clients that are made of plain values."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from proxy.errors import (
    BadRequest,
    Draining,
    InternalError,
    Limit,
    ProxyError,
    Unsupported,
    UpstreamConnect,
    UpstreamFailed,
    UpstreamTimeout,
    UpstreamTruncated,
)
from proxy.events import Batch, Fault, Finish, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.pipeline.attempt import HOLD_BYTES
from proxy.pipeline.client import ClientGone, ClientSlow
from proxy.request import Usage
from proxy.routing.plan import Timers
from proxy.telemetry.record import StreamRecord
from tests.support.told import FOREVER, HELLO, Relaying, Step, Taker, Told, exchange
from tests.support.virtual_time import run


async def test_an_answer_goes_through_in_order_and_is_booked() -> None:
    backend, client = Told(*HELLO), Taker()
    running = exchange(backend)
    await running.run(client)
    assert client.events == list(HELLO)
    record = running.record
    assert (record.end, record.usage) == ("done", Usage(1, 2))
    (attempt,) = record.attempts
    assert (attempt.backend, attempt.model, attempt.status, attempt.outcome) == ("b0", "m", 200, "ok")
    assert attempt.usage == Usage(1, 2)
    assert attempt.committed_at is not None
    assert attempt.ended_at is not None
    assert record.started_at <= attempt.started_at <= attempt.committed_at <= attempt.ended_at
    assert backend.closed == 1


async def test_nothing_is_sent_before_content_and_then_all_of_it() -> None:
    go, client = asyncio.Event(), Taker()
    running = asyncio.create_task(exchange(Told(Start("1", "m"), go, *HELLO[1:])).run(client))
    await asyncio.sleep(0.01)
    assert client.events == []
    go.set()
    await running
    assert client.events == list(HELLO)


MORE = (TextDelta(" you"), TextDelta(" there"))


async def test_what_is_relayed_is_written_and_booked_like_the_rest() -> None:
    backend, client = Relaying(*HELLO[:2], *MORE, HELLO[2]), Taker()
    running = exchange(backend)
    await running.run(client)
    assert client.events == [*HELLO[:2], *MORE, HELLO[2]]
    assert [batch.terminal for batch in backend.refused] == [HELLO[2]]  # the end is not for a callback to tell
    record = running.record
    assert (record.end, record.content_events, record.content_batches) == ("done", 3, 3)


async def test_c03_a_client_that_is_behind_gets_one_relayed_batch_and_is_waited_for_at_the_next() -> None:
    backend, client = Relaying(*HELLO[:2], *MORE, *MORE, HELLO[2]), Taker()
    client.behind = True
    await exchange(backend).run(client)
    assert client.text == "Hello you there you there"
    assert len(backend.refused) == 3  # each second one, and the end
    assert client.waits == 5  # once each for role, first content, the two refused ones and the end


async def test_an_answer_that_is_too_long_ends_though_it_is_relayed() -> None:
    backend, client = Relaying(*HELLO[:2], *MORE, *MORE, HELLO[2]), Taker()
    running = exchange(backend, answer_bytes=8)
    await running.run(client)
    assert isinstance(client.end, Fault)
    assert isinstance(client.end.error, Limit)
    assert running.record.end == "limit"


async def test_a_client_that_leaves_while_it_is_relayed_to_is_gone() -> None:
    backend, client = Relaying(*HELLO[:2], *MORE, HELLO[2]), Taker(fails=ClientGone(), fails_at=3)
    running = exchange(backend)
    with pytest.raises(ClientGone):
        await running.run(client)
    assert running.record.end == "client_gone"
    assert backend.closed == 1


async def test_a_client_that_wants_the_answer_whole_is_not_relayed_to() -> None:
    backend, client = Relaying(*HELLO[:2], *MORE, HELLO[2]), Taker(streaming=False)
    await exchange(backend, stream=False).run(client)
    assert client.events == [*HELLO[:2], *MORE, HELLO[2]]
    assert backend.refused == []


async def test_a_long_preamble_is_not_held_for_ever() -> None:
    preamble = Batch([], payloads=[b"x" * (HOLD_BYTES + 1)], dialect="d")
    stuck, client = asyncio.Event(), Taker()
    running = asyncio.create_task(exchange(Told(Start("1", "m"), preamble, stuck)).run(client))
    async with asyncio.timeout(60):
        await client.begun.wait()
    running.cancel()
    await asyncio.wait([running])
    assert client.events == [Start("1", "m")]


@pytest.mark.parametrize(
    "failure", [UpstreamConnect("refused"), UpstreamFailed("busy"), Unsupported("n > 1"), UpstreamTruncated("cut")]
)
@pytest.mark.parametrize("how", [lambda error: error, Fault], ids=["raised", "as first event"])
async def test_a_target_that_fails_before_content_is_followed_by_the_next(
    failure: ProxyError, how: Callable[[ProxyError], Step]
) -> None:
    first, second, client = Told(Start("1", "m"), how(failure)), Told(*HELLO), Taker()
    running = exchange(first, second)
    await running.run(client)
    assert client.events == list(HELLO)
    assert [(tried.backend, tried.outcome) for tried in running.record.attempts] == [("b0", failure.code), ("b1", "ok")]
    assert (first.closed, second.closed) == (1, 1)


async def test_an_error_that_another_target_would_repeat_ends_the_chain() -> None:
    second = Told(*HELLO)
    with pytest.raises(BadRequest):
        await exchange(Told(BadRequest("no")), second).run(Taker())
    assert second.asked == []


async def test_when_all_fail_the_one_that_says_when_to_come_back_is_reported() -> None:
    busy = UpstreamFailed("busy", status=429, retry_after=7)
    with pytest.raises(UpstreamFailed) as told:
        await exchange(Told(busy), Told(UpstreamConnect("refused"))).run(Taker())
    assert told.value is busy
    with pytest.raises(UpstreamConnect):
        await exchange(Told(UpstreamFailed("busy")), Told(UpstreamConnect("refused"))).run(Taker())


@pytest.mark.parametrize("broken", [UpstreamTruncated("cut"), RuntimeError("bug"), OSError("socket")])
async def test_after_content_every_failure_is_one_fault_and_no_fallback(broken: Exception) -> None:
    first, second, client = Told(*HELLO[:2], broken), Told(*HELLO), Taker()
    running = exchange(first, second)
    await running.run(client)
    assert client.text == "Hello"
    assert isinstance(client.end, Fault)
    assert second.asked == []
    assert running.record.end == client.end.error.end
    assert first.closed == 1


async def test_a_bug_in_a_backend_tells_the_client_nothing_of_it() -> None:
    with pytest.raises(InternalError) as told:
        await exchange(Told(RuntimeError("secret detail"))).run(Taker())
    assert "secret" not in told.value.message
    assert "r1" in told.value.message


async def test_a_stream_that_just_ends_is_cut() -> None:
    client = Taker()
    await exchange(Told(*HELLO[:2])).run(client)
    assert isinstance(client.end, Fault)
    assert isinstance(client.end.error, UpstreamTruncated)


async def test_what_a_backend_says_after_its_end_is_not_read() -> None:
    client = Taker()
    await exchange(Told(*HELLO, TextDelta("late"))).run(client)
    assert client.events == list(HELLO)


async def test_content_and_fault_in_one_read_are_content_then_fault() -> None:
    fault = Fault(UpstreamFailed("busy"))
    client = Taker()
    await exchange(Told(Batch([Start("1", "m"), TextDelta("Hel"), fault])), Told(*HELLO)).run(client)
    assert client.events[-2:] == [TextDelta("Hel"), fault]


# -- the clock, in virtual time ----------------------------------------------------------------------------------


def timed(client: Taker, *backends: Told, **plan: Any) -> tuple[StreamRecord, float]:
    """Run an exchange to its end. Returns its record, and how many seconds it took."""

    async def main() -> tuple[StreamRecord, float]:
        running, began = exchange(*backends, **plan), asyncio.get_running_loop().time()
        with contextlib.suppress(UpstreamTimeout):  # told before anything is sent
            await running.run(client)
        return running.record, asyncio.get_running_loop().time() - began

    return run(main())


def test_a_chain_has_one_deadline_and_each_target_an_equal_share_of_it() -> None:
    silent = [Told(FOREVER) for _ in range(3)]
    record, took = timed(Taker(), *silent, timers=Timers(first_token_s=0.3))
    assert (record.end, took) == ("upstream_idle", pytest.approx(0.3))
    assert [tried.duration_s for tried in record.attempts] == [pytest.approx(0.1)] * 3
    assert [backend.closed for backend in silent] == [1, 1, 1]


def test_only_content_moves_the_clock() -> None:
    noise = [step for _ in range(40) for step in (Batch([], payloads=[b"{}"], dialect="d"), 0.02)]
    client = Taker()
    record, took = timed(client, Told(*HELLO[:2], *noise), timers=Timers(token_gap_s=0.15))
    assert isinstance(client.end, Fault)
    assert (record.end, took) == ("upstream_idle", pytest.approx(0.15))


def test_the_total_time_is_a_limit_that_content_does_not_move() -> None:
    drip = [step for _ in range(100) for step in (TextDelta("x"), 0.02)]
    client = Taker()
    _, took = timed(client, Told(Start("1", "m"), *drip), timers=Timers(total_s=0.15))
    assert isinstance(client.end, Fault)
    assert isinstance(client.end.error, Limit)
    assert took == pytest.approx(0.15)


def test_heartbeats_go_out_on_silence_only() -> None:
    client = Taker()
    timed(client, Told(*HELLO[:2], 0.25, *HELLO[2:]), heartbeat_s=0.1)
    assert client.beats == 2
    client = Taker()
    busy = [step for _ in range(10) for step in (TextDelta("x"), 0.03)]
    timed(client, Told(*HELLO[:2], *busy, *HELLO[2:]), heartbeat_s=0.15)
    assert client.beats == 0


# -- ends that come from elsewhere -----------------------------------------------------------------------------


async def test_a_drain_ends_a_running_answer_with_its_reason() -> None:
    backend, client = Told(*HELLO[:2], FOREVER), Taker()
    running = exchange(backend)
    task = asyncio.create_task(running.run(client))
    await client.begun.wait()
    running.interrupt(Draining("stopping"))
    await task
    assert isinstance(client.end, Fault)
    assert isinstance(client.end.error, Draining)
    assert running.record.end == "drain"
    assert backend.closed == 1
    assert task.cancelling() == 0


async def test_a_drain_before_content_is_an_error_and_no_fallback() -> None:
    second = Told(*HELLO)
    running = exchange(Told(FOREVER), second)
    task = asyncio.create_task(running.run(Taker()))
    await asyncio.sleep(0.01)
    running.interrupt(Draining("stopping"))
    with pytest.raises(Draining):
        await task
    assert second.asked == []


async def test_nothing_interrupts_an_end_that_is_being_written() -> None:
    running = exchange(Told(*HELLO))

    class Late(Taker):
        async def send(self, batch: Batch) -> None:
            await super().send(batch)
            if batch.terminal:
                running.interrupt(Draining("stopping"))
                await asyncio.sleep(0)

    client = Late()
    await running.run(client)
    assert client.events == list(HELLO)
    assert running.record.end == "done"


async def test_a_client_that_left_cancels_the_upstream_at_once() -> None:
    backend, client = Told(*HELLO[:2], FOREVER), Taker()
    running = exchange(backend)
    task = asyncio.create_task(running.run(client))
    await client.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1
    assert running.record.end == "client_gone"
    assert running.record.usage == Usage(30, 1, estimated=True)


@pytest.mark.parametrize(("gone", "reason"), [(ClientGone(), "client_gone"), (ClientSlow(), "client_slow")])
@pytest.mark.parametrize("at", [0, 2], ids=["at the first write", "at the last"])
async def test_a_client_that_cannot_be_written_to_is_gone(gone: ClientGone, reason: str, at: int) -> None:
    backend = Told(*HELLO)
    running = exchange(backend)
    with pytest.raises(ClientGone):
        await running.run(Taker(fails=gone, fails_at=at))
    assert running.record.end == reason
    assert backend.closed == 1


# -- answers that are wanted whole -----------------------------------------------------------------------------


async def test_an_unstreamed_answer_commits_at_its_end_so_that_a_cut_one_falls_back() -> None:
    client = Taker(streaming=False)
    running = exchange(Told(*HELLO[:2], UpstreamTruncated("cut")), Told(*HELLO), stream=False)
    await running.run(client)
    assert client.events == list(HELLO)
    assert running.record.end == "done"


async def test_an_unstreamed_answer_that_nobody_counted_is_estimated_by_its_length() -> None:
    """It comes in one piece: budgets and limits once took a thousand words for one token."""
    call = (ToolCallStart(0, "1", "f"), ToolCallDelta(0, '{"city": "Ulm"}' * 4))
    for events, tokens in (((TextDelta("word " * 1000),), 1250), (call, 16), ((TextDelta("a"), TextDelta("b")), 2)):
        running = exchange(Told(Batch([Start("1", "m"), *events, Finish("stop")])), stream=False)
        await running.run(Taker(streaming=False))
        assert running.record.usage == Usage(30, tokens, estimated=True)


async def test_an_unstreamed_answer_has_a_size_limit() -> None:
    endless = [TextDelta("x" * 1000) for _ in range(100)]
    with pytest.raises(Limit):
        await exchange(Told(Start("1", "m"), *endless), answer_bytes=50_000, stream=False).run(Taker(streaming=False))


async def test_a_streamed_answer_has_a_size_limit_too() -> None:
    endless = [TextDelta("x" * 1000) for _ in range(100)]
    client = Taker()
    await exchange(Told(Start("1", "m"), *endless), answer_bytes=50_000).run(client)
    assert isinstance(client.end, Fault)
    assert isinstance(client.end.error, Limit)


async def test_a_backend_gets_its_model_and_the_routes_parameters() -> None:
    backend = Told(*HELLO)
    await exchange(backend, set={"temperature": 0.7}, default={"top_p": 1}).run(Taker())
    assert (backend.asked[0].model, backend.asked[0].params) == ("m", {"top_p": 1, "temperature": 0.7})


async def test_what_a_route_sets_is_no_mere_hint() -> None:
    backend = Told(*HELLO)
    asked = exchange(backend, set={"top_k": 4}, default={"reasoning_effort": "low"})
    asked.request = msgspec.structs.replace(
        asked.request,
        params={"top_k": 9, "reasoning_effort": "high"},
        hints=frozenset({"top_k", "reasoning_effort"}),
    )
    await asked.run(Taker())
    assert backend.asked[0].params == {"top_k": 4, "reasoning_effort": "high"}
    assert backend.asked[0].hints == {"reasoning_effort"}


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_request_is_kept_past_the_commit_point_only_where_the_plan_says_so(keeps: bool) -> None:
    running = exchange(Told(*HELLO), keeps_request=keeps)
    await running.run(Taker())
    assert bool(running.request.messages) is keeps
