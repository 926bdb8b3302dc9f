"""The conformance suite for a kind of backend. A plug-in's tests subclass it and say how to build the backend:

    class TestMine(UpstreamConformance):
        case = BackendCase(kind="mine", row=lambda upstream: {"base_url": upstream.url}, wire=OpenAIWire())

The upstream is a `ScriptedUpstream` on a real socket; a `Wire` phrases its answers. A backend that answers by itself
subclasses `BackendConformance` and gives no `wire`. The tests are coroutines: set `asyncio_mode = "auto"` for pytest.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from proxy.backends.base import Backend, Resources, kind
from proxy.errors import (
    ProxyError,
    UpstreamAuth,
    UpstreamConnect,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRedirect,
    UpstreamRefused,
    UpstreamTruncated,
)
from proxy.events import Finish, collect
from proxy.request import ChatRequest, Message, Text
from proxy.routing.plan import Target
from proxy.testing.outcome import TEXT, TOKENS, ask, first_content, outcome
from proxy.testing.script import PATIENCE_S, Fin, Rst, Send, Sleep, Stall, Step, head
from proxy.testing.upstream import ScriptedUpstream, Seen, eventually
from proxy.testing.wires import USAGE, Wire, answer
from proxy.transport import HttpTransport

CANARY = "sk-canary-0123456789abcdef"
"""The key in every case's settings. It may appear in requests to the upstream and nowhere else."""

CLOSE_S = 10.0
"""How soon the upstream must see that nobody wants the answer any more: far below any timer, and enough for a machine
that is busy with other things."""


@dataclass(frozen=True)
class BackendCase:
    """How to build a backend, and what its upstream speaks. `target` is the model to ask for."""

    kind: str
    row: Callable[[ScriptedUpstream], dict[str, Any]]
    """Its config row, without `kind`. A key in it must be `CANARY`."""

    target: str = "scripted-1"
    wire: Wire | None = None
    always_streams: bool = False
    """It asks the upstream for a stream even if the client does not want one."""


class BackendConformance:
    """What every backend must do."""

    case: ClassVar[BackendCase]

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[ScriptedUpstream]:
        """A scripted upstream on a free port, closed after the test with all its connections."""
        async with ScriptedUpstream() as scripted:
            yield scripted

    @pytest.fixture
    async def transport(self) -> AsyncIterator[HttpTransport]:
        transport = HttpTransport()
        yield transport
        await transport.aclose()

    @pytest.fixture
    async def backend(self, upstream: ScriptedUpstream, transport: HttpTransport) -> AsyncIterator[Backend]:
        backend = self.build(upstream, transport)
        await backend.open()
        yield backend
        await backend.aclose()

    @property
    def target(self) -> Target:
        return Target("backend", self.case.target)

    def build(self, upstream: ScriptedUpstream, transport: HttpTransport, **more: Any) -> Backend:
        made = kind(self.case.kind)
        settings = made.settings.model_validate({"kind": self.case.kind, **self.case.row(upstream), **more})
        return made.build("backend", settings, Resources(transport))

    # its answers

    async def test_the_answer_is_exact_in_order_and_ends_once(
        self, backend: Backend, upstream: ScriptedUpstream
    ) -> None:
        if self.case.wire:
            upstream.play(answer(self.case.wire, TOKENS))
        got = await outcome(backend, self.target)
        assert got.text == TEXT
        assert isinstance(got.events[-1], Finish)
        assert got.events[-1].reason == "stop"

    async def test_an_unstreamed_request_is_answered_too(self, backend: Backend, upstream: ScriptedUpstream) -> None:
        if self.case.wire:
            whole = answer(self.case.wire, TOKENS) if self.case.always_streams else self.case.wire.whole(TEXT)
            upstream.play(whole)
        collected = await collect(backend.stream(ask(stream=False), self.target))
        assert collected.text == TEXT
        assert collected.finish_reason == "stop"

    async def test_two_streams_at_once_do_not_mix(self, backend: Backend, upstream: ScriptedUpstream) -> None:
        texts = ["one " * 20, "two " * 20]

        def decide(seen: Seen) -> list[Step]:
            assert self.case.wire is not None
            text = texts[0] if b"one" in seen.body else texts[1]
            pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
            opened, *tokens = self.case.wire.begun(pieces)
            paced = [step for token in tokens for step in (token, Sleep(0.001))]
            return [opened, *paced, *self.case.wire.end()]

        upstream.decide(decide)
        both = await asyncio.gather(*(outcome(backend, self.target, ask(text)) for text in texts))
        assert [got.text for got in both] == texts

    async def test_cancelling_at_any_moment_leaves_nothing_behind(
        self, backend: Backend, upstream: ScriptedUpstream
    ) -> None:
        if self.case.wire:
            upstream.always(self.case.wire.begun(["a"]), Stall())
        await first_content(backend, self.target)  # so that everything that is made once exists
        before = asyncio.all_tasks()
        for turns in (0, 1, 2, 3, 5, 8, 13, 21):
            task = asyncio.create_task(outcome(backend, self.target))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        await eventually(lambda: upstream.open_connections == 0)
        await eventually(lambda: asyncio.all_tasks() <= before)

    async def test_closing_the_backend_leaves_no_task_and_no_connection(self, upstream: ScriptedUpstream) -> None:
        before = asyncio.all_tasks()
        transport = HttpTransport()
        backend = self.build(upstream, transport)
        await backend.open()
        if self.case.wire:
            upstream.play(answer(self.case.wire, TOKENS))
        assert (await outcome(backend, self.target)).text == TEXT
        await backend.aclose()
        await transport.aclose()
        await eventually(lambda: upstream.open_connections == 0)
        await eventually(lambda: asyncio.all_tasks() <= before)

    async def test_it_can_be_closed_before_it_is_opened_and_twice(
        self, upstream: ScriptedUpstream, transport: HttpTransport
    ) -> None:
        await self.build(upstream, transport).aclose()
        backend = self.build(upstream, transport)
        await backend.open()
        await backend.aclose()
        await backend.aclose()

    # secrets (I01, H08)

    def test_settings_hide_the_key_and_refuse_unknown_names(
        self, upstream: ScriptedUpstream, transport: HttpTransport
    ) -> None:
        model = kind(self.case.kind).settings
        row = {"kind": self.case.kind, **self.case.row(upstream)}
        settings = model.model_validate(row)
        assert CANARY not in f"{settings!r} {settings!s}"
        with pytest.raises(ValidationError) as refused:
            model.model_validate({**row, "nonsense": 1})
        assert [error["loc"] for error in refused.value.errors()] == [("nonsense",)]

    async def test_the_backend_itself_shows_no_key(self, backend: Backend) -> None:
        assert CANARY not in f"{backend!r} {backend!s}"


