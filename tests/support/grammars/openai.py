"""OpenAI Chat Completions, as OpenAI takes it, and the forms of it that other vendors take."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

Body = Mapping[str, Any]

_FIELDS = frozenset(
    # platform.openai.com, API reference of Chat Completions: "Unrecognized request argument supplied: x"
    [
        "messages",
        "model",
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    ]
)
_SAMPLING = {"top_k", "min_p", "repetition_penalty", "repeat_penalty", "chat_template_kwargs"}
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")  # "Unsupported image type": OpenAI, Images and vision

# docs.mistral.ai, API reference of `chat/completions`; any other field is a 422 `extra_forbidden`.
_MISTRAL = frozenset(
    [
        "model",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "random_seed",
        "metadata",
        "messages",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "prediction",
        "parallel_tool_calls",
        "prompt_mode",
        "reasoning_effort",
        "safe_prompt",
        "guardrails",
        "prompt_cache_key",
    ]
)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Where a vendor's form differs from what most servers take."""

    fields: frozenset[str] = _FIELDS | _SAMPLING
    message_fields: frozenset[str] = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
    call_id: str = r"[\x21-\x7e]{1,256}"
    tool_name: str = r"[a-zA-Z0-9_-]{1,64}"  # "must be a-z, A-Z, 0-9, or contain underscores and dashes, … of 64"
    developer: bool = False
    late_system: bool = False
    stops: int = 0
    hottest: float = 2
    efforts: frozenset[str] | None = None
    choices: frozenset[str] = frozenset({"none", "auto", "required", "named"})
    formats: frozenset[str] = frozenset({"text", "json_object", "json_schema"})
    parts: frozenset[str] = frozenset({"text", "image_url", "file", "input_audio"})
    image_addresses: bool = True
    marks: bool = False
    more: Callable[[Body], Iterator[str]] = lambda _: iter(())


def check(body: Body, rules: Rules) -> list[str]:
    """What a server with these rules would answer 400 to; empty for a body that it takes."""
    return [
        *[f"unknown field {name}" for name in body.keys() - rules.fields],
        *_settings(body, rules),
        *_tools(body, rules),
        *_conversation(body["messages"], rules),
        *rules.more(body),
    ]


def _settings(body: Body, rules: Rules) -> Iterator[str]:
    stop = body.get("stop")
    if isinstance(stop, list) and rules.stops and len(stop) > rules.stops:
        yield "too many stop sequences"
    if "stream_options" in body and not body.get("stream"):
        yield "stream_options without stream"
    if "top_logprobs" in body and not body.get("logprobs"):
        yield "top_logprobs without logprobs"
    if len(body.get("user") or "") > 64:
        yield "user is too long"  # "string too long. Expected a string with maximum length 64"
    if (body.get("temperature") or 0) > rules.hottest:
        yield "temperature is too high"
    if rules.efforts is not None and body.get("reasoning_effort", "none") not in rules.efforts | {"none"}:
        yield f"invalid reasoning value: {body['reasoning_effort']}"
    if (body.get("response_format") or {"type": "text"})["type"] not in rules.formats:
        yield "this response_format type is unavailable"
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        yield "max_tokens and max_completion_tokens"  # "cannot both be specified"


def _tools(body: Body, rules: Rules) -> Iterator[str]:
    tools, names = body.get("tools"), []
    if tools == []:
        yield "tools is empty"  # "[] is too short - 'tools'"
    for tool in tools or []:
        function = tool["function"]
        names.append(function["name"])
        if not re.fullmatch(rules.tool_name, function["name"]):
            yield f"name of tool {function['name']!r}"
        parameters = function.get("parameters")
        if parameters is not None and {"oneOf", "anyOf", "allOf", "enum", "const", "not"} & parameters.keys():
            yield "schema must not have 'oneOf'/'anyOf'/'allOf'/'enum'/'const'/'not' at the top level"
        if parameters is not None and parameters.get("type") != "object":
            yield "parameters that are no object"  # "schema must be a JSON Schema of 'type: \"object\"'"
        if unknown := function.keys() - {"name", "description", "parameters", "strict"}:
            yield f"unknown fields of a tool {unknown}"
    if len(set(names)) < len(names):
        yield "two tools of one name"
    choice = body.get("tool_choice")
    if not tools and (choice is not None or "parallel_tool_calls" in body):
        yield "tool_choice without tools"  # "'tool_choice' is only allowed when 'tools' are specified"
    if isinstance(choice, dict) and choice.get("type") == "function" and choice["function"]["name"] not in names:
        yield "tool_choice of no tool"
    if choice is not None and ("named" if isinstance(choice, dict) else choice) not in rules.choices:
        yield f"tool_choice {choice}"


