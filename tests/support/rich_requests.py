"""One rich request of every contract, which holds every field that a reader of the proxy looks at.

Written by hand from the contracts' documents, so that a reader that looks at a new field misses it here: add it.
"""

from __future__ import annotations

from typing import Any

from proxy.contracts.base import Frontend
from proxy.contracts.declared.frontend import DeclaredFrontend
from tests.matrix import asking
from tests.support.declared import declared_settings

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
URL = f"data:image/png;base64,{PNG}"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo"]}}, "required": ["city"]}
JSON_SCHEMA = {"name": "answer", "strict": True, "schema": SCHEMA}

SETTINGS: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "max_tokens": 100,
    "max_completion_tokens": 100,
    "stop": ["a", "b"],
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
    "seed": 7,
    "n": 1,
    "logprobs": False,
    "top_logprobs": 2,
    "logit_bias": {"50256": -100},
    "response_format": {"type": "json_schema", "json_schema": JSON_SCHEMA},
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": True,
    "reasoning_effort": "low",
    "verbosity": "low",
    "service_tier": "auto",
}

FUNCTION = {"name": "weather", "description": "The weather.", "parameters": SCHEMA, "strict": True}
OPENAI_TOOLS = [{"type": "function", "function": FUNCTION}, {"type": "web_search", "filters": {"a": ["b"]}}]
OPENAI_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
OPENAI_MESSAGES: list[Any] = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}], "name": "s"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "hi"},
            {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
            {"type": "image_url", "image_url": URL},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "unheard_of", "value": {"a": [1]}},
        ],
        "name": "u",
    },
    {
        "role": "assistant",
        "content": [{"type": "text", "text": "Let me see."}, {"type": "refusal", "refusal": "No."}],
        "reasoning_content": "hm",
        "reasoning": "hm",
        "tool_calls": [OPENAI_CALL],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    {"role": "user", "content": "and now?"},
]

OPENAI: dict[str, Any] = {
    **SETTINGS,
    "model": "m",
    "messages": OPENAI_MESSAGES,
    "tools": OPENAI_TOOLS,
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "ada",
    "metadata": {"team": "a"},
    "store": False,
    "modalities": ["text"],
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {"search_context_size": "low"},
    "extra_body": {"a": {"b": [1]}},
}
OPENAI_FUNCTIONS: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
        {"role": "function", "name": "weather", "content": "rain"},
    ],
    "functions": [FUNCTION],
    "function_call": {"name": "weather"},
}

CHAT: dict[str, Any] = {
    **SETTINGS,
    "model": "m",
    "messages": OPENAI_MESSAGES,
    "tools": [],
    "stream": True,
    "user": "ada",
    "metadata": {"team": "a"},
}

RESPONSES: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "Be kind."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": URL, "detail": "low", "file_id": None},
                {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
                {"type": "input_file", "file_url": "http://a/b.pdf", "file_id": "file-1"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": "abc",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [
                {
                    "type": "output_text",
                    "text": "Let me see.",
                    "annotations": [{"type": "url_citation", "url": "http://a", "title": "A", "start_index": 0}],
                },
                {"type": "refusal", "refusal": "No."},
            ],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "c1",
            "name": "weather",
            "arguments": "{}",
            "namespace": "n",
        },
        {"type": "function_call_output", "call_id": "c1", "output": "rain", "id": "o1", "status": "completed"},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
        {"type": "custom_tool_call", "call_id": "c3", "name": "patch", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": "done"},
        {"type": "local_shell_call", "call_id": "c4", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "call_id": "c4", "output": "a"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    ],
    "tools": [
        {"type": "function", **FUNCTION},
        {"type": "namespace", "name": "n", "description": "d", "tools": [{"type": "function", **FUNCTION}]},
        {"type": "custom", "name": "patch", "description": "d", "format": {"type": "grammar", "syntax": "lark"}},
        {"type": "web_search", "search_context_size": "low", "filters": {"allowed_domains": ["a"]}},
        {"type": "local_shell"},
    ],
    "tool_choice": {"type": "function", "name": "weather"},
    "parallel_tool_calls": True,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_logprobs": 0,
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "reasoning": {"effort": "low", "summary": "auto", "generate_summary": None},
    "text": {"format": {"type": "json_schema", **JSON_SCHEMA}, "verbosity": "low"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "truncation": "disabled",
    "service_tier": "auto",
    "user": "ada",
    "safety_identifier": "ada",
    "prompt_cache_key": "k",
    "metadata": {"team": "a"},
    "background": False,
    "previous_response_id": None,
    "conversation": None,
    "prompt": None,
}

ANTHROPIC: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}, "citations": []},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "image", "source": {"type": "url", "url": "http://a/b.png"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
                    "title": "t",
                    "context": "c",
                    "citations": {"enabled": True},
                },
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}},
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
                {"type": "document", "source": {"type": "file", "file_id": "f"}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Let me see.", "citations": [{"type": "char_location", "cited_text": "a"}]},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
                {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result"}]},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "is_error": True,
                    "content": [
                        {"type": "text", "text": "rain"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                    ],
                },
                {"type": "tool_result", "tool_use_id": "t2", "content": "x"},
                {"type": "text", "text": "and now?"},
            ],
        },
    ],
    "tools": [
        {"name": "weather", "description": "d", "input_schema": SCHEMA, "type": "custom", "strict": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
    ],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "output_format": {"type": "json_schema", "schema": SCHEMA},
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "stop_sequences": ["a"],
    "stream": True,
    "metadata": {"user_id": "ada"},
    "service_tier": "auto",
    "container": {"id": "c"},
    "mcp_servers": [{"type": "url", "url": "http://a", "name": "n"}],
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
}

