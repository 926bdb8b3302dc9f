"""Kind `echo`: answers with the last user message, word by word, unchanged. Needs no key and no network."""

import asyncio
import re
from collections.abc import Sequence

from proxy.backends.base import BackendSettings, Kind, Relay
from proxy.config.base import setting
from proxy.contracts.openai.completions import plain_prompt
from proxy.contracts.openai.upstream_request import choices_expected
from proxy.errors import Unsupported
from proxy.events import Batch, Batches, Finish, FinishReason, Start, StreamEvent, TextDelta
from proxy.request import ChatRequest, Task, Usage
from proxy.routing.plan import Target

_PIECE = re.compile(r"\s*\S+|\s+")  # a word with the white space before it: the pieces add up to the text
_BATCH = 64
"""Pieces in one batch without a delay: enough to be cheap, few enough that other streams get their turn."""


class EchoSettings(BackendSettings):
    """A row of kind `echo`."""

    local = True
    own_model = "echo"

    delay_ms: float = setting(0.0, "Pause before every token but the first, in milliseconds.", ge=0)
    first_token_ms: float = setting(0.0, "Pause before the first token, in milliseconds.", ge=0)


class EchoBackend:
    """Repeats the last user message, or the prompt. Follows `max_tokens`, where a token is a word."""

    dialect = ""
    tasks: frozenset[Task] = frozenset({"chat", "completion"})

    def __init__(self, name: str, settings: EchoSettings) -> None:
        self.name = name
        self._delay_s = settings.delay_ms / 1000
        self._first_token_s = settings.first_token_ms / 1000

    async def open(self) -> None:
        """See `Backend.open`. There is nothing to prepare."""

    async def stream(
        self,
        request: ChatRequest,
        target: Target,
        relay: Relay | None = None,  # noqa: ARG002 - there is no callback to relay from
    ) -> Batches:
        """See `Backend.stream`."""
        if request.task == "completion":
            plain_prompt(request, f"backend {self.name}")
        if choices_expected(request) > 1:
            raise Unsupported(f"backend {self.name} gives one answer, not several (n)", param="n")
        limit = _limit(request)
        said = heard = 0
        events: list[StreamEvent] = [Start(f"echo-{request.id}", target.model or "echo")]
        await asyncio.sleep(self._first_token_s)
        for match in _PIECE.finditer(_text(request)):
            heard += 1
            if limit is None or said < limit:
                if said and self._delay_s:
                    yield Batch(events)
                    events = []
                    await asyncio.sleep(self._delay_s)
                events.append(TextDelta(match.group()))
                said += 1
            if heard % _BATCH == 0:
                if events:
                    yield Batch(events)
                    events = []
                await asyncio.sleep(0)
        reason: FinishReason = "stop" if said == heard else "length"
        events.append(Finish(reason, Usage(input_tokens=heard, output_tokens=said, estimated=True)))
        yield Batch(events)

    def models(self) -> Sequence[str]:
        """Its own name. It answers to any name."""
        return ("echo",)

    async def aclose(self) -> None:
        """See `Backend.aclose`. There is nothing to close."""


def _text(request: ChatRequest) -> str:
    """The text of the last user message, or of the last message if there is none."""
    if any(message.role == "user" for message in request.messages):
        return request.last_user_text
    return request.messages[-1].text if request.messages else ""


def _limit(request: ChatRequest) -> int | None:
    """The answer's length in tokens, under either of its names."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = request.params.get(name)
        if type(value) is int and value > 0:
            return value
    return None


KIND = Kind("echo", EchoSettings, lambda name, settings, _: EchoBackend(name, settings))
