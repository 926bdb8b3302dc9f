"""What clients write: one request in normal form, said in the words of each contract.

Written from the contracts' own documents and sharing no code with the package, so that a mistake in a reader is
not repeated here. What a contract has no words for raises `NoWords`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from proxy.request import Audio, ChatRequest, File, Image, Message, Part, Text, ToolCall

Body = dict[str, Any]

DECLARED = """
    path: /own
    response:
      token: {text: $text}
      reasoning: {thought: $text}
      tool_call_start: {call: $call_id, number: $call_index, name: $name}
      tool_call_delta: {number: $call_index, arguments: $arguments_text}
      tool_call: {called: $call_id, name: $name, arguments: $arguments}
      source: {source: $url, title: $title}
      media: {media: $url, type: $media_type}
      notice: {notice: $message, code: $code, param: $param}
      usage: {input: $input_tokens, output: $output_tokens, cached: $cached_tokens, thought_tokens: $reasoning_tokens}
      done: {done: $finish_reason}
      error: {error: $message}
    whole:
      text: $text
      reasoning: $reasoning
      calls: $tool_calls
      sources: $sources
      media: $media
      done: $finish_reason
      input: $input_tokens
      output: $output_tokens
      cached: $cached_tokens
      thought_tokens: $reasoning_tokens
"""
"""The declared contract of the matrix: it has a template for everything that there is one for."""


class NoWords(Exception):
    """The contract cannot say this."""


def _only(given: Mapping[str, Any], words: Mapping[str, str]) -> Body:
    """Settings by the contract's own names."""
    if missing := given.keys() - words.keys():
        raise NoWords(missing)
    return {words[name]: value for name, value in given.items()}


def _media_and_data(url: str) -> tuple[str, str]:
    media_type, _, data = url.removeprefix("data:").partition(";base64,")
    return media_type, data


def _described(tool: Any) -> Body:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return described | ({"strict": True} if tool.strict else {})


# -- OpenAI Chat Completions, which /chat and declared contracts follow


def openai(request: ChatRequest) -> Body:
    body: Body = {"model": "any", "messages": [_openai_message(message) for message in request.messages]}
    if request.tools:
        body["tools"] = [{"type": "function", "function": _described(tool)} for tool in request.tools]
    if request.hosted_tools:
        body["web_search_options"] = {}
    if request.user:
        body["user"] = request.user
    if request.wants_usage:
        body["stream_options"] = {"include_usage": True}
    return body | {"stream": request.stream} | dict(request.params)


def plain(request: ChatRequest) -> Body:
    if request.hosted_tools:
        raise NoWords
    body = openai(request)
    body.pop("model")
    body.pop("stream_options", None)
    return body


def _openai_message(message: Message) -> Body:
    if message.failed or message.reasoning_signature:
        raise NoWords
    value: Body = {"role": message.role}
    match message.parts:
        case (Text(text),):
            value["content"] = text
        case ():
            value["content"] = None
        case parts if message.role == "tool":
            raise NoWords(parts)
        case parts:
            value["content"] = [_openai_part(part) for part in parts]
    if message.reasoning:
        value["reasoning_content"] = message.reasoning
    if message.tool_calls:
        value["tool_calls"] = [_openai_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        value["tool_call_id"] = message.tool_call_id
    return value


def _openai_call(call: ToolCall) -> Body:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _openai_part(part: Part) -> Body:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url):
            return {"type": "image_url", "image_url": {"url": url}}
        case Audio(data, form):
            return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
        case File(data=str(data)):
            url = f"data:{part.media_type};base64,{data}"
            return {"type": "file", "file": {"filename": part.name, "file_data": url}}
        case File(id=str(id_)):
            return {"type": "file", "file": {"file_id": id_}}
        case _:
            raise NoWords(part)


# -- OpenAI Responses


