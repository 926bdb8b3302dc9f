"""What a chat request says, in one form for every contract: plain values, no I/O.

A frontend's dialect turns a body into a `ChatRequest`; a backend's dialect turns that into
whatever its upstream reads. Parameter names are those of OpenAI Chat Completions, the field's
common denominator. What is not modelled here stays in `raw_body` and reaches a backend of the same
dialect untouched.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]

Task = Literal["chat", "completion", "embedding"]
"""What is wanted: the next message of a conversation, the text that goes on after a prompt, or vectors of texts."""

COMPLETIONS = "openai-completions"
EMBEDDINGS = "openai-embeddings"
"""The dialects of the tasks that are no chats. Other contracts' requests for such a task are written in them too."""

NO_HEADERS: Mapping[str, str] = {}


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A piece of text in a message. `cache` marks the end of what an upstream is to keep in its prompt cache."""

    text: str
    cache: Mapping[str, Any] | None = None


class Image(msgspec.Struct, frozen=True, tag="image"):
    """An image, by address or as a `data:` URL. The proxy never fetches it (docs/reliability.md H08)."""

    url: str
    detail: str | None = None
    cache: Mapping[str, Any] | None = None


class File(msgspec.Struct, frozen=True, tag="file"):
    """A document: inline data (base64), or an id or address that the upstream understands."""

    data: str | None = None
    url: str | None = None
    id: str | None = None
    name: str | None = None
    media_type: str | None = None
    cache: Mapping[str, Any] | None = None


class Audio(msgspec.Struct, frozen=True, tag="audio"):
    """Sound: base64 data and its format (`wav`, `mp3`)."""

    data: str
    format: str


class Other(msgspec.Struct, frozen=True, tag="other"):
    """A part of a type we do not know, and its place. Only a backend of the request's own dialect can carry it."""

    kind: str
    at: str = ""


Part = Text | Image | File | Audio | Other


class ToolCall(msgspec.Struct, frozen=True):
    """A call the model made earlier. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    """One turn. `tool_call_id` says which call a `tool` message answers, `failed` that the tool did not work.

    `reasoning_signature` is the upstream's own seal on `reasoning`, which it wants back unchanged.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_signature: str | None = None
    failed: bool = False

    @property
    def text(self) -> str:
        """The message's text parts, joined."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache: Mapping[str, Any] | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request in normal form.

    `params` holds sampling and output settings under their OpenAI names (`temperature`, `max_tokens`, `stop`,
    `response_format`, `tool_choice`, …); a route's `set` and `default` act on it. `hints` names those that the frontend
    derived from other words of the client: an upstream that is not known to take them is not sent them, and does not
    refuse the request for them. `routed` names those whose values are the route's, which no client misses.

    `hosted_tools` are the types of tools that the upstream is to run, `unread` the names of other fields that only an
    upstream of the request's own dialect understands. `raw_body` is the body as its dialect parsed it, once: a backend
    of dialect `dialect` starts from it, so unknown fields survive, and what was authorised is what is sent.

    Where `task` is no chat, the prompt or the texts are one user message, so that rules can look at them.
    """

    id: str
    contract: str
    dialect: str
    task: Task = "chat"
    messages: tuple[Message, ...]
    model: str | None = None
    params: Mapping[str, Any] = {}
    hints: frozenset[str] = frozenset()
    routed: frozenset[str] = frozenset()
    tools: tuple[Tool, ...] = ()
    hosted_tools: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    stream: bool = True
    user: str | None = None
    conversation: str | None = None  # its id, where the contract has one
    metadata: Mapping[str, Any] = {}
    wants_usage: bool = False  # the client asked for usage inside the stream
    path: str = ""
    headers: Mapping[str, str] = NO_HEADERS  # names in lower case
    trace: Mapping[str, str] = NO_HEADERS  # headers that have an upstream join the request's trace
    connected: Callable[[], None] | None = None  # called when there is a connection to the upstream
    raw_body: Mapping[str, Any] | None = None

    @property
    def last_user_text(self) -> str:
        """Text of the last user message; empty when there is none."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text
        return ""

    @property
    def rewritable(self) -> bool:
        """Whether the events of an answer to this hold all of it: one choice, no probabilities, no tools run elsewhere.

        Such an answer can be written without the bytes of its upstream.
        """
        one = self.task == "chat" and self.params.get("n") in {None, 1}
        return one and not self.params.get("logprobs") and not self.hosted_tools

    def estimated_tokens(self) -> int:
        """About how many tokens the messages are: a quarter of their characters, rounded up.

        Good enough to route by, and linear in the text: real tokenizers cost seconds on long prompts
        (docs/reliability.md D04).
        """
        return -(-sum([len(message.text) for message in self.messages]) // 4)


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer. `estimated` marks numbers the upstream did not give."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cache_write_tokens: int = 0  # of the input, what was put into a cache for later
    audio_input_tokens: int = 0  # of the input, what was heard
    audio_output_tokens: int = 0  # of the output, what was spoken

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Answer(msgspec.Struct, kw_only=True):
    """A whole answer: what the events of one stream add up to.

    `payload` is the upstream's own body when it answered unstreamed in dialect `dialect`: a frontend of
    the same dialect passes it on as it came.
    """

    id: str = ""
    model: str = ""
    text: str = ""
    reasoning: str = ""
    reasoning_signature: str = ""
    refusal: str = ""
    sources: tuple[tuple[str, str], ...] = ()  # address and title
    media: tuple[tuple[str, str], ...] = ()  # media type and address
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    upstream_reason: str = ""  # the upstream's own word where it means none of ours
    usage: Usage | None = None
    dialect: str = ""
    payload: bytes = b""

    @property
    def only_media(self) -> bool:
        """Whether it holds media, and neither text nor a refusal nor a call."""
        return bool(self.media) and not (self.text or self.refusal or self.tool_calls)