OLLAMA_OPTIONS: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.1,
    "seed": 7,
    "stop": ["a"],
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repeat_penalty": 1.1,
    "num_predict": 100,
    "num_ctx": 4096,
}
OLLAMA: dict[str, Any] = {
    "model": "m:latest",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi", "images": [PNG]},
        {
            "role": "assistant",
            "content": "Let me see.",
            "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}, "index": 0}}],
        },
        {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": "c1", "name": "weather"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "format": SCHEMA,
    "options": OLLAMA_OPTIONS,
    "think": "low",
    "keep_alive": "5m",
    "stream": True,
    "logprobs": True,
    "top_logprobs": 2,
}
OLLAMA_GENERATE: dict[str, Any] = {
    "model": "m",
    "prompt": "hi",
    "system": "Be brief.",
    "images": [PNG],
    "suffix": "",
    "template": "t",
    "raw": False,
    "context": [1, 2],
    "format": "json",
    "options": OLLAMA_OPTIONS,
    "think": True,
    "keep_alive": 0,
    "stream": True,
}

AI_SDK: dict[str, Any] = {
    "id": "chat-1",
    "trigger": "submit-message",
    "messageId": "m-1",
    "messages": [
        {"id": "1", "role": "system", "parts": [{"type": "text", "text": "Be brief."}]},
        {
            "id": "2",
            "role": "user",
            "metadata": {"a": 1},
            "parts": [
                {"type": "text", "text": "hi", "state": "done"},
                {"type": "file", "mediaType": "image/png", "url": URL, "filename": "a.png"},
                {"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf,a%20b"},
                {"type": "file", "mediaType": "audio/wav", "url": "data:audio/wav;base64,aGk="},
                {"type": "data-own", "data": {"a": 1}},
            ],
        },
        {
            "id": "3",
            "role": "assistant",
            "parts": [
                {"type": "step-start"},
                {"type": "reasoning", "text": "hm", "providerMetadata": {"chatProxy": {"signature": "s"}}},
                {"type": "text", "text": "Let me see."},
                {
                    "type": "tool-weather",
                    "toolCallId": "c1",
                    "state": "output-available",
                    "input": {"city": "Oslo"},
                    "output": {"rain": True},
                    "preliminary": False,
                },
                {
                    "type": "dynamic-tool",
                    "toolName": "time",
                    "toolCallId": "c2",
                    "state": "output-error",
                    "rawInput": "{",
                    "errorText": "broken",
                },
                {
                    "type": "tool-pay",
                    "toolCallId": "c3",
                    "state": "output-denied",
                    "input": {},
                    "approval": {"id": "a", "approved": False, "reason": "no"},
                },
                {
                    "type": "tool-ask",
                    "toolCallId": "c4",
                    "state": "approval-responded",
                    "approval": {"approved": False},
                },
            ],
        },
        {"id": "4", "role": "user", "content": "and now?"},
    ],
    **SETTINGS,
    "model": "m",
    "system": "Be brief.",
    "tools": {"weather": {"description": "d", "parameters": SCHEMA}, "time": {"inputSchema": SCHEMA}},
    "callSettings": {
        "maxTokens": 100,
        "maxOutputTokens": 100,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.1,
        "seed": 7,
        "stopSequences": ["a"],
    },
    "config": {"modelName": "m", "reasoningEffort": "low"},
    "stream": True,
    "stream_options": {"include_usage": True},
    "user": "ada",
    "metadata": {"team": "a"},
}
AI_SDK_PROMPT: dict[str, Any] = {"prompt": "hi", "model": "m", "tools": OPENAI_TOOLS[:1], "system": "Be brief."}
AI_TEXT: dict[str, Any] = {name: value for name, value in AI_SDK.items() if name != "tools"}

AG_UI: dict[str, Any] = {
    "threadId": "t",
    "runId": "r",
    "parentRunId": "p",
    "protocolVersion": "1.0",
    "state": {"a": [1]},
    "messages": [
        {"id": "1", "role": "developer", "content": "Be brief.", "name": "d"},
        {"id": "2", "role": "system", "content": "Be kind."},
        {
            "id": "3",
            "role": "user",
            "name": "u",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image", "source": {"type": "data", "value": PNG, "mimeType": "image/png"}},
                {"type": "audio", "source": {"type": "data", "value": "aGk=", "mimeType": "audio/wav"}},
                {"type": "video", "source": {"type": "url", "value": "http://a/b.mp4", "mimeType": "video/mp4"}},
                {
                    "type": "document",
                    "source": {"type": "file", "value": "f", "mimeType": "application/pdf"},
                    "metadata": {"filename": "a.pdf"},
                },
                {"type": "binary", "mimeType": "image/png", "data": PNG, "filename": "a.png"},
                {"type": "binary", "mimeType": "image/png", "url": "http://a/b.png"},
                {"type": "binary", "mimeType": "image/png", "id": "f"},
            ],
        },
        {"id": "4", "role": "reasoning", "content": "hm", "encryptedValue": "s"},
        {
            "id": "5",
            "role": "assistant",
            "content": "Let me see.",
            "name": "a",
            "toolCalls": [OPENAI_CALL],
        },
        {"id": "6", "role": "tool", "toolCallId": "call_1", "content": "rain", "error": "broken"},
        {"id": "7", "role": "activity", "activityType": "x", "content": {"a": 1}},
        {"id": "8", "role": "user", "content": "and now?"},
    ],
    "tools": [{"name": "weather", "description": "d", "parameters": SCHEMA}],
    "context": [{"description": "d", "value": "v"}],
    "forwardedProps": {**SETTINGS, "model": "m", "user": "ada", "metadata": {"team": "a"}},
    "resume": [],
}