def responses(request: ChatRequest) -> Body:
    body: Body = {"model": "any", "stream": request.stream, "store": False}
    messages = list(request.messages)
    if messages[0].role == "system":
        body["instructions"] = messages.pop(0).text
    body["input"] = [item for message in messages for item in _items(message)]
    if request.tools:
        body["tools"] = [{"type": "function", **_described(tool)} for tool in request.tools]
    if request.hosted_tools:
        body["tools"] = [{"type": "web_search"}]
    if request.user:
        body["safety_identifier"] = request.user
    params = dict(request.params)
    if schema := params.pop("response_format", None):
        body["text"] = {"format": {"type": schema["type"], **schema.get("json_schema", {})}}
    if effort := params.pop("reasoning_effort", None):
        body["reasoning"] = {"effort": effort}
    if "tool_choice" in params and type(params["tool_choice"]) is dict:
        body["tool_choice"] = {"type": "function", "name": params.pop("tool_choice")["function"]["name"]}
    words = {"max_tokens": "max_output_tokens"}
    same = ("temperature", "top_p", "tool_choice", "parallel_tool_calls")
    return body | _only(params, words | {name: name for name in same})


def _items(message: Message) -> list[Body]:
    if message.failed:
        raise NoWords
    content = [_responses_part(part, message.role) for part in message.parts]
    if message.role == "tool":
        output: Any = message.text if len(content) == 1 else content
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": output}]
    items: list[Body] = []
    if message.reasoning:
        seal = f"chat-proxy:{message.reasoning_signature}" if message.reasoning_signature else None
        summary = [{"type": "summary_text", "text": message.reasoning}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": seal})
    if content:
        items.append({"type": "message", "role": message.role, "content": content})
    return items + [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]


def _responses_part(part: Part, role: str) -> Body:
    match part:
        case Text(text):
            return {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        case Image(url):
            return {"type": "input_image", "image_url": url}
        case Audio(data, form):
            return {"type": "input_audio", "input_audio": {"data": data, "format": form}}
        case File(data=str(data)):
            url = f"data:{part.media_type};base64,{data}"
            return {"type": "input_file", "filename": part.name, "file_data": url}
        case File(id=str(id_)):
            return {"type": "input_file", "file_id": id_}
        case File(url=str(url)):
            return {"type": "input_file", "file_url": url}
        case _:
            raise NoWords(part)


# -- Anthropic Messages


def anthropic(request: ChatRequest) -> Body:
    messages = list(request.messages)
    body: Body = {"model": "any", "max_tokens": 500, "stream": request.stream}
    if messages[0].role == "system":
        body["system"] = messages.pop(0).text
    turns: list[Body] = []
    for message in messages:
        if message.role == "developer":
            raise NoWords
        role = message.role if message.role in {"assistant", "system"} else "user"
        blocks = _anthropic_blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    body["messages"] = turns
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            | ({"strict": True} if tool.strict else {})
            for tool in request.tools
        ]
    if request.hosted_tools:
        body["tools"] = [{"type": "web_search_20250305", "name": "web_search"}]
    if request.user:
        body["metadata"] = {"user_id": request.user}
    params = dict(request.params)
    match params.pop("tool_choice", None):
        case "required":
            body["tool_choice"] = {"type": "any"}
        case {"function": {"name": str(name)}}:
            body["tool_choice"] = {"type": "tool", "name": name}
        case None:
            pass
    if params.pop("parallel_tool_calls", None) is False:
        body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
    if effort := params.pop("reasoning_effort", None):
        body |= {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": {"low": 2048}[effort]}}
    match params.pop("response_format", None):
        case {"json_schema": {"schema": schema}}:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        case None:
            pass
        case other:
            raise NoWords(other)
    same = {name: name for name in ("temperature", "top_p", "top_k", "max_tokens")}
    return body | _only(params, same | {"stop": "stop_sequences"})


def _anthropic_blocks(message: Message) -> list[Body]:
    blocks = [_anthropic_part(part) for part in message.parts]
    if message.role == "tool":
        result: Body = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": blocks}
        return [result | ({"is_error": True} if message.failed else {})]
    if message.reasoning:
        if not message.reasoning_signature:
            raise NoWords
        blocks.insert(0, {"type": "thinking", "thinking": message.reasoning, "signature": message.reasoning_signature})
    return blocks + [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
        for call in message.tool_calls
    ]


def _anthropic_part(part: Part) -> Body:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url) if url.startswith("data:"):
            media_type, data = _media_and_data(url)
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case Image(url):
            return {"type": "image", "source": {"type": "url", "url": url}}
        case File(data=str(data)) if part.media_type == "application/pdf":
            source = {"type": "base64", "media_type": part.media_type, "data": data}
            return {"type": "document", "source": source, "title": part.name}
        case File(url=str(url)):
            return {"type": "document", "source": {"type": "url", "url": url}}
        case File(id=str(id_)):
            return {"type": "document", "source": {"type": "file", "file_id": id_}}
        case _:
            raise NoWords(part)


# -- Ollama


def ollama(request: ChatRequest) -> Body:
    if request.user or request.hosted_tools:
        raise NoWords
    body: Body = {"model": "any", "messages": list(map(_ollama_message, request.messages)), "stream": request.stream}
    if request.tools:
        body["tools"] = [{"type": "function", "function": _described(tool)} for tool in request.tools]
    params = dict(request.params)
    match params.pop("response_format", None):
        case {"json_schema": {"schema": schema}}:
            body["format"] = schema
        case {"type": "json_object"}:
            body["format"] = "json"
    if effort := params.pop("reasoning_effort", None):
        body["think"] = effort
    same = ("temperature", "top_p", "top_k", "seed", "stop", "frequency_penalty")
    body["options"] = _only(params, {name: name for name in same} | {"max_tokens": "num_predict"})
    return body


def _ollama_message(message: Message) -> Body:
    if message.failed or message.reasoning_signature or message.role == "developer":
        raise NoWords
    value: Body = {"role": message.role, "content": message.text}
    for part in message.parts:
        if isinstance(part, Image) and part.url.startswith("data:"):
            value.setdefault("images", []).append(_media_and_data(part.url)[1])
        elif not isinstance(part, Text):
            raise NoWords(part)
    if message.reasoning:
        value["thinking"] = message.reasoning
    if message.tool_calls:
        value["tool_calls"] = [
            {"function": {"name": call.name, "arguments": json.loads(call.arguments)}} for call in message.tool_calls
        ]
    if message.role == "tool":
        value["tool_name"] = message.name
    return value


# -- the AI SDK


def ai_sdk(request: ChatRequest) -> Body:
    if request.hosted_tools:
        raise NoWords
    body: Body = {"id": "chat-1", "trigger": "submit-message", "stream": request.stream}
    messages: list[Body] = []
    for number, message in enumerate(request.messages):
        if message.role == "developer":
            raise NoWords
        if message.role == "tool":
            parts = messages[-1]["parts"] if messages else []
            part = next((one for one in parts if one.get("toolCallId") == message.tool_call_id), None)
            if part is None or "state" in part or any(not isinstance(part, Text) for part in message.parts):
                raise NoWords
            failed = {"state": "output-error", "errorText": message.text}
            part |= failed if message.failed else {"state": "output-available", "output": message.text}
        else:
            messages.append({"id": f"m{number}", "role": message.role, "parts": _ui_parts(message)})
    body["messages"] = messages
    if request.tools:  # as assistant-ui's transport sends them
        body["tools"] = {
            tool.name: {"description": tool.description, "parameters": tool.parameters} for tool in request.tools
        }
    if request.user:
        body["user"] = request.user
    if request.wants_usage:
        body["stream_options"] = {"include_usage": True}
    params = dict(request.params)
    settings = {"temperature": "temperature", "top_p": "topP", "top_k": "topK", "max_tokens": "maxOutputTokens"}
    settings |= {"stop": "stopSequences", "seed": "seed", "frequency_penalty": "frequencyPenalty"}
    body["callSettings"] = {settings[name]: params.pop(name) for name in list(params) if name in settings}
    return body | params


def _ui_parts(message: Message) -> list[Body]:
    parts: list[Body] = []
    if message.reasoning:
        seal = message.reasoning_signature
        metadata = {"providerMetadata": {"chatProxy": {"signature": seal}}} if seal else {}
        parts.append({"type": "reasoning", "text": message.reasoning, "state": "done"} | metadata)
    parts += [_ui_part(part) for part in message.parts]
    return parts + [
        {"type": f"tool-{call.name}", "toolCallId": call.id, "input": json.loads(call.arguments)}
        for call in message.tool_calls
    ]


def _ui_part(part: Part) -> Body:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url):
            return {"type": "file", "mediaType": "image/png", "url": url}
        case Audio(data, form):
            return {"type": "file", "mediaType": f"audio/{form}", "url": f"data:audio/{form};base64,{data}"}
        case File(id=None):
            url = part.url or f"data:{part.media_type};base64,{part.data}"
            return {"type": "file", "mediaType": part.media_type, "url": url, "filename": part.name}
        case _:
            raise NoWords(part)


