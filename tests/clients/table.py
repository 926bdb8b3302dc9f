"""Which clients are tried, in which versions, and what is not to be seen through them and why.

`docs/proofs/clients.md` is this table; `test_conformance.py` tries every cell of it that is not excused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.clients.answering import heard_by_events, heard_by_fetch_event_source, heard_by_the_hook
from tests.support import node

PYTHON_LOCKS = {
    "Python": (node.ROOT / "requirements.lock", node.ROOT / "requirements-dev.lock"),
    "Python, newest": (node.CLIENTS / "requirements.lock",),
    "Python, frameworks": (node.CLIENTS / "frameworks.lock",),
}
NPM_LOCKS = {
    "Node": "",
    "Node 20": "node20",
    "Node, frameworks": "frameworks",
    "Node, AG-UI 0.0": "ag-ui-0",
    "Node, newest": "newest",
    "Chromium, Node 20": "node20",
    "Chromium, newest": "newest",
}
ALWAYS = {"Python", "Node"}
"""The environments that `make test` has anyway."""


@dataclass(frozen=True)
class Contract:
    """What a contract calls the ways in which an answer can end."""

    path: str
    stop: str
    length: str
    tools: str


CONTRACTS = {
    "chat": Contract("/chat", "done", "done", ""),
    "openai": Contract("/v1/chat/completions", "stop", "length", "tool_calls"),
    "responses": Contract("/v1/responses", "completed", "max_output_tokens", "completed"),
    "anthropic": Contract("/v1/messages", "end_turn", "max_tokens", "tool_use"),
    "ollama": Contract("/ollama/api/chat", "stop", "length", "stop"),
    "ai-sdk": Contract("/api/chat", "stop", "length", "tool-calls"),
    "ai-text": Contract("/api/chat?contract=ai-text", "", "", ""),
    "ag-ui": Contract("/agui", "success", "success", "success"),
}


def exact(text: str) -> str:
    return text


@dataclass(frozen=True)
class Client:
    """One way in which programs use one client."""

    package: str
    way: str
    environment: str
    asks: str  # its name in the drivers
    contract: str
    midway: str = ""  # what an answer that breaks off raises or tells, by name
    too_late: str = ""  # and one that stalls, where that is another
    refusals: Mapping[int, str] = field(default_factory=dict)  # what a status raises
    whole: bool = False  # the answer comes in one piece
    without: Mapping[str, str] = field(default_factory=dict)  # sights that cannot be had, and why
    wordless: frozenset[str] = frozenset()  # sights at which it keeps the words of the upstream to itself
    takes_turns: bool = True  # the pieces of two calls may come in turns
    runs_tools: bool = False  # of a program's tools, and asks on with their results
    at_length: str = ""  # what an answer raises that ended at its limit, by name
    hears: Callable[[str], str] = exact
    ended: Contract | None = None  # how it says that an answer ended, where not as its contract does

    @property
    def id(self) -> str:
        return f"{self.package} {self.way} [{self.environment}]"

    @property
    def ends(self) -> Contract:
        return self.ended or CONTRACTS[self.contract]

    @property
    def version(self) -> str:
        """As the lock file pins it."""
        if self.environment in PYTHON_LOCKS:
            for lock in PYTHON_LOCKS[self.environment]:
                if found := re.search(rf"^{re.escape(self.package)}==(\S+)", lock.read_text(), re.MULTILINE):
                    return found[1]
            raise LookupError(f"{self.package} is in no lock")
        if self.package == "chat hook":
            return ""
        return node.version_in_lock(self.package, NPM_LOCKS[self.environment])


NO_TOOLS = "it shows text only"
TEXT_ONLY = {"tools": NO_TOOLS, "reasoning": NO_TOOLS, "usage": NO_TOOLS}
IN_ONE_PIECE = {"heartbeats": "the answer comes in one piece"}

OPENAI_STATUSES = {400: "BadRequestError", 429: "RateLimitError", 503: "InternalServerError"}


def _create(environment: str) -> str:
    return "create(stream=True)" if environment.startswith("Python") else "create({stream: true})"


def _openai_chat(environment: str) -> list[Client]:
    python = environment.startswith("Python")

    def client(way: str, asks: str, midway: str = "APIError", **more: Any) -> Client:
        way = f"chat.completions.{way}"
        return Client(
            "openai", way, environment, f"openai chat, {asks}", "openai", midway, refusals=OPENAI_STATUSES, **more
        )

    helper = client("stream()", "helper", takes_turns=False, at_length="LengthFinishReasonError" if python else "")
    if not python:
        helper = replace(
            helper,
            without={"reasoning": "of fields that OpenAI itself does not have, the helper keeps the last piece only"},
        )
    whole = client("create()", "whole", "InternalServerError", whole=True, without=IN_ONE_PIECE)
    return [client(_create(environment), "streamed"), helper, whole]


def _openai_responses(environment: str) -> list[Client]:
    def client(way: str, asks: str, midway: str = "APIError", **more: Any) -> Client:
        way = f"responses.{way}"
        return Client(
            "openai",
            way,
            environment,
            f"openai responses, {asks}",
            "responses",
            midway,
            refusals=OPENAI_STATUSES,
            **more,
        )

    whole = client("create()", "whole", "InternalServerError", whole=True, without=IN_ONE_PIECE)
    # Python's helper knows of `response.completed` only
    helper = client("stream()", "helper", at_length="RuntimeError" if environment.startswith("Python") else "")
    return [client(_create(environment), "streamed"), helper, whole]


ANTHROPIC_STATUSES = {400: "BadRequestError", 429: "RateLimitError", 503: "ServiceUnavailableError"}


def _anthropic(environment: str) -> list[Client]:
    python = environment.startswith("Python")
    package, midway = ("anthropic", "APIStatusError") if python else ("@anthropic-ai/sdk", "APIError")

    def client(way: str, asks: str, midway: str = midway, **more: Any) -> Client:
        way = f"messages.{way}"
        return Client(package, way, environment, asks, "anthropic", midway, refusals=ANTHROPIC_STATUSES, **more)

    return [
        client(_create(environment), "anthropic, streamed"),
        client("stream()", "anthropic, helper"),
        client(
            "create()",
            "anthropic, whole",
            "InternalServerError",
            too_late="GatewayTimeoutError",
            whole=True,
            without=IN_ONE_PIECE,
        ),
    ]


def _ollama(environment: str) -> list[Client]:
    python = environment.startswith("Python")
    streamed = "stream=True" if python else "{stream: true}"
    statuses = dict.fromkeys((400, 429, 503), "ResponseError")
    midway = "ResponseError" if python else "Error"

    def client(way: str, asks: str, midway: str = midway, **more: Any) -> Client:
        return Client("ollama", way, environment, asks, "ollama", midway, refusals=statuses, **more)

    return [
        client(f"chat({streamed})", "ollama chat, streamed"),
        client(
            "chat()",
            "ollama chat, whole",
            "ResponseError",
            whole=True,
            without=IN_ONE_PIECE if python else {**IN_ONE_PIECE, "stop": "its `abort` ends streams only"},
        ),
        client(f"generate({streamed})", "ollama generate, streamed", without={"tools": "generate has none"}),
    ]


def _sync(environment: str) -> list[Client]:
    def client(package: str, way: str, asks: str, contract: str, midway: str, refusals: Mapping[int, str]) -> Client:
        return Client(package, way, environment, asks, contract, midway, refusals=refusals)

    return [
        client("openai", "OpenAI, chat.completions", "openai chat, sync", "openai", "APIError", OPENAI_STATUSES),
        client("openai", "OpenAI, responses", "openai responses, sync", "responses", "APIError", OPENAI_STATUSES),
        client(
            "anthropic", "Anthropic, messages", "anthropic, sync", "anthropic", "APIStatusError", ANTHROPIC_STATUSES
        ),
        client(
            "ollama",
            "Client, chat",
            "ollama chat, sync",
            "ollama",
            "ResponseError",
            dict.fromkeys((400, 429, 503), "ResponseError"),
        ),
    ]


CHAT = {**TEXT_ONLY, "picture": "they send text"}
READERS = [
    Client(
        "chat hook", "", "Node", "chat hook", "chat", hears=heard_by_the_hook,
        without={
            **CHAT,
            "finish": "it ends as the stream ends",
            "stop": "it cannot be stopped; its page can be left",
            **dict.fromkeys(("cut", "unfinished", "stalled", "malformed", "failed", "refused"),
                            "it skips errors, unless its route shows or throws them"),
        },
    ),
    Client("eventsource-parser", "", "Node", "eventsource-parser", "chat", "error event",
           refusals=dict.fromkeys((400, 429, 503), "thrown"), without=CHAT, hears=heard_by_events),
    Client("@microsoft/fetch-event-source", "", "Node", "fetch-event-source", "chat", "error event",
           refusals=dict.fromkeys((400, 429, 503), "thrown"), without=CHAT,
           wordless=frozenset({"refused"}), hears=heard_by_fetch_event_source),
]  # fmt: skip


LANGCHAIN_STATUSES = {400: "OpenAIInvalidRequestError", 429: "OpenAIRateLimitError", 503: "OpenAIAPIError"}
WHAT_OPENAI_SENDS = "it reads the fields that OpenAI itself sends"
LANGCHAIN = [
    Client(
        "langchain-openai", "ChatOpenAI.astream()", "Python, newest", "langchain, streamed", "openai", "APIError",
        refusals=LANGCHAIN_STATUSES, without={"reasoning": WHAT_OPENAI_SENDS},
    ),
    Client(
        "langchain-openai", "ChatOpenAI.ainvoke()", "Python, newest", "langchain, whole", "openai", "OpenAIAPIError",
        refusals=LANGCHAIN_STATUSES, whole=True, without={**IN_ONE_PIECE, "reasoning": WHAT_OPENAI_SENDS},
    ),
]  # fmt: skip
LLM = Client(
    "llm", "llm prompt -u", "Python, newest", "llm prompt", "openai", "exit 1", refusals=dict.fromkeys((400, 429, 503), "exit 1"),
    without=dict.fromkeys(("finish", "reasoning"), NO_TOOLS) | {"tools": "it calls Python functions of its own"},
)  # fmt: skip

THE_SDKS = "it uses the SDK for this: see the rows of the SDK"
UNSTOPPED = "a program that leaves its stream does not end the request"


def _framework(
    package: str, ways: Mapping[str, tuple[str, str]], asks: str, environment: str = "Python, frameworks", *,
    midway: Mapping[str, str] | None = None, refusals: Mapping[int, str] = OPENAI_STATUSES, unstopped: str = "",
) -> list[Client]:  # fmt: skip
    """A framework's rows: for each contract, how it is asked for a stream and for a whole answer."""
    without = dict.fromkeys(("finish", "usage", "reasoning", "picture"), THE_SDKS)
    streamed = without | ({"stop": UNSTOPPED} if "streamed" in unstopped else {})
    whole = without | IN_ONE_PIECE | ({"stop": "it takes no signal to end a call"} if "whole" in unstopped else {})
    failed = "InternalServerError" if refusals is OPENAI_STATUSES else refusals[503]
    return [
        client
        for contract, (stream, call) in ways.items()
        for client in (
            Client(
                package, stream, environment, f"{asks} {contract.replace('openai', 'chat')}, streamed", contract,
                (midway or {}).get(contract, "APIError"), refusals=refusals, without=streamed, runs_tools=True,
            ),
            Client(
                package, call, environment, f"{asks} {contract.replace('openai', 'chat')}, whole", contract,
                failed, refusals=refusals, without=whole, runs_tools=True, whole=True,
            ),
        )
    ]  # fmt: skip