def _conversation(messages: list[Any], rules: Rules) -> Iterator[str]:
    if not messages:
        yield "no messages"
    open_calls: list[str] = []
    seen: set[str] = set()
    for index, message in enumerate(messages):
        role = message["role"]
        yield from _message(message, rules)
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                # "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'"
                yield f"messages.{index}: a result without its call"
            else:
                open_calls.remove(message["tool_call_id"])
            continue
        if open_calls:
            # "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
            yield f"messages.{index}: calls without results"
        open_calls = [call["id"] for call in message.get("tool_calls") or []]
        for id_ in open_calls:
            if id_ in seen:
                yield f"messages.{index}: an id is used twice"
            seen.add(id_)
            if not re.fullmatch(rules.call_id, id_):
                yield f"messages.{index}: call id {id_!r}"
        if role in {"system", "developer"} and index and not rules.late_system:
            yield f"messages.{index}: late system text"  # chat templates: "System message must be at the beginning."
    if open_calls:
        yield "calls without results at the end"


def _message(message: Body, rules: Rules) -> Iterator[str]:
    role, content = message["role"], message.get("content")
    known = {"system", "user", "assistant", "tool"} | ({"developer"} if rules.developer else set())
    if role not in known:
        yield f"role {role}"
    if unknown := message.keys() - rules.message_fields:
        yield f"unknown fields of a message {unknown}"
    if message.get("tool_calls") == []:
        yield "no calls in tool_calls"  # "[] is too short - 'messages.0.tool_calls'"
    if content is None and not message.get("tool_calls"):
        yield f"no content of {role}"
    if content == []:
        yield f"content of {role} is an empty list"
    if (name := message.get("name")) and not re.fullmatch(r"[^\s<|\\/>]+", name):
        yield "name of the speaker"
    for call in message.get("tool_calls") or []:
        if not re.fullmatch(rules.tool_name, call["function"]["name"]):
            yield f"name of a called tool {call['function']['name']!r}"
        if not _is_object(call["function"]["arguments"]):
            yield "invalid tool call arguments"
    for part in content if isinstance(content, list) else ():
        yield from _part(part, role, rules)


def _part(part: Body, role: str, rules: Rules) -> Iterator[str]:
    kind = part["type"]
    if role != "user" and kind != "text":
        yield f"{kind} of {role}"  # "Image URLs are only allowed for messages with role 'user'"
    named = ["document_name"] if kind == "document_url" else []
    if unknown := part.keys() - {"type", kind, *named, *(["cache_control"] if rules.marks else [])}:
        yield f"unknown fields of a part {unknown}"
    if kind not in rules.parts:
        yield f"unknown variant `{kind}`, expected `text`"
    url = part["image_url"]["url"] if kind == "image_url" else ""
    if url and not url.startswith("data:") and not rules.image_addresses:
        yield "invalid image input"
    if url.startswith("data:") and not url.startswith(tuple(f"data:{name};base64," for name in _IMAGES)):
        yield "media type of an image"
    if kind == "file" and "file_data" in part["file"] and not part["file"].get("filename"):
        yield "a file without a name"


def _is_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False


# -- vendors

_PENALTIES = {"presence_penalty", "frequency_penalty", "logit_bias", "stop"}
_SAMPLING_OF_OPENAI = {"temperature", "top_p", "logprobs", "top_logprobs"}


def openai(body: Body) -> list[str]:
    more = _gpt_5 if re.match(r"o\d|gpt-[5-9]", body["model"]) and "-chat" not in body["model"] else _gpt_4
    rules = Rules(fields=_FIELDS, call_id=r"[\x21-\x7e]{1,40}", developer=True, late_system=True, stops=4, more=more)
    return check(body, rules)


def _gpt_4(body: Body) -> Iterator[str]:
    if body["model"].startswith(("gpt-4", "gpt-3")) and "reasoning_effort" in body:
        yield "Unrecognized request argument supplied: reasoning_effort"


def _gpt_5(body: Body) -> Iterator[str]:
    """platform.openai.com, Using GPT-5.x: what models that think refuse, always or while they do."""
    model, effort = body["model"], body.get("reasoning_effort")
    first = re.match(r"o\d|gpt-5(?!\.)", model)
    for name in sorted(_PENALTIES & body.keys()):
        yield f"Unsupported parameter: '{name}' is not supported with this model."
    if "max_tokens" in body:
        yield "Unsupported parameter: 'max_tokens' is not supported with this model."
    if first or effort not in (None, "none"):
        for name in sorted(_SAMPLING_OF_OPENAI & body.keys()):
            yield f"Unsupported value: '{name}' does not support {body[name]} with this model."
    if not first and not re.match(r"gpt-5\.[1-3]", model) and body.get("tools") and effort != "none":
        yield f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions."