# -- AG-UI


def ag_ui(request: ChatRequest) -> Body:
    if not request.stream or request.hosted_tools:
        raise NoWords
    messages = [one for number, message in enumerate(request.messages) for one in _run_messages(message, number)]
    props = dict(request.params) | ({"user": request.user} if request.user else {})
    return {
        "threadId": "thread-1",
        "runId": "run-1",
        "protocolVersion": "1.0",
        "state": {},
        "messages": messages,
        "tools": [_described(tool) for tool in request.tools],
        "context": [],
        "forwardedProps": props,
    }


def _run_messages(message: Message, number: int) -> list[Body]:
    value: Body = {"id": f"m{number}", "role": message.role}
    parts = [_run_part(part) for part in message.parts]
    value["content"] = message.text if all(part["type"] == "text" for part in parts) else parts
    if message.role == "tool":
        return [value | {"toolCallId": message.tool_call_id} | ({"error": message.text} if message.failed else {})]
    if message.tool_calls:
        value["toolCalls"] = [_openai_call(call) for call in message.tool_calls]
    if not message.reasoning:
        return [value]
    thought = {"id": f"r{number}", "role": "reasoning", "content": message.reasoning}
    seal = message.reasoning_signature
    return [thought | ({"encryptedValue": seal} if seal else {}), value]