class UpstreamConformance(BackendConformance):
    """What a backend must do whose answers come from an upstream. Ids such as A05 are rows of docs/reliability.md."""

    @pytest.fixture
    def wire(self) -> Wire:
        assert self.case.wire is not None
        return self.case.wire

    async def test_usage_is_what_the_upstream_counted(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        upstream.play(answer(wire, TOKENS))
        end = (await outcome(backend, self.target)).events[-1]
        assert isinstance(end, Finish)
        assert end.usage is not None
        assert (end.usage.input_tokens, end.usage.output_tokens) == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
        assert not end.usage.estimated

    async def test_the_first_token_is_passed_on_before_the_second_comes(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        upstream.play(wire.begun(["first"]), Stall())
        async with asyncio.timeout(PATIENCE_S), aclosing(backend.stream(ask(), self.target)) as stream:
            async for batch in stream:
                if batch.has_content:
                    break

    # closing (R4, C01, C02)

    async def test_closing_the_stream_closes_the_upstream(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        upstream.play(wire.begun(["one"]), Stall())
        stream = backend.stream(ask(), self.target)
        async with asyncio.timeout(PATIENCE_S):
            while not (await anext(stream)).has_content:
                pass
        await stream.aclose()
        await upstream.peer_gone(1, within=CLOSE_S)

    @pytest.mark.parametrize("phase", ["before the head", "before the first token", "between tokens"])
    async def test_cancelling_the_task_closes_the_upstream(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire, phase: str
    ) -> None:
        started = asyncio.Event()

        async def read() -> None:
            async with aclosing(backend.stream(ask(), self.target)) as stream:
                async for batch in stream:
                    if batch.has_content:
                        started.set()

        said = {"before the head": [], "before the first token": wire.begun([]), "between tokens": wire.begun(["a"])}
        upstream.play(said[phase], Stall())
        task = asyncio.create_task(read())
        async with asyncio.timeout(PATIENCE_S):
            await upstream.received()
            if phase == "between tokens":
                await started.wait()
            else:
                await asyncio.sleep(0.05)  # so that the bytes arrive: no event says that they have
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.peer_gone(1, within=CLOSE_S)

    # faults (A01, A05, A06, A07, A10, B01, B02, B07, B08)

    async def test_a_refused_connection_says_so(self, backend: Backend, upstream: ScriptedUpstream, wire: Wire) -> None:
        await upstream.stop_listening()
        error = (await outcome(backend, self.target)).error
        assert isinstance(error, UpstreamConnect)
        assert error.fallback

    @pytest.mark.parametrize(
        ("status", "expected", "shown"),
        [
            (400, UpstreamRefused, 400),
            (401, UpstreamAuth, 502),
            (403, UpstreamAuth, 502),
            (429, UpstreamFailed, 429),
            (500, UpstreamFailed, 500),
            (503, UpstreamFailed, 503),
        ],
    )
    async def test_each_status_of_the_upstream_becomes_the_right_error(
        self,
        backend: Backend,
        upstream: ScriptedUpstream,
        wire: Wire,
        status: int,
        expected: type[ProxyError],
        shown: int,
    ) -> None:
        upstream.always(wire.error(status, "the lamp is broken", {"retry-after": "7"}))
        error = (await outcome(backend, self.target)).error
        assert type(error) is expected
        assert error.status == shown
        if status == 429:
            assert error.retry_after == 7
        if expected is not UpstreamAuth:
            assert error.message == "the lamp is broken"
        assert len(upstream.requests) == 1, "it tried again by itself"

    async def test_a_redirect_is_not_followed(self, backend: Backend, upstream: ScriptedUpstream, wire: Wire) -> None:
        async with ScriptedUpstream() as elsewhere:
            upstream.always(Send(head(307, {"location": elsewhere.url, "content-length": "0"})))
            error = (await outcome(backend, self.target)).error
            assert isinstance(error, UpstreamRedirect)
            assert elsewhere.connections == 0

    async def test_a_web_page_is_not_an_answer(self, backend: Backend, upstream: ScriptedUpstream, wire: Wire) -> None:
        page = b"<html>please log in</html>"
        upstream.always(Send(head(200, {"content-type": "text/html", "content-length": str(len(page))}) + page))
        error = (await outcome(backend, self.target)).error
        assert isinstance(error, UpstreamMalformed)
        assert "log in" not in error.message

    @pytest.mark.parametrize("said", [0, 1, 3])
    @pytest.mark.parametrize("how", [Fin(), Rst(), Send(b"0\r\n\r\n")], ids=["fin", "rst", "clean end"])
    async def test_a_cut_answer_never_looks_complete(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire, said: int, how: Step
    ) -> None:
        upstream.always(wire.begun(TOKENS[:said]), Sleep(0.02), how)
        got = await outcome(backend, self.target)
        assert isinstance(got.error, UpstreamTruncated)
        assert got.text == "".join(TOKENS[:said])

    async def test_a_connection_closed_without_an_answer_is_a_truncated_answer(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        upstream.always(Fin())
        assert isinstance((await outcome(backend, self.target)).error, UpstreamTruncated)

    async def test_an_error_inside_the_stream_ends_it(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        upstream.always(wire.begun(["one"]), wire.error_inside("the lamp went out"), Fin())
        got = await outcome(backend, self.target)
        assert got.text == "one"
        assert isinstance(got.error, UpstreamFailed)
        assert got.error.message == "the lamp went out"

    async def test_broken_data_never_leads_to_a_complete_answer(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        upstream.always(wire.begun(["one"]), wire.malformed(), wire.end())
        got = await outcome(backend, self.target)
        assert got.text == "one"
        assert isinstance(got.error, UpstreamMalformed)

    async def test_no_error_shows_the_key(self, backend: Backend, upstream: ScriptedUpstream, wire: Wire) -> None:
        loose = f"Incorrect API key provided: {CANARY}. Authorization: Bearer {CANARY}"
        scripts: list[list[Step]] = [
            *(wire.error(status, loose) for status in (400, 401, 404, 429, 500)),
            [*wire.begun(["one"]), *wire.error_inside(loose), Fin()],
            [*wire.begun(["one"]), Send(b"5\r\n{" + CANARY.encode()), Fin()],
            [Send(f"HTTP/1.1 200 {CANARY}\r\nbroken {CANARY}\r\n\r\n".encode()), Fin()],
        ]
        for script in scripts:
            upstream.always(script)
            error = (await outcome(backend, self.target)).error
            upstream.drop_connections()
            trace = "".join(traceback.format_exception(error))
            assert CANARY not in f"{error!s} {error!r} {error.message} {error.args} {error.headers} {trace}"
        assert any(CANARY in str(seen.headers) for seen in upstream.requests), "the key was never used"

    async def test_a_client_cannot_choose_where_its_request_goes(
        self, backend: Backend, upstream: ScriptedUpstream, wire: Wire
    ) -> None:
        async with ScriptedUpstream() as attacker:
            names = ("api_base", "base_url", "mock_response", "extra_body", "fallbacks", "callbacks")
            body: dict[str, Any] = dict.fromkeys(names, attacker.url)
            body |= {"api_key": "theirs", "extra_headers": {"x-theirs": "1"}, "timeout": 0.001}
            hostile = ChatRequest(
                id="r1",
                contract="openai",
                dialect="openai-chat",
                messages=(Message("user", (Text("hi"),)),),
                params={},
                metadata=body,
                headers={"authorization": "Bearer theirs", "cookie": "theirs", "x-theirs": "1"},
                raw_body={**body, "messages": [{"role": "user", "content": "hi"}], "metadata": body},
            )
            upstream.play(answer(wire, ["fine"]))
            assert (await outcome(backend, self.target, hostile)).text == "fine"
            assert attacker.connections == 0
        (seen,) = upstream.requests
        assert "theirs" not in str(seen.headers)
        assert attacker.url.encode() not in seen.body