def local(body: Body) -> list[str]:
    """Servers of open models, which hand the conversation to a chat template."""
    return check(body, Rules())


def ollama(body: Body) -> list[str]:
    """openai/openai.go of its source."""
    rules = Rules(
        fields=_FIELDS - {"logit_bias", "n"},
        efforts=frozenset({"low", "medium", "high"}),
        choices=frozenset({"auto"}),  # is not read
        parts=frozenset({"text", "image_url"}),
        image_addresses=False,
    )
    return check(body, rules)


def lmstudio(body: Body) -> list[str]:
    """ "Supported string values: none, auto, required"; "'response_format.type' must be 'json_schema' or 'text'"."""
    return check(
        body,
        Rules(
            choices=frozenset({"none", "auto", "required"}),
            formats=frozenset({"text", "json_schema"}),
            parts=frozenset({"text", "image_url"}),
        ),
    )


def groq(body: Body) -> list[str]:
    """console.groq.com: OpenAI compatibility and Reasoning, of `qwen/`."""
    rules = Rules(
        fields=_FIELDS - {"logprobs", "top_logprobs", "logit_bias", "verbosity"},
        message_fields=Rules().message_fields - {"name"},
        stops=4,
        efforts=frozenset({"default"}),
        formats=frozenset({"text", "json_object"}),
        parts=frozenset({"text", "image_url"}),
    )
    return check(body, rules)


def zai(body: Body) -> list[str]:
    """docs.z.ai, API reference of Chat Completion."""
    fields = ["model", "messages", "request_id", "do_sample", "stream", "stream_options", "thinking", "temperature"]
    fields += ["top_p", "max_tokens", "tool_stream", "tools", "tool_choice", "stop", "response_format", "user_id"]
    rules = Rules(
        fields=frozenset(fields),
        message_fields=(Rules().message_fields - {"name"}) | {"reasoning_content"},
        stops=1,
        hottest=1,
        choices=frozenset({"auto"}),
        formats=frozenset({"text", "json_object"}),
    )
    return check(body, rules)


def qwen(body: Body) -> list[str]:
    return check(body, Rules(fields=Rules().fields | {"enable_thinking"}, more=_qwen))


def _qwen(body: Body) -> Iterator[str]:
    if _demands(body) and body.get("enable_thinking") is not False:
        yield "The tool_choice parameter does not support being set to required or object in thinking mode"


def _demands(body: Body) -> bool:
    return body.get("tool_choice") not in (None, "none", "auto")


def openrouter(body: Body) -> list[str]:
    """openrouter.ai, API reference and Prompt caching: `reasoning`, and marks on parts."""
    fields = Rules().message_fields | {"reasoning"}
    return check(body, Rules(fields=Rules().fields | {"reasoning"}, message_fields=fields, marks=True))


def mistral(body: Body) -> list[str]:
    return check(
        body,
        Rules(
            fields=_MISTRAL,
            message_fields=frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "prefix"}),
            call_id=r"[a-zA-Z0-9]{9}",  # "must be a-z, A-Z, 0-9, with a length of 9"
            hottest=1.5,
            efforts=frozenset(),  # of most of its models
            parts=frozenset({"text", "image_url", "document_url", "input_audio"}),
            more=_mistral,
        ),
    )


def _mistral(body: Body) -> Iterator[str]:
    before = ""
    for message in body["messages"]:
        role = message["role"]
        if before == "tool" and role == "user":
            yield "Unexpected role 'user' after role 'tool'"  # code 3230
        if role == "assistant" and not message.get("tool_calls") and not _says(message):
            yield "Assistant message must have either content or tool_calls, but not none."
        for part in message["content"] if isinstance(message["content"], list) else []:
            if isinstance(part.get(part["type"]), dict) and part["type"] != "image_url":
                yield f"{part['type']}: Input should be a valid string"
        if role != "tool" and "name" in message:
            yield "name: extra inputs are not permitted"
        before = role
    if before == "assistant" and body["messages"][-1].get("prefix") is not True:
        yield "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"


def moonshot(body: Body) -> list[str]:
    fields = Rules().message_fields | {"reasoning_content"}
    # "must start with a letter and can contain letters, numbers, underscores, and dashes"
    rules = Rules(
        fields=_FIELDS | {"thinking"},
        message_fields=fields,
        tool_name=r"[a-zA-Z][a-zA-Z0-9_-]{0,63}",
        stops=5,
        parts=frozenset({"text", "image_url"}),
        image_addresses=False,
        more=_moonshot,
    )
    return check(body, rules)