def _run_part(part: Part) -> Body:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(url) if url.startswith("data:"):
            media_type, data = _media_and_data(url)
            return {"type": "image", "source": {"type": "data", "value": data, "mimeType": media_type}}
        case Image(url):
            return {"type": "image", "source": {"type": "url", "value": url, "mimeType": "image/png"}}
        case Audio(data, form):
            return {"type": "audio", "source": {"type": "data", "value": data, "mimeType": f"audio/{form}"}}
        case File():
            kind, value = next((k, v) for k, v in (("data", part.data), ("url", part.url), ("file", part.id)) if v)
            return {
                "type": "document",
                "source": {"type": kind, "value": value, "mimeType": part.media_type},
                "metadata": {"filename": part.name},
            }
        case _:
            raise NoWords(part)


SAID: Mapping[str, tuple[str, Callable[[ChatRequest], Body]]] = {
    "chat": ("/chat?dialect=json", plain),
    "openai": ("/v1/chat/completions", openai),
    "responses": ("/v1/responses", responses),
    "anthropic": ("/v1/messages", anthropic),
    "ollama": ("/ollama/api/chat", ollama),
    "ai-sdk": ("/ai-sdk/chat", ai_sdk),
    "ai-text": ("/ai-text", ai_sdk),
    "ag-ui": ("/agui", ag_ui),
    "declared": ("/own", plain),
}
"""Each contract's address, and how its clients say a request."""
