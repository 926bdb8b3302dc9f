"""Kind `litellm`: every provider litellm reaches (https://docs.litellm.ai/docs/providers), as an extra.

litellm is a large dependency that does much by itself, so its part is kept small: it is imported in a thread and only
when a config names it; its retries, fallbacks, callbacks and look-ups are off; its arguments are an allow-list (H08).
It writes the request. Answers in a wire that we read ourselves are read here (see `wires`), the others by litellm,
and then they are complete only when the provider says so (see `chunks`).
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

from proxy.backends.base import EVERY_TASK, Relay, Resources
from proxy.backends.http import reported
from proxy.backends.litellm.arguments import arguments, embedding_arguments
from proxy.backends.litellm.chunks import last_chunk, payloads
from proxy.backends.litellm.errors import translate
from proxy.backends.litellm.http import CURRENT_CALL, SHARED_CLIENTS, UpstreamCall
from proxy.backends.litellm.loading import load
from proxy.backends.litellm.params import omissions
from proxy.backends.litellm.settings import LiteLLMSettings, secrets
from proxy.backends.model_vocabularies import of_provider
from proxy.backends.redact import cleaner
from proxy.backends.streaming import CallsRestored, Decoder, announcing, read_stream
from proxy.contracts.openai.completions import plain_prompt
from proxy.contracts.openai.embeddings import decode_vectors
from proxy.contracts.openai.stream import StreamDecoder
from proxy.errors import ProxyError, Unsupported, UpstreamError
from proxy.events import Batch, Batches, Notice
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from proxy.wire.omissions import does_not_think, noticeable
from proxy.wire.translation import Translation, translated
from proxy.wire.vocabulary import Vocabulary

_LEAVE_THREAD_S = 0.2  # how long to wait for litellm to leave the thread in which it prepares a request

_STREAMS_LINES = frozenset({"ollama", "ollama_chat"})


class LiteLLMBackend:
    """A provider that litellm reaches."""

    dialect = ""
    tasks = EVERY_TASK

    def __init__(self, name: str, settings: LiteLLMSettings, resources: Resources) -> None:
        self.name, self._settings, self._resources = name, settings, resources
        resources.secrets.learn(secrets(settings))
        self._clean = cleaner(resources.secrets)
        self._litellm: Any = None
        self._handler: Any = None
        self._supported: dict[str, frozenset[str] | None] = {}  # by model

    async def open(self) -> None:
        """Import litellm, which takes seconds, in a thread. Raises `ConfigError` when it is missing or not supported."""
        self._litellm, self._handler = await asyncio.to_thread(load, self.name)

    async def stream(self, request: ChatRequest, target: Target, relay: Relay | None = None) -> Batches:
        """See `Backend.stream`."""
        if request.task == "embedding":
            yield await self._embeddings(request, target)
            return
        if request.task == "completion":
            plain_prompt(request, f"backend {self.name}")
        translation = self._translation(request, target)
        given = self._arguments(translation.request, target)
        notices = [*translation.notices, *self._omissions(translation.request, given, target)]
        names, used = translation.names, translation.used
        call = self._call(request, target)
        wrapper = None
        try:
            wrapper = await self._begin(self._chat(given), call)
            del translation, given, request  # they may be large, and have been sent
            decoder = call.decoder()
            ours = decoder is not None
            decoder = decoder or StreamDecoder(self._resources.frame_bytes, clean=self._clean)
            if names or used:
                decoder = CallsRestored(decoder, names, used)
            if ours:
                answer = self._read(decoder, call, notices, relay)
            else:
                answer = self._read_by_litellm(wrapper, call, target.model, decoder, notices)
            async with aclosing(answer) as batches:
                async for batch in batches:
                    yield batch
        finally:
            call.close()
            if wrapper is not None:
                with suppress(Exception):
                    await wrapper.aclose()

    def models(self) -> Sequence[str]:
        """The models that clients may name, which the config lists."""
        return self._settings.models

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        litellm, self._litellm = self._litellm, None
        if litellm is not None:
            await SHARED_CLIENTS.release(litellm)

    def _translation(self, request: ChatRequest, target: Target) -> Translation:
        """The request in the words of the model's provider."""
        return translated(request, self._vocabulary(target))

    def _vocabulary(self, target: Target) -> Vocabulary:
        known, quirks = of_provider(self._provider(target), target.model), self._settings.quirks
        return known if quirks is None else quirks.over(known)

    def _call(self, request: ChatRequest, target: Target) -> UpstreamCall:
        resources = self._resources
        return UpstreamCall(
            resources.transport,
            connect_s=target.connect_s,
            tick_s=target.tick_s,
            frame_bytes=resources.frame_bytes,
            answer_bytes=resources.answer_bytes,
            by_lines=self._provider(target) in _STREAMS_LINES,
            secrets=resources.secrets,
            clean=self._clean,
            trace=request.trace,
            connected=request.connected,
        )

    async def _chat(self, given: Mapping[str, Any]) -> Any:
        """The stream of an answer, once the beginning of the answer is there."""
        wrapper = await self._litellm.acompletion(**given)
        if wrapper.completion_stream is None:  # some providers send the request only for the first chunk
            await wrapper.fetch_stream()
        return wrapper

    async def _embeddings(self, request: ChatRequest, target: Target) -> Batch:
        """The vectors, in OpenAI's form."""
        call = self._call(request, target)
        given = embedding_arguments(
            self._settings, request, model=target.model, provider=self._provider(target), handler=self._handler
        )
        try:
            answer = await self._begin(self._litellm.aembedding(**given), call)
        finally:
            call.close()
        return decode_vectors(answer.model_dump_json().encode(), self._clean)

    async def _begin(self, asked: Coroutine[Any, Any, Any], call: UpstreamCall) -> Any:
        """What litellm answers to `call`.

        litellm runs in a task of its own: cancelled while it prepares the request in a thread, it would leave a
        coroutine there that nothing awaits.
        """

        async def ask() -> Any:
            CURRENT_CALL.set(call)
            return await asked

        task = asyncio.create_task(ask(), name=f"litellm {self.name}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await _abandon(task, call)
            raise
        except ProxyError:
            raise
        except Exception as error:
            raise self._translated(error, call) from None  # its own text may quote a key

    def _read(self, decoder: Decoder, call: UpstreamCall, notices: list[Notice], relay: Relay | None) -> Batches:
        """The answer as our own decoder of its wire reads it."""
        assert call.response is not None
        return read_stream(
            call.response,
            call.first,
            decoder,
            notices=notices,
            relay=relay,
            reported=lambda error: self._reported(error, call),
        )

    async def _read_by_litellm(
        self, wrapper: Any, call: UpstreamCall, model: str, decoder: Decoder, notices: list[Notice]
    ) -> Batches:
        """What litellm's stream brings, to its one end. Its chunks are OpenAI's, so OpenAI's decoder reads them."""
        failure: UpstreamError | None = None
        async with aclosing(payloads(wrapper, model, lambda: call.finish_reason)) as chunks:
            while not decoder.done:
                try:
                    async with asyncio.timeout(decoder.finished_s if decoder.finished else None):
                        payload = await anext(chunks, None)
                except TimeoutError as error:
                    failure = None if decoder.finished else self._broken_off(error, call)
                    break
                except Exception as error:
                    failure = self._broken_off(error, call)
                    break
                if payload is None:
                    break
                if events := _fed(decoder, payload):
                    yield announcing(notices, Batch(events))
                    notices = []
        if failure is not None and not decoder.finished and not decoder.done:
            yield Batch(decoder.fail(failure).events)
            return
        if (
            not decoder.finished
            and not decoder.done
            and (payload := last_chunk(wrapper, call.finish_reason)) is not None
        ):
            yield Batch(_fed(decoder, payload))
        # The end sentinel completes an answer even where no finish reason came (R3).
        end = decoder.feed(b"data: [DONE]\n\n") if call.has_end_sentinel else decoder.finish()
        if end.events:
            yield Batch(end.events)

    def _broken_off(self, error: Exception, call: UpstreamCall) -> UpstreamError:
        broken = self._translated(error, call)
        return broken if isinstance(broken, UpstreamError) else UpstreamError(broken.message)

    def _translated(self, error: Exception, call: UpstreamCall) -> ProxyError:
        translated = translate(error, call, who=f"backend {self.name}", clean=self._clean)
        return self._reported(translated, call) if isinstance(translated, UpstreamError) else translated

    def _reported(self, error: UpstreamError, call: UpstreamCall) -> UpstreamError:
        return reported(error, who=f"backend {self.name}", origin=call.origin, clean=self._clean)

    def _provider(self, target: Target) -> str:
        """Whose model it is. The config names the model, or at least whose (`openai/$1`): litellm goes by the name alone."""
        fixed = "$" not in (target.pattern or "$").partition("/")[0] and "/" in target.pattern
        if target.asked and not fixed and target.model not in self._settings.models:
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
        return arguments(
            self._litellm,
            self._settings,
            request,
            backend=self.name,
            model=target.model,
            provider=self._provider(target),
            handler=self._handler,
            words=self._vocabulary(target),
        )

    def _omissions(self, request: ChatRequest, given: Mapping[str, Any], target: Target) -> list[Notice]:
        model, provider = target.model, self._provider(target)
        supported = (
            self._supported_by(model, provider)
            if request.user or does_not_think(request) or any(noticeable(request, name) for name in request.params)
            else None
        )
        words = self._vocabulary(target)
        return omissions(request, given, supported=supported, provider=provider, model=model, words=words)

    def _supported_by(self, model: str, provider: str) -> frozenset[str] | None:
        """OpenAI's settings that litellm says a model takes; `None` where it does not say. It takes a millisecond."""
        if model not in self._supported:  # the config names the models, so these are few
            found = None
            with suppress(Exception):  # any error of its code for this provider
                name = model.removeprefix(f"{provider}/")
                found = self._litellm.get_supported_openai_params(model=name, custom_llm_provider=provider)
            more = self._settings.options.get("allowed_openai_params") or ()
            self._supported[model] = None if found is None else frozenset((*found, *more))
        return self._supported[model]


async def _abandon(task: asyncio.Task[Any], call: UpstreamCall) -> None:
    """End a call without a client: at once, or as soon as litellm has left its thread."""
    call.abandoned = True
    if not call.sent:
        await asyncio.wait({task}, timeout=_LEAVE_THREAD_S)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None:
        with suppress(Exception):
            await task.result().aclose()


def _fed(decoder: Decoder, payload: bytes) -> list[Any]:
    return decoder.feed(b"data: " + payload + b"\n\n").events
