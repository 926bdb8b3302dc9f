"""The models that an upstream itself lists, asked for in the background (N1).

No request waits for a list: `models` returns the last good one at once, and fetches a new one in the background when
that is old. A failure is not an error; the last good list stays.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from proxy.errors import ProxyError, UpstreamMalformed
from proxy.transport import Request, Transport

WITHIN_S = 10.0  # for an answer
AGAIN_S = 15.0  # after a failure
MOST_BYTES = 8 * 1024 * 1024  # of a list
MOST_MODELS = 2000  # that are read of it
LONGEST_ID = 256  # characters; models with longer ids are skipped
MOST_LISTS = 256  # that are kept while configs come and go

log = structlog.get_logger("proxy.backends")


class Model(msgspec.Struct, frozen=True):
    """A model as its upstream lists it. `context` is the most tokens of a conversation; 0: the upstream does not say."""

    id: str
    context: int = 0


Lists = dict[tuple[str, str], tuple[Model, ...]]
"""The last good lists, by the names and addresses of their backends. It outlives a config, which may be loaded anew."""


class ModelList:
    """The last good list of one upstream. `every_s` 0 turns the asking off."""

    def __init__(
        self, name: str, transport: Transport, request: Callable[[], Request | None], *, every_s: float, kept: Lists
    ) -> None:
        """`request`: what to ask; `None` if this upstream has no list."""
        self._name, self._transport, self._request = name, transport, request
        self._every_s, self._kept = every_s, kept
        self._due = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    @property
    def last(self) -> Sequence[Model]:
        """The last good list; empty if there is none yet, or none is asked for."""
        request = self._request() if self._every_s else None
        return self._kept.get((self._name, request.url), ()) if request is not None else ()

    def models(self) -> Sequence[Model]:
        """The last good list, at once. Asks for a new one in the background when that is older than `every_s`."""
        if self._every_s and self._asking is None and asyncio.get_running_loop().time() >= self._due:
            self._asking = asyncio.create_task(self._ask(), name=f"models of {self._name}")
        return self.last

    async def aclose(self) -> None:
        """Stop asking."""
        self._every_s = 0
        if (task := self._asking) is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _ask(self) -> None:
        again_s = self._every_s
        try:
            if (request := self._request()) is not None:
                async with asyncio.timeout(WITHIN_S):
                    self._keep(request, await self._fetched(request))
        except (ProxyError, TimeoutError) as error:
            again_s = min(AGAIN_S, self._every_s)
            code, why = "timeout", f"the upstream did not list its models within {WITHIN_S:g} s"
            if isinstance(error, ProxyError):
                code, why = error.code, error.message
            log.info("models_not_listed", backend=self._name, error=code, message=why)
        finally:
            self._due = asyncio.get_running_loop().time() + again_s
            self._asking = None

    def _keep(self, request: Request, models: tuple[Model, ...]) -> None:
        self._kept.pop(place := (self._name, request.url), None)
        self._kept[place] = models
        if len(self._kept) > MOST_LISTS:
            del self._kept[next(iter(self._kept))]  # the one that came longest ago

    async def _fetched(self, request: Request) -> tuple[Model, ...]:
        response = await self._transport.open(request)
        try:
            if response.status != 200:
                raise UpstreamMalformed(f"the upstream answered its list of models with status {response.status}")
            return read_models(await response.read_all(MOST_BYTES))
        finally:
            response.close()


def read_models(body: bytes) -> tuple[Model, ...]:
    """The models in a list of OpenAI's (`data`), Anthropic's (`data`) or Ollama's (`models`) form.

    Raises `UpstreamMalformed` for anything else. Entries without an id are skipped.
    """
    value = _decoded(body)
    rows = value if isinstance(value, list) else None
    if isinstance(value, dict):
        rows = next((value[name] for name in ("data", "models") if isinstance(value.get(name), list)), None)
        if rows is None and value.get("object") == "list" and value.get("data") is None:
            rows = []  # Ollama without models
        if not rows and value.get("error"):
            rows = None
    if rows is None:
        raise UpstreamMalformed("the upstream's list of models is not one")
    found = {model.id: model for row in rows[:MOST_MODELS] if (model := _model(row)) is not None}
    return tuple(found.values())


def _decoded(body: bytes) -> Any:
    """The value of a JSON text; `None` for what is none.

    What a few names or numbers in it are not allowed to be, such as NaN, half a character or bytes that are not UTF-8,
    leaves the others readable, as it does for the official SDKs.
    """
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(body)
    with suppress(ValueError, RecursionError):
        return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    return None


def _model(row: Any) -> Model | None:
    if isinstance(row, str):
        row = {"id": row}
    if not isinstance(row, dict):
        return None
    id_ = next((row[name] for name in ("id", "model", "name") if isinstance(row.get(name), str) and row[name]), "")
    if not id_ or len(id_) > LONGEST_ID or not id_.isprintable() or "\ufffd" in id_:
        return None
    # OpenRouter, vLLM, Mistral and Groq, in this order.
    sizes = (row.get(name) for name in ("context_length", "max_model_len", "max_context_length", "context_window"))
    return Model(id_, next((size for size in sizes if type(size) is int and size > 0), 0))
