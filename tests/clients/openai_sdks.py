"""The official OpenAI SDKs, of Python and of Node, behind one face: make a call, see what its program gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import openai

from tests.support import node

Call = Literal["stream", "whole", "helper", "models"]

CALL = Path(__file__).with_name("openai_call.mjs")


class Failure(msgspec.Struct, frozen=True):
    """An exception of an SDK; both name them alike."""

    name: str
    message: str
    status: int | None = None
    code: str | None = None
    retry_after: str | None = None


class Outcome(msgspec.Struct):
    """What came of a call: the chunks of a stream, also of one that then failed, or a whole answer."""

    chunks: list[dict[str, Any]] = []
    whole: dict[str, Any] | None = None
    models: list[str] = []
    error: Failure | None = None

    def text(self, index: int = 0) -> str:
        """The text of one choice."""
        return "".join(
            choice["delta"].get("content") or ""
            for chunk in self.chunks
            for choice in chunk["choices"]
            if choice["index"] == index
        )

    @property
    def finished(self) -> list[str]:
        """Every finish reason that was given."""
        choices = [choice for chunk in self.chunks for choice in chunk["choices"]]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


class Sdk(Protocol):
    """One of the two."""

    async def call(
        self, url: str, how: Call, request: Mapping[str, Any], *, key: str = "none", retries: int = 0
    ) -> Outcome:
        """Make a call of the proxy at `url`."""

    def leave(self, url: str, request: Mapping[str, Any]) -> contextlib.AbstractAsyncContextManager[None]:
        """Stream, and leave the loop at the first token; inside the block the SDK has been left, but lives on."""


class PythonSdk:
    """In this process."""

    async def call(
        self, url: str, how: Call, request: Mapping[str, Any], *, key: str = "none", retries: int = 0
    ) -> Outcome:
        outcome = Outcome()
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries, timeout=60) as client:
            try:
                await self._call(client, how, request, outcome)
            except openai.APIError as error:
                status = getattr(error, "status_code", None)
                headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
                outcome.error = Failure(
                    type(error).__name__, error.message, status, error.code, headers.get("retry-after")
                )
        return outcome

    async def _call(self, client: openai.AsyncOpenAI, how: Call, request: Mapping[str, Any], outcome: Outcome) -> None:
        match how:
            case "stream":
                async for chunk in await client.chat.completions.create(**request, stream=True):
                    outcome.chunks.append(chunk.model_dump(mode="json"))
            case "whole":
                outcome.whole = (await client.chat.completions.create(**request)).model_dump(mode="json")
            case "helper":
                async with client.chat.completions.stream(**request) as stream:
                    outcome.whole = (await stream.get_final_completion()).model_dump(mode="json")
            case "models":
                outcome.models = [model.id async for model in client.models.list()]

    @contextlib.asynccontextmanager
    async def leave(self, url: str, request: Mapping[str, Any]) -> AsyncIterator[None]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
            stream = await client.chat.completions.create(**request, stream=True)
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            await stream.close()
            yield


class NodeSdk:
    """In a process of its own."""

    async def call(
        self, url: str, how: Call, request: Mapping[str, Any], *, key: str = "none", retries: int = 0
    ) -> Outcome:
        async with self._process(url, how, request, key, retries) as process:
            printed, complained = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, complained.decode()
        return msgspec.json.decode(printed, type=Outcome)

    @contextlib.asynccontextmanager
    async def leave(self, url: str, request: Mapping[str, Any]) -> AsyncIterator[None]:
        async with self._process(url, "leave", request, "none", 0) as process:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"left\n"
            yield
            await process.communicate(b"")  # closes its standard input, which it waits for

    @contextlib.asynccontextmanager
    async def _process(
        self, url: str, how: str, request: Mapping[str, Any], key: str, retries: int
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        script = await asyncio.to_thread(node.among_modules, CALL)
        client = {"baseURL": f"{url}/v1", "apiKey": key, "maxRetries": retries}
        process = await asyncio.create_subprocess_exec(
            node.node(), str(script), json.dumps({"client": client, "request": request, "how": how}),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


SDKS: dict[str, Sdk] = {"python": PythonSdk(), "node": NodeSdk()}