_DECLARED = (
    asking.DECLARED
    + """
    request:
      prompt: [input.question, prompt]
      messages: history.items
      role: [who.name, role]
      content: [says.0, content]
      roles: {human: user, "true": assistant}
      system: rules
      parameters: {temperature: heat, max_tokens: [limits.tokens], stop: ends}
      parameters_in: settings
      metadata: {team: about.team}
      user: about.user
      tools: abilities
"""
)
_OWN: dict[str, Any] = {
    "input": {"question": "and now?"},
    "history": {
        "items": [
            {"who": {"name": "human"}, "says": ["hi"]},
            {"role": True, "content": [{"type": "text", "text": "Let me see."}], "tool_calls": [OPENAI_CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain", "name": "weather"},
            {
                "role": "user",
                "content": [
                    "hi",
                    {"text": "hi"},
                    {"type": "file", "url": URL, "mediaType": "image/png", "filename": "a.png"},
                ],
            },
        ]
    },
    "rules": "Be brief.",
    "settings": {"heat": 0.5, "limits": {"tokens": 100}, "ends": ["a"]},
    "about": {"team": "a", "user": 7},
    "abilities": OPENAI_TOOLS,
    "model": "m",
    "stream": True,
    "chat": {"id": "c-1"},
}


def _declared(name: str, declaration: str) -> DeclaredFrontend:
    return DeclaredFrontend(name, declared_settings(declaration))


def _built_in(name: str) -> Frontend:
    from proxy.contracts.base import registered

    frontend: Frontend = registered()[name].load()
    return frontend


REQUESTS: dict[str, tuple[Frontend, str, dict[str, Any]]] = {
    "chat": (_built_in("chat"), "/chat", CHAT),
    "openai": (_built_in("openai"), "/v1/chat/completions", OPENAI),
    "openai-functions": (_built_in("openai"), "/v1/chat/completions", OPENAI_FUNCTIONS),
    "responses": (_built_in("responses"), "/v1/responses", RESPONSES),
    "anthropic": (_built_in("anthropic"), "/v1/messages", ANTHROPIC),
    "ollama": (_built_in("ollama"), "/ollama/api/chat", OLLAMA),
    "ollama-generate": (_built_in("ollama"), "/ollama/api/generate", OLLAMA_GENERATE),
    "ai-sdk": (_built_in("ai-sdk"), "/ai-sdk/chat", AI_SDK),
    "ai-sdk-prompt": (_built_in("ai-sdk"), "/api/completion", AI_SDK_PROMPT),
    "ai-text": (_built_in("ai-text"), "/ai-text", AI_TEXT),
    "ag-ui": (_built_in("ag-ui"), "/agui", AG_UI),
    "declared": (_declared("declared", asking.DECLARED), "/own", {**OPENAI, "logprobs": False}),
    "declared-own": (_declared("own", _DECLARED), "/own", _OWN),
}
"""Each contract's frontend, a path, and a rich body for it. Some contracts have two forms of requests."""