def _moonshot(body: Body) -> Iterator[str]:
    by_effort = body["model"].startswith("kimi-k3")
    if by_effort or "thinking" in body["model"]:
        if body.get("temperature", 1) != 1:
            yield "invalid temperature: only 1 is allowed for this model"
        if _demands(body) and not (by_effort and body["tool_choice"] == "required"):
            yield f"tool_choice '{body['tool_choice']}' is incompatible with thinking enabled"
    if '"$ref"' in json.dumps(body.get("tools", [])):
        yield "tools.function.parameters is not a valid moonshot flavored json schema"
    for message in body["messages"]:
        if not _says(message) and not message.get("tool_calls"):
            yield f"the message with role '{message['role']}' must not be empty"
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [part.get("text") for part in content or []]
        if any(text is not None and not text.strip() for text in texts) and message["role"] == "assistant":
            yield "text content is empty"


def deepseek(body: Body) -> list[str]:
    rules = Rules(
        fields=_FIELDS | {"thinking"},
        message_fields=Rules().message_fields | {"reasoning_content"},
        stops=16,
        efforts=frozenset({"low", "high", "max"}),
        formats=frozenset({"text", "json_object"}),
        parts=frozenset({"text"}),
        more=_deepseek,
    )
    return check(body, rules)


def _deepseek(body: Body) -> Iterator[str]:
    if _demands(body) and body.get("thinking") != {"type": "disabled"}:
        yield "Thinking mode does not support this tool_choice"
    for message in body["messages"]:
        # "The `reasoning_content` in the thinking mode must be passed back to the API."
        if message.get("tool_calls") and "reasoning_content" not in message:
            yield "reasoning_content is missing beside calls"


def gemini(body: Body) -> list[str]:
    # "Must start with a letter or an underscore. Must be alphameric, underscores, dots, colons, or dashes, … of 64."
    return check(
        body,
        Rules(
            fields=(_FIELDS | {"extra_body"}) - {"frequency_penalty", "presence_penalty", "logit_bias", "seed"},
            tool_name=r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}",
            stops=5,
            efforts=frozenset({"minimal", "low", "medium", "high"}),
            more=_gemini,
        ),
    )


def _gemini(body: Body) -> Iterator[str]:
    """ai.google.dev, Thought signatures: the first call of each step of the current turn needs its signature."""
    schemas = json.dumps([tool["function"].get("parameters") for tool in body.get("tools", [])])
    for name in ("$ref", "$defs", "const", "oneOf", "$schema", "exclusiveMinimum"):
        if f'"{name}": ' in schemas:
            yield f'Unknown name "{name}"'
    if body["model"].startswith("gemini-3") and body.get("reasoning_effort") == "none":
        yield "Budget 0 is invalid. This model only works in thinking mode."
    if not body["model"].startswith("gemini-3"):
        return
    turn: list[Any] = []
    for message in body["messages"]:
        turn = [] if message["role"] == "user" else [*turn, message]
    for message in turn:
        for call in (message.get("tool_calls") or [])[:1]:
            google = call.get("extra_content", {}).get("google", {})
            if not google.get("thought_signature"):
                yield "Function call is missing a thought_signature in functionCall parts."


def bedrock(body: Body) -> list[str]:
    """Converse, in OpenAI's form, in which litellm is asked. docs.aws.amazon.com, API reference of Converse."""
    return check(
        body,
        Rules(
            fields=_FIELDS | {"thinking"},
            message_fields=Rules().message_fields | {"thinking_blocks"},
            call_id=r"[a-zA-Z0-9_-]{1,64}",
            hottest=1,
            parts=frozenset({"text", "image_url", "file"}),
            marks=True,
            more=_bedrock,
        ),
    )


def _bedrock(body: Body) -> Iterator[str]:
    if next(one["role"] for one in body["messages"] if one["role"] != "system") != "user":
        yield "A conversation must start with a user message."
    for message in body["messages"]:
        if not _says(message) and not message.get("tool_calls"):
            yield "The text field in the ContentBlock object is blank."
    if "thinking" in body and (_demands(body) or "temperature" in body or "top_p" in body):
        yield "Thinking may not be enabled beside this."
    if "temperature" in body and "top_p" in body and "claude" in body["model"]:
        yield "`temperature` and `top_p` cannot both be specified for this model."


def _says(message: Body) -> bool:
    content = message.get("content")
    if isinstance(content, str):
        return bool(content.strip())
    return any(part["type"] != "text" or part["text"].strip() for part in content or [])


def text_of(body: Body) -> str:
    """All that is said in a body, for a look whether something was lost."""
    return json.dumps(body, ensure_ascii=False)
