"""Kind `litellm`: every provider litellm reaches (https://docs.litellm.ai/docs/providers), as an extra.

litellm is a large dependency with habits of its own, so it is kept on a short leash: imported in a thread and
only when a config names it, its retries, fallbacks, callbacks and look-ups off, its arguments an allow-list
(H08), and an answer complete only when the provider says so (see `litellm_chunks`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from copy import deepcopy
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from proxy.backends.base import Relay, Resources
from proxy.backends.litellm.chunks import last_word, payloads
from proxy.backends.litellm.errors import translate
from proxy.backends.litellm.http import EXCHANGE, LENT, TAKES_HANDLER, Exchange
from proxy.backends.litellm.params import omissions, passed_on, refuse_untaken
from proxy.backends.litellm.settings import LiteLLMSettings, secrets
from proxy.backends.redact import cleaner
from proxy.backends.streaming import FINISHED_S, Decoder, NamesRestored, announcing
from proxy.backends.vocabularies import COMMON, PROVIDERS
from proxy.contracts.openai.stream import StreamDecoder
from proxy.contracts.openai.upstream_request import choices_expected, encode_request
from proxy.errors import ConfigError, ProxyError, Unsupported, UpstreamError
from proxy.events import Batch, Fault, Notice
from proxy.request import Audio, ChatRequest, File, Image, Message
from proxy.routing.plan import Target
from proxy.wire.omissions import noticeable
from proxy.wire.translation import Translation, translated

OLDEST = (1, 106)
"""Never older: 1.82.7 and 1.82.8 were malicious, and what we build on looked different before."""

_NO_TIMEOUT_S = 86_400.0  # the pipeline owns the timers, the transport that of connecting
_LET_GO_S = 0.2  # how long to wait for litellm to come out of the thread in which it prepares a request

_ENVIRONMENT = {
    # Read when litellm is imported: no price list or header list from the network, no `.env` of whatever directory.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_MODE": "PRODUCTION",
}
_SWITCHES = {
    "disable_hf_tokenizer_download": True,
    "suppress_debug_info": True,
    "turn_off_message_logging": True,
    "disable_streaming_logging": True,
    "disable_token_counter": True,  # it would count every prompt, on the loop, and fetch images to do so
    "telemetry": False,
}
_IMPORTED_LATE = ("openai.resources.chat", "litellm._service_logger")
_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")  # they would log prompts and answers

_TAKES_THOUGHTS = frozenset({"anthropic", "bedrock", "vertex_ai"})  # what Claude sealed, it wants back
_TAKES_ADDRESSES = frozenset({"openai", "azure"})  # of images: these send the address on, others make litellm fetch it

_LOSES_FILES = frozenset(
    {"anthropic"}
)  # litellm drops sounds silently, and sends other files in forms that are refused

_LOOKED_UP: Mapping[str, Mapping[str, Any]] = {
    # What litellm is told of a model it does not know: else it asks a server for it, on this machine, whatever
    # the config says, and waits for the answer.
    provider: {"litellm_provider": provider, "mode": "chat", "supports_function_calling": True}
    for provider in ("ollama", "ollama_chat")
}


class LiteLLMBackend:
    """Whatever litellm reaches."""

    dialect = ""
    local = False

    def __init__(self, name: str, settings: LiteLLMSettings, resources: Resources) -> None:
        self.name = name
        self._settings = settings
        self._resources = resources
        resources.secrets.learn(secrets(settings))
        self._clean = cleaner(resources.secrets)
        self._litellm: Any = None
        self._handler: Any = None
        self._supported: dict[str, frozenset[str] | None] = {}  # by model

    async def open(self) -> None:
        """Import litellm, which takes seconds, in a thread. Raises `ConfigError` when it is missing or too old."""
        self._litellm, self._handler = await asyncio.to_thread(_load, self.name)

    async def stream(
        self,
        request: ChatRequest,
        target: Target,
        relay: Relay | None = None,  # noqa: ARG002 - there is no callback to relay from
    ) -> AsyncGenerator[Batch, None]:
        """See `Backend.stream`."""
        told = self._told(request, target)
        arguments = self._arguments(told.request, target)
        notices = [*told.notices, *self._omissions(told.request, arguments, target)]
        decoder: Decoder = StreamDecoder(self._resources.frame_bytes, clean=self._clean)
        if told.names:
            decoder = NamesRestored(decoder, told.names)
        exchange = self._exchange(target)
        wrapper, spoken, complete = None, False, False
        try:
            wrapper = await self._begin(arguments, exchange)
            async with aclosing(self._batches(wrapper, target.model, decoder, exchange)) as batches:
                async for batch in batches:
                    spoken = spoken or batch.has_content
                    end = batch.terminal
                    if isinstance(end, Fault) and not spoken:
                        raise end.error  # nothing was said yet: another target may still be tried
                    complete = end is not None and not isinstance(end, Fault)
                    yield announcing(notices, batch) if notices else batch
                    notices = []
        finally:
            if not complete:
                exchange.close()
            if wrapper is not None:
                with suppress(Exception):
                    await wrapper.aclose()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        litellm, self._litellm = self._litellm, None
        if litellm is not None:
            await LENT.take_back(litellm)

    def _told(self, request: ChatRequest, target: Target) -> Translation:
        """The request in the words of the model's provider."""
        return translated(request, PROVIDERS.get(self._provider(target), COMMON))

    def _exchange(self, target: Target) -> Exchange:
        resources = self._resources
        return Exchange(
            resources.transport,
            connect_s=target.connect_s,
            frame_bytes=resources.frame_bytes,
            answer_bytes=resources.answer_bytes,
        )

    async def _begin(self, arguments: Mapping[str, Any], exchange: Exchange) -> Any:
        """Call litellm; returns its stream once the answer's head is there.

        It runs in a task of its own, because cancelling it while it prepares the request in a thread would
        leave a coroutine there that nobody awaits.
        """

        async def call() -> Any:
            EXCHANGE.set(exchange)
            wrapper = await self._litellm.acompletion(**arguments)
            if wrapper.completion_stream is None:  # some providers ask only when the first chunk is wanted
                await wrapper.fetch_stream()
            return wrapper

        task = asyncio.create_task(call(), name=f"litellm {self.name}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await _abandon(task, exchange)
            raise
        except ProxyError:
            raise
        except Exception as error:
            raise self._translated(error, exchange) from None  # its own text may quote a key

    async def _batches(
        self, wrapper: Any, model: str, decoder: Decoder, exchange: Exchange
    ) -> AsyncGenerator[Batch, None]:
        """What the stream brings, to its one end: litellm's chunks are OpenAI's, so OpenAI's reader reads them."""
        failure: UpstreamError | None = None
        async with aclosing(payloads(wrapper, model)) as chunks:
            while not decoder.done:
                try:
                    async with asyncio.timeout(FINISHED_S if decoder.finished else None):
                        payload = await anext(chunks, None)
                except TimeoutError as error:
                    failure = None if decoder.finished else self._broken_off(error, exchange)
                    break
                except Exception as error:
                    failure = self._broken_off(error, exchange)
                    break
                if payload is None:
                    break
                if events := _fed(decoder, payload):
                    yield Batch(events)
        if not decoder.finished and not decoder.done and (payload := last_word(wrapper)) is not None:
            yield Batch(_fed(decoder, payload))
        if exchange.said_done:  # complete, even where no finish reason came (R3)
            end = decoder.feed(b"data: [DONE]\n\n")
        else:
            end = decoder.finish() if failure is None else decoder.fail(failure)
        if end.events:
            yield Batch(end.events)

    def _broken_off(self, error: Exception, exchange: Exchange) -> UpstreamError:
        broken = self._translated(error, exchange)
        return broken if isinstance(broken, UpstreamError) else UpstreamError(broken.message)

    def _translated(self, error: Exception, exchange: Exchange) -> ProxyError:
        return translate(error, exchange, who=f"backend {self.name}", clean=self._clean)

    def _provider(self, target: Target) -> str:
        """Whose model it is. Only the config names models: litellm goes by the name alone."""
        if target.asked and target.model not in self._settings.models:
            raise Unsupported(
                f"backend {self.name} does not know this model: its config must list the models that clients may name",
                param="model",
            )
        provider, slash, _ = target.model.partition("/")
        if slash:
            return provider
        try:
            return str(self._litellm.get_llm_provider(model=target.model)[1])
        except Exception:
            raise Unsupported(
                f"backend {self.name}: litellm knows no provider of this model; name it as provider/model"
            ) from None

    def _arguments(self, request: ChatRequest, target: Target) -> dict[str, Any]:
        """All that litellm is given: from the config where to go and how, from the request what is listed here."""
        if choices_expected(request) > 1:
            raise Unsupported(f"backend {self.name} gives one answer, not several (n)", param="n")
        if request.params.get("logprobs") is True:
            raise Unsupported(f"backend {self.name} tells no log probabilities", param="logprobs")
        provider = self._provider(target)
        if provider not in _TAKES_ADDRESSES:
            _refuse_addresses(request.messages)
        if provider in _LOSES_FILES:
            _refuse_lost(request.messages)
        if provider in _LOOKED_UP:
            self._litellm.model_cost.setdefault(target.model, dict(_LOOKED_UP[provider]))
        settings, taken = self._settings, passed_on(provider)
        if not settings.drop_params:
            refuse_untaken(request, taken)
        # Written and read again: litellm changes what it is given.
        body = msgspec.json.decode(
            encode_request(
                msgspec.structs.replace(request, dialect="", wire=None),
                model="",
                hints=taken if settings.drop_params else (),
                thoughts=provider in _TAKES_THOUGHTS,
            )
        )
        arguments: dict[str, Any] = {
            **deepcopy(settings.options),
            **{name: value for name, value in body.items() if name in taken and value is not None},
            "messages": body["messages"],
            "model": target.model,
            "stream": True,
            "drop_params": settings.drop_params,
            "num_retries": 0,
            "max_retries": 0,
            "timeout": _NO_TIMEOUT_S,
            # Two detours that need packages litellm does not ask for: tools are the client's, and we speak chat.
            "_skip_mcp_handler": True,
            "_skip_responses_api_bridge": True,
        }
        given = {
            "tools": body.get("tools"),
            "user": body.get("user"),
            "api_key": settings.api_key.get_secret_value() if settings.api_key else None,
            "api_base": settings.api_base,
            "api_version": settings.api_version,
            "stream_options": {"include_usage": True} if settings.include_usage else None,
            "client": self._handler if provider in TAKES_HANDLER else None,
        }
        return arguments | {name: value for name, value in given.items() if value is not None}

    def _omissions(self, request: ChatRequest, arguments: Mapping[str, Any], target: Target) -> list[Notice]:
        model, provider = target.model, self._provider(target)
        supported = (
            self._supported_by(model, provider) if any(noticeable(request, name) for name in request.params) else None
        )
        return omissions(request, arguments, supported=supported, provider=provider, model=model)

    def _supported_by(self, model: str, provider: str) -> frozenset[str] | None:
        """OpenAI's settings that litellm says a model takes; `None` where it does not say. It takes a millisecond."""
        if model not in self._supported:  # the config names the models, so these are few
            found = None
            with suppress(Exception):  # of whatever it has for this provider
                name = model.removeprefix(f"{provider}/")
                found = self._litellm.get_supported_openai_params(model=name, custom_llm_provider=provider)
            more = self._settings.options.get("allowed_openai_params") or ()
            self._supported[model] = None if found is None else frozenset((*found, *more))
        return self._supported[model]


def _load(backend: str) -> tuple[Any, Any]:
    """Import litellm, switch off what it does on its own account, give it our connections."""
    try:
        installed = version("litellm")
    except PackageNotFoundError:
        raise ConfigError(
            f"backend {backend}: kind litellm needs a package that is not installed: pip install 'chat-proxy[litellm]'"
        ) from None
    if tuple(int(part) for part in re.findall(r"\d+", installed)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigError(f"backend {backend}: litellm {installed} is too old: pip install 'litellm>={oldest}'")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    litellm = import_module("litellm")
    for name, switch in _SWITCHES.items():
        setattr(litellm, name, switch)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Half a second of imports and type building that would else come with the first request, on the loop.
    _ = litellm.acompletion, litellm.get_llm_provider, litellm.AnthropicConfig, litellm.OllamaChatConfig
    litellm.ModelResponse()
    for module in _IMPORTED_LATE:
        with suppress(ImportError):
            import_module(module)
    if not hasattr(litellm.CustomStreamWrapper, "chunk_creator"):
        raise ConfigError(f"backend {backend}: litellm {installed} is newer than this version of chat-proxy knows")
    return litellm, LENT.lend(litellm)


async def _abandon(task: asyncio.Task[Any], exchange: Exchange) -> None:
    """End a call nobody waits for any more: at once, or as soon as litellm is out of its thread."""
    exchange.abandoned = True
    if not exchange.begun:
        await asyncio.wait({task}, timeout=_LET_GO_S)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        with suppress(Exception):
            await task.result().aclose()


def _fed(decoder: Decoder, payload: bytes) -> list[Any]:
    return decoder.feed(b"data: " + payload + b"\n\n").events


def _refuse_addresses(messages: tuple[Message, ...]) -> None:
    """For most providers litellm fetches what a message only names, from wherever the client says (H08)."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, Image) and not part.url.startswith("data:"):
                raise Unsupported("this target takes images as data: URLs, not by address")
            if isinstance(part, File) and any("://" in (value or "")[:256] for value in (part.data, part.id)):
                raise Unsupported("this target takes files as data, not by address")


def _refuse_lost(messages: tuple[Message, ...]) -> None:
    """What litellm would leave out, or turn into something else, on the way to these."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, Audio):
                raise Unsupported("this target takes no audio")
            if isinstance(part, File):
                kind = (part.media_type or "application/pdf").partition(";")[0].strip().lower()
                if part.data is None:
                    raise Unsupported("this target takes files as data, not by id")
                if kind != "application/pdf" and not kind.startswith("image/"):
                    raise Unsupported(f"this target takes PDF files, not {kind[:64]}")


class LiteLLMKind:
    """Registers the kind."""

    kind = "litellm"
    settings = LiteLLMSettings

    def build(self, name: str, settings: LiteLLMSettings, resources: Resources) -> LiteLLMBackend:
        return LiteLLMBackend(name, settings, resources)


KIND = LiteLLMKind()