def _both(chat: str, responses: str, stream: str, whole: str) -> dict[str, tuple[str, str]]:
    return {
        "openai": (f"{chat}{stream}", f"{chat}{whole}"),
        "responses": (f"{responses}{stream}", f"{responses}{whole}"),
    }


FRAMEWORKS = [
    *_framework(
        "pydantic-ai-slim", _both("OpenAIChatModel, ", "OpenAIResponsesModel, ", "run_stream()", "run()"), "pydantic-ai",
        refusals=dict.fromkeys((400, 429, 503), "ModelHTTPError"),
    ),
    *_framework(
        "openai-agents",
        _both("OpenAIChatCompletionsModel, ", "OpenAIResponsesModel, ", "Runner.run_streamed()", "Runner.run()"),
        "openai-agents", midway={"responses": "ModelBehaviorError"},
    ),
    *_framework(
        "llama-index-llms-openai", _both("OpenAI.", "OpenAIResponses.", "astream_chat()", "achat()"), "llama-index",
        unstopped="streamed",
    ),
    *_framework(
        "haystack-ai",
        _both("OpenAIChatGenerator.", "OpenAIResponsesChatGenerator.", "run_async(streaming_callback)", "run_async()"),
        "haystack", unstopped="streamed",
    ),
    *_framework(
        "@langchain/openai", _both("ChatOpenAI.", "ChatOpenAI({useResponsesApi}).", "stream()", "invoke()"),
        "langchain-js", "Node, frameworks",
    ),
    *_framework(
        "@llamaindex/openai", _both("OpenAI.", "OpenAIResponses.", "chat({stream: true})", "chat()"),
        "llama-index-js", "Node, frameworks", unstopped="streamed, whole",
    ),
]  # fmt: skip

