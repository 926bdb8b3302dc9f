"""Frameworks around OpenAI's SDK, with a tool that they run: pydantic-ai, openai-agents, LlamaIndex, Haystack, instructor."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import agents
import instructor
import openai
from drive import Ask, Seen
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from llama_index.core.llms import ChatMessage as LlamaMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI as LlamaChat
from llama_index.llms.openai import OpenAIResponses as LlamaResponses
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

agents.set_tracing_disabled(True)  # it asks OpenAI's host


def sdk(ask: Ask) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{ask['url']}/v1", api_key="none", max_retries=0, timeout=60)


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"rain in {city}"


# -- pydantic-ai


def _pydantic(model: Callable[..., Any]) -> tuple[Any, Any]:
    def agent(ask: Ask) -> Any:
        made = model(ask["model"], provider=OpenAIProvider(openai_client=sdk(ask)))
        return Agent(made, tools=[weather] if ask.get("tools") else [], retries=0)

    async def streamed(ask: Ask, seen: Seen) -> None:
        async with agent(ask).run_stream(ask["question"]) as run:
            async for piece in run.stream_text(delta=True, debounce_by=None):
                seen.say(piece)

    async def whole(ask: Ask, seen: Seen) -> None:
        seen.text = (await agent(ask).run(ask["question"])).output

    return streamed, whole


# -- openai-agents


def _openai_agents(model: Callable[..., Any]) -> tuple[Any, Any]:
    def agent(ask: Ask) -> Any:
        made = model(model=ask["model"], openai_client=sdk(ask))
        tools = [agents.function_tool(weather)] if ask.get("tools") else []
        return agents.Agent("tester", model=made, tools=tools)

    async def streamed(ask: Ask, seen: Seen) -> None:
        run = agents.Runner.run_streamed(agent(ask), ask["question"])
        try:
            async for event in run.stream_events():
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                    seen.say(event.data.delta)
        finally:
            run.cancel()

    async def whole(ask: Ask, seen: Seen) -> None:
        seen.text = (await agents.Runner.run(agent(ask), ask["question"])).final_output

    return streamed, whole


# -- LlamaIndex


def _llama(model: Callable[..., Any]) -> tuple[Any, Any]:
    def llm(ask: Ask) -> Any:
        return model(model="gpt-4o", api_base=f"{ask['url']}/v1", api_key="none", max_retries=0, reuse_client=False)

    tool = FunctionTool.from_defaults(weather)

    def results(answer: Any, ask: Ask) -> list[Any]:
        calls = llm(ask).get_tool_calls_from_response(answer, error_on_no_tool_call=False)
        return [
            LlamaMessage(
                role="tool", content=weather(**call.tool_kwargs),
                additional_kwargs={"tool_call_id": call.tool_id, "call_id": call.tool_id},
            )
            for call in calls
        ]  # fmt: skip

    async def streamed(ask: Ask, seen: Seen) -> None:
        history = [LlamaMessage(role="user", content=ask["question"])]
        while True:
            if ask.get("tools"):
                stream = await llm(ask).astream_chat_with_tools([tool], chat_history=history)
            else:
                stream = await llm(ask).astream_chat(history)
            last = None
            try:
                async for last in stream:
                    seen.say(last.delta)
            finally:
                await stream.aclose()
            if last is None or not (told := results(last, ask)):
                return
            history += [last.message, *told]

    async def whole(ask: Ask, seen: Seen) -> None:
        history = [LlamaMessage(role="user", content=ask["question"])]
        while True:
            if ask.get("tools"):
                answer = await llm(ask).achat_with_tools([tool], chat_history=history)
            else:
                answer = await llm(ask).achat(history)
            if not (told := results(answer, ask)):
                seen.text = answer.message.content or ""
                return
            history += [answer.message, *told]

    return streamed, whole


# -- Haystack


def _haystack(generator: Callable[..., Any]) -> tuple[Any, Any]:
    tool = create_tool_from_function(weather)

    async def run(ask: Ask, on_chunk: Any = None) -> str:
        made = generator(
            model=ask["model"], api_key=Secret.from_token("none"), api_base_url=f"{ask['url']}/v1", max_retries=0,
            tools=[tool] if ask.get("tools") else None,
        )  # fmt: skip
        history = [ChatMessage.from_user(ask["question"])]
        while True:
            [reply] = (await made.run_async(history, streaming_callback=on_chunk))["replies"]
            if not reply.tool_calls:
                return reply.text
            history.append(reply)
            for call in reply.tool_calls:
                result = tool.invoke(**call.arguments)
                history.append(ChatMessage.from_tool(result, origin=call))

    async def streamed(ask: Ask, seen: Seen) -> None:
        async def on_chunk(chunk: Any) -> None:
            seen.say(chunk.content)

        await run(ask, on_chunk)

    async def whole(ask: Ask, seen: Seen) -> None:
        seen.text = await run(ask)

    return streamed, whole


# -- instructor


class Weather(BaseModel):
    """The weather of a city."""

    city: str


def _instructor(mode: instructor.Mode) -> tuple[Any, Any]:
    async def streamed(ask: Ask, seen: Seen) -> None:
        made = instructor.from_openai(sdk(ask), mode=mode)
        said = made.create_partial(
            response_model=Weather, messages=[{"role": "user", "content": ask["question"]}], model=ask["model"],
            max_retries=1,
        )  # fmt: skip
        async for piece in said:
            seen.text = piece.city or ""
            seen.say("")

    async def whole(ask: Ask, seen: Seen) -> None:
        made = instructor.from_openai(sdk(ask), mode=mode)
        said = await made.create(
            response_model=Weather, messages=[{"role": "user", "content": ask["question"]}], model=ask["model"],
            max_retries=1,
        )  # fmt: skip
        seen.text = said.city

    return streamed, whole


Asks = Callable[[Ask, Seen], Awaitable[None]]
PAIRS: dict[str, tuple[Asks, Asks]] = {
    "pydantic-ai chat": _pydantic(OpenAIChatModel),
    "pydantic-ai responses": _pydantic(OpenAIResponsesModel),
    "openai-agents chat": _openai_agents(agents.OpenAIChatCompletionsModel),
    "openai-agents responses": _openai_agents(agents.OpenAIResponsesModel),
    "llama-index chat": _llama(LlamaChat),
    "llama-index responses": _llama(LlamaResponses),
    "haystack chat": _haystack(OpenAIChatGenerator),
    "haystack responses": _haystack(OpenAIResponsesChatGenerator),
    "instructor chat": _instructor(instructor.Mode.TOOLS),
    "instructor responses": _instructor(instructor.Mode.RESPONSES_TOOLS),
}
CLIENTS: dict[str, Asks] = {
    f"{name}, {way}": asks
    for name, pair in PAIRS.items()
    for way, asks in zip(("streamed", "whole"), pair, strict=True)
}
