"""The settings that all HTTP backends share, and the checks of headers and addresses in a config."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from proxy.backends.base import BackendSettings
from proxy.backends.quirks import ConversationQuirks, Quirks
from proxy.config.base import Model, setting
from proxy.contracts.openai.upstream_request import ReasoningReturn
from proxy.routing.principal import SECRET_HEADERS

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

NEVER_FORWARDED_HEADERS = SECRET_HEADERS | {
    # What identifies the client to this proxy, and what belongs to one connection.
    "host", "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect",
    "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id",
}  # fmt: skip


def _address(url: str) -> str:
    if not url.isprintable() or any(char.isspace() or char == "\\" for char in url):
        raise ValueError("the address has a blank, a line break or another character that no address has")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("give an address that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address holds no user and password; give the key as `api_key`, or a header in `headers`")
    if parts.query or parts.fragment:
        raise ValueError("an address ends with its path; give query parameters as `query`")
    return url.rstrip("/")


def _without_endpoint(url: str) -> str:
    for endpoint in ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings"):
        if url.endswith(endpoint):
            raise ValueError(f"the address ends with `{endpoint}`, which each request adds; end it before that")
    return url


def missing_version(url: str) -> Iterator[tuple[str, str]]:
    """A doubt about an address without a path: servers of this dialect serve it under `/v1`."""
    if not urlsplit(url).path:
        yield "base_url", f"requests go to {url}/chat/completions, and nearly all servers want {url}/v1 as `base_url`"


def _headers(headers: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if not _VALUE.fullmatch(value.get_secret_value()):
            raise ValueError(f"the value of {name} has a line break or another character that no header may have")
    return headers


def _word(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("this has a line break or another character that no header may have")
    return text


def _key(key: SecretStr) -> SecretStr:
    if wrong := fault_of_key(key.get_secret_value()):
        raise ValueError(wrong)
    return key


def fault_of_key(value: str) -> str:
    """Why no server can take `value` as a key; empty if one may."""
    if not value:
        return "the key is empty; is its variable set?"
    if not value.isascii() or not value.isprintable() or " " in value:
        return "the key has a space, a line break or another character that no key has"
    return ""


def _forwardable(names: list[str]) -> list[str]:
    for name in names:
        if name.lower() in NEVER_FORWARDED_HEADERS:
            raise ValueError(f"{name} is never forwarded")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
    return names


Address = Annotated[str, AfterValidator(_address)]
BaseURL = Annotated[Address, AfterValidator(_without_endpoint)]
Headers = Annotated[dict[str, SecretStr], AfterValidator(_headers)]
Key = Annotated[SecretStr, AfterValidator(_key)]
ForwardedHeaders = Annotated[list[str], AfterValidator(_forwardable)]
HeaderText = Annotated[str, AfterValidator(_word)]
MaxTokensName = Literal["max_tokens", "max_completion_tokens"]


class DiscoverySettings(Model):
    """How often an upstream is asked which models it has."""

    every_s: float = setting(
        300.0, "Age of the list, in seconds, after which the next request for it has it fetched again.", ge=10
    )


def _discovery(value: object) -> object:
    if value == "off":
        return None
    if isinstance(value, dict | DiscoverySettings):
        return value
    raise ValueError('write `{every_s: 300}`, or "off" with its quotes')


Discovery = Annotated[
    DiscoverySettings | None,
    BeforeValidator(_discovery, json_schema_input_type=DiscoverySettings | Literal["off"]),
]
"""`None`: off."""


def _path(path: str) -> str:
    if not path.startswith("/") or path.startswith("//") or not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError("a path begins with one `/` and has no blanks, such as `/health`")
    return path


class HealthSettings(Model):
    """How an upstream is asked whether it is well: any status from 200 to 299 says so."""

    path: Annotated[str, AfterValidator(_path)] = Field(
        description="Where, from the root of the server: `/health` for vLLM, SGLang and llama.cpp."
    )
    every_s: float = setting(10.0, "How often, in seconds, by each process.", ge=0.1, le=3600)


class HttpSettings(BackendSettings):
    """The settings of every HTTP backend."""

    headers: Headers = setting(
        dict, "More headers for every request. Their values are kept out of logs and messages, like keys."
    )
    query: dict[str, SecretStr] = setting(
        dict, "Query parameters for every request. Their values are kept out of logs and messages, like keys."
    )
    forward_headers: ForwardedHeaders = setting(
        list, "Client headers to pass on, by name. No others are; never those with a client's key or cookies."
    )
    discover: Discovery = setting(
        DiscoverySettings, 'Ask the upstream in the background which models it has, for lists of models; or `"off"`.'
    )

    health: HealthSettings | None = setting(
        None,
        "Ask the upstream in the background whether it is well. After two bad answers the other targets of a "
        "route are tried before its own, until a good one. Not asked if left out: requests tell.",
    )

    quirks: ConversationQuirks | None = setting(
        None,
        "What this target takes in a conversation of another contract, where it differs from what is known "
        "of its kind ([translation](translation.md)).",
    )

    @property
    def discover_every_s(self) -> float:
        """How old a list of models may get, in seconds; 0: none is asked for."""
        return self.discover.every_s if self.discover else 0.0


class OpenAIChatSettings(HttpSettings):
    """The settings of every backend that speaks OpenAI Chat Completions."""

    quirks: Quirks | None = setting(
        None,
        "What this target takes in a request of another contract, where it differs from what is known of "
        "its kind or preset ([translation](translation.md)).",
    )
    include_usage: bool | None = setting(
        None,
        "Ask for token counts in streams (`stream_options.include_usage`). Default: yes, unless the "
        "preset knows better; a server that refuses the field needs `false`, and tokens are then estimated.",
    )
    max_tokens_name: MaxTokensName | None = setting(
        None,
        "The one name of the answer's length limit this server knows: `max_tokens` or "
        "`max_completion_tokens`. Default: as the client wrote it.",
    )
    return_reasoning: Literal["auto", "always", "never"] = setting(
        "auto",
        "Send earlier reasoning of the model back with a conversation of another contract. `auto`: where "
        "the preset is known to need it (deepseek, minimax, moonshot, openrouter, zai), or, without a preset and at vLLM, "
        "SGLang and Fireworks, the model by its name (`deepseek-reasoner`, `kimi-k2-thinking`, `glm-5`, `minimax-m2`, …). "
        "`always`: as "
        "`reasoning_content`, or as the preset wants it. A body of this contract keeps what its client wrote.",
    )


def reasoning_return(settings: OpenAIChatSettings, known: ReasoningReturn | None = None) -> ReasoningReturn | None:
    """How reasoning goes back by a row's `return_reasoning`; `known` is what its preset wants."""
    match settings.return_reasoning:
        case "never":
            return None
        case "always":
            return known or ReasoningReturn(everywhere=True)
        case "auto":
            return known


def revealed_query(query: Mapping[str, SecretStr]) -> dict[str, str]:
    """Query parameters in plain text, for requests."""
    return {name: value.get_secret_value() for name, value in query.items()}


def revealed(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """Headers in plain text, for requests; names in lower case, so that they replace others."""
    return {name.lower(): value.get_secret_value() for name, value in headers.items()}