PAGES_OF = ("Chromium, Node 20", "Chromium, newest")
THROWN = dict.fromkeys((400, 429, 503), "Error")
BY_TRANSPORTS = {"Node 20": THROWN, "Node, newest": dict.fromkeys((400, 429, 503), "APICallError")}
ON_THE_PAGE = dict.fromkeys((400, 429, 503), "status error")
UI_MESSAGES = [
    *(
        Client("ai", "DefaultChatTransport", environment, "DefaultChatTransport", "ai-sdk", "error chunk",
               refusals=thrown)
        for environment, thrown in BY_TRANSPORTS.items()
    ),
    *(
        Client("@ai-sdk/react", "useChat", environment, "useChat", "ai-sdk", "status error",
               refusals=ON_THE_PAGE)
        for environment in PAGES_OF
    ),
]  # fmt: skip
BREAKS_OFF = frozenset({"failed"})  # a text has no place for an error
PLAIN_TEXT = {**TEXT_ONLY, "heartbeats": "a plain text has none", "finish": NO_TOOLS}
UI_TEXT = [
    *(
        Client("ai", "TextStreamChatTransport", environment, "TextStreamChatTransport", "ai-text", "TypeError",
               refusals=thrown, without=PLAIN_TEXT, wordless=BREAKS_OFF)
        for environment, thrown in BY_TRANSPORTS.items()
    ),
    *(
        Client("@ai-sdk/react", "useChat, TextStreamChatTransport", environment, "useChat, text", "ai-text",
               "status error", refusals=ON_THE_PAGE, without=PLAIN_TEXT, wordless=BREAKS_OFF)
        for environment in PAGES_OF
    ),
]  # fmt: skip
UNTOLD = "clients before 1.0 do not say which version they speak, and get what all of them know"
AG_UI = [
    Client("@ag-ui/client", "HttpAgent", "Node, newest", "HttpAgent", "ag-ui", "RUN_ERROR", refusals=THROWN),
    Client(
        "@ag-ui/client", "HttpAgent", "Node, AG-UI 0.0", "HttpAgent", "ag-ui", "RUN_ERROR", refusals=THROWN,
        without={"reasoning": UNTOLD, "usage": UNTOLD, "picture": "its messages are text"},
        ended=Contract("/agui", "finished", "finished", "finished"),
    ),
]  # fmt: skip

PYTHONS, NODES = ("Python", "Python, newest"), ("Node", "Node, newest")

CLIENTS: list[Client] = [
    *READERS,
    *(client for environment in (*PYTHONS, *NODES) for client in _openai_chat(environment)),
    *LANGCHAIN,
    LLM,
    *FRAMEWORKS,
    *(client for environment in (*PYTHONS, *NODES) for client in _openai_responses(environment)),
    *(client for environment in (*PYTHONS, "Node, newest") for client in _anthropic(environment)),
    *(client for environment in (*PYTHONS, "Node, newest") for client in _ollama(environment)),
    *UI_MESSAGES,
    *UI_TEXT,
    *AG_UI,
    *(client for environment in PYTHONS for client in _sync(environment)),
]
