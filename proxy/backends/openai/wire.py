"""The base of the backends that speak OpenAI Chat Completions: how they ask and how they read."""

from collections.abc import Mapping
from typing import Any

from proxy.backends.base import EVERY_TASK, Relay, Resources
from proxy.backends.http import HttpBackend, Identity, PerModel
from proxy.backends.openai.plain import CompletionsBackend, EmbeddingsBackend, PlainBackend
from proxy.backends.openai.words import in_words, unsaid
from proxy.backends.settings import OpenAIChatSettings, reasoning_return
from proxy.contracts.openai.stream import DIALECT, StreamDecoder
from proxy.contracts.openai.upstream_request import ReasoningReturn, choices_expected, omissions, request_fields
from proxy.contracts.openai.whole import decode_whole
from proxy.events import Batch, Batches, Notice
from proxy.request import ChatRequest, Task
from proxy.routing.plan import Target


class OpenAIChatBackend(HttpBackend):
    """An upstream that speaks OpenAI Chat Completions. Kinds differ in their `Identity` and in quirks."""

    dialect = DIALECT
    tasks = EVERY_TASK

    def __init__(
        self,
        name: str,
        settings: OpenAIChatSettings,
        resources: Resources,
        *,
        include_usage: bool = True,
        max_tokens_name: str | None = None,
    ) -> None:
        """`include_usage` and `max_tokens_name` are those of the kind or preset, for a row that says nothing of them."""
        self._include_usage = include_usage if settings.include_usage is None else settings.include_usage
        self._max_tokens_name = settings.max_tokens_name or max_tokens_name
        self._reasoning = reasoning_return(settings)
        self._beside: dict[Task, PlainBackend] = {
            "completion": CompletionsBackend(name, settings, resources, include_usage=self._include_usage),
            "embedding": EmbeddingsBackend(name, settings, resources),
        }
        self._returns = PerModel(self._returned)
        super().__init__(name, settings, resources)

    def identify(self, identity: Identity) -> None:
        super().identify(identity)
        for backend in self._beside.values():
            backend.beside(identity)

    def stream(self, request: ChatRequest, target: Target, relay: Relay | None = None) -> Batches:
        """See `Backend.stream`. What is no chat has its own address and its own form."""
        if request.task == "chat":
            return super().stream(request, target, relay)
        return self._beside[request.task].stream(request, target, relay)

    def written(self, request: ChatRequest, target: Target) -> tuple[dict[str, Any], list[Notice]]:
        if request.task == "chat":
            return super().written(request, target)
        return self._beside[request.task].written(request, target)

    def _fields(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        """The body in the server's own words."""
        words = self._vocabularies[target.model]
        body = request_fields(
            request,
            model=target.model,
            include_usage=self._include_usage,
            max_tokens_name=self._name_of_max_tokens(request, target.model),
            hints=self._hints(request, target.model),
            reasoning=self._returns[target.model],
            parts=words.parts,
        )
        return in_words(words, request, body, translated=request.dialect != self.dialect)

    def _omissions(self, request: ChatRequest, fields: Mapping[str, Any], target: Target) -> list[Notice]:
        sent, notices = unsaid(self._vocabularies[target.model], request, fields)
        return [*omissions(request, sent, reasoning=self._returns[target.model]), *notices]

    def _name_of_max_tokens(self, request: ChatRequest, model: str) -> str | None:  # noqa: ARG002 - kinds may look at it
        return self._max_tokens_name

    def _returned(self, model: str) -> ReasoningReturn | None:  # noqa: ARG002 - kinds may look at it
        """How earlier reasoning goes back to `model`."""
        return self._reasoning

    def _hints(self, request: ChatRequest, model: str) -> frozenset[str]:  # noqa: ARG002 - kinds may look at it
        """The settings that `model` is known to take, among those that a client asked for in other words."""
        return frozenset()

    def _decoder(self, request: ChatRequest) -> StreamDecoder:
        return StreamDecoder(
            self._resources.frame_bytes,
            choices=choices_expected(request),
            keep=request.dialect == DIALECT,
            hide_usage=self._include_usage and not request.wants_usage,
            clean=self._clean,
        )

    def _whole(self, request: ChatRequest, body: bytes) -> Batch:
        return decode_whole(
            body,
            keep=request.dialect == DIALECT and not request.stream,
            choices=choices_expected(request),
            clean=self._clean,
        )
