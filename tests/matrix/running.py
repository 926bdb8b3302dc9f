"""One cell of the matrix: a request over real sockets, what reached the upstream, what the client read.

A verdict is a sign: see `table.SIGNS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import dedent, indent
from typing import Any

import msgspec

from proxy.events import Fault, Finish, Notice
from proxy.request import ChatRequest
from proxy.testing.upstream import ScriptedUpstream
from tests.matrix.asking import DECLARED, SAID, NoWords
from tests.matrix.features import ANSWERED, ARGUMENTS_IN_PIECES, ASKED, USER, Answered, Asked, request
from tests.matrix.reading import READ, Read
from tests.matrix.table import ANNOUNCED, CARRIED, FAILED, LEFT_OUT, OTHERWISE, REFUSED, UNSAID
from tests.matrix.upstreams import Anthropic, OpenAI, Wire
from tests.support.app import Running
from tests.support.clients import RawClient


class Target(msgspec.Struct, frozen=True):
    """A way to a model: its config row, the model, the wire at its end."""

    row: Callable[[ScriptedUpstream], str]
    model: str
    wire: Wire
    says: str

    def config(self, upstream: ScriptedUpstream) -> str:
        return (
            f"backends: {{far: {{{self.row(upstream)}}}}}\n"
            f"routes: [{{name: default, to: far/{self.model}}}]\n"
            f"frontends:\n  own:\n{indent(dedent(DECLARED), '    ')}"
        )


TARGETS = {
    "openai": Target(lambda far: f'kind: openai-compatible, base_url: "{far.url}"', "gpt-4o-mini", OpenAI(), "openai"),
    "anthropic": Target(
        lambda far: f'kind: anthropic, base_url: "{far.origin}"', "claude-sonnet-4-5", Anthropic(), "anthropic"
    ),
    "litellm to openai": Target(
        lambda far: f'kind: litellm, api_key: sk-test, api_base: "{far.url}"', "openai/gpt-4o-mini", OpenAI(), "openai"
    ),
    "litellm to anthropic": Target(
        lambda far: f'kind: litellm, api_key: sk-test, api_base: "{far.origin}"',
        "anthropic/claude-sonnet-4-5",
        Anthropic(),
        "anthropic",
    ),
}

TELLING = frozenset({"chat", "ai-sdk", "ag-ui", "declared"})
"""The contracts that have a place for a notice in their answers."""

UNTOLD = b"nothing but an image"

PLAIN_ANSWER = ANSWERED["text"].events


class Cells:
    """The cells of one contract and one target, in one app."""

    def __init__(self, proxy: Running, far: ScriptedUpstream, contract: str, target: Target) -> None:
        self._proxy, self._far, self._target, self._contract = proxy, far, target, contract
        self._path, self._say = SAID[contract]
        self._read, self._read_whole = READ[contract]
        self._streams_always = target.model.count("/") > 0

    async def all(self) -> dict[str, str]:
        found = {name: await self.asked(one) for name, one in ASKED.items()}
        found |= {name: await self.answered(one) for name, one in ANSWERED.items()}
        found["arguments in pieces"] = await self.answered(ARGUMENTS_IN_PIECES)
        return found | {f"whole: {name}": await self.answered(one, stream=False) for name, one in ANSWERED.items()}

    async def asked(self, one: Asked) -> str:
        try:
            body = self._say(msgspec.structs.replace(one.request, stream=True))
        except NoWords:
            return UNSAID
        self._far.requests.clear()
        self._far.always(*self._target.wire.stream(PLAIN_ANSWER))
        status, headers, answer = await self._post(body)
        if 400 <= status < 500:
            assert not self._far.requests, "it was refused after it had been sent"
            assert len(answer) > 20, "a refusal says why"
            return REFUSED
        read = Read(self._read(answer))
        if isinstance(read.end, Fault):  # in a contract whose status is sent at once
            assert not self._far.requests
            assert read.end.error.message
            return REFUSED
        assert isinstance(read.end, Finish), answer
        arrived = getattr(one, self._target.says)
        if arrived(self._far.requests[0].json()):
            return CARRIED
        told = any(isinstance(event, Notice) for event in read.events)
        assert "x-chat-notice" in headers or not told, "it is told in every contract's head"
        assert told or self._contract not in TELLING or "x-chat-notice" not in headers, (
            "and in the answer where it can be"
        )
        return ANNOUNCED if "x-chat-notice" in headers else LEFT_OUT

    async def answered(self, one: Answered, *, stream: bool = True) -> str:
        wire = self._target.wire
        try:
            script = wire.stream(one.events) if stream or self._streams_always else wire.whole(one.events)
            body = self._say(self._asking(stream=stream))
        except NoWords:
            return UNSAID
        self._far.always(*script)
        try:
            status, _, answer = await self._post(body)
        except EOFError:
            assert self._contract == "ai-text", "only there is a broken connection the word for it"
            return FAILED
        reader = self._read if stream else self._read_whole
        assert reader is not None
        if status == 422 and UNTOLD in answer:
            return FAILED
        assert status == 200, answer
        read = Read(reader(answer))
        if isinstance(read.end, Fault) and UNTOLD in answer:
            return FAILED
        assert isinstance(read.end, Finish), answer
        if one.seen(read) or one.otherwise(read):
            return CARRIED if one.seen(read) else OTHERWISE
        return ANNOUNCED if any(isinstance(event, Notice) for event in read.events) else LEFT_OUT

    @staticmethod
    def _asking(*, stream: bool) -> ChatRequest:
        return request(USER, stream=stream, wants_usage=stream)

    async def _post(self, body: Any) -> tuple[int, Mapping[str, str], bytes]:
        async with await RawClient.connect(self._proxy.port) as client:
            await client.post(self._path, body)
            head = await client.read_head()
            body = await client.read_body()
            if client.end == "cut" and self._contract != "ollama":  # whose error line is there as well
                raise EOFError
            return head.status, head.headers, body
