"""The settings: every key of the config file, what it means, its default, and what it may be.

These models are strict (`"5"` is no number, `yes` is no boolean) and closed (an unknown key is an
error). Field descriptions are the reference manual: `chat-proxy schema` hands them to editors. What
depends on more than one place in the file is checked in `proxy.config.checks`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from proxy.config.regex import linear_regex

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
DIGEST = re.compile(r"[0-9a-fA-F]{64}")

PICKS = ("in-order", "weighted")
FUTURE_PICKS = ("least-busy", "least-latency", "cheapest")
FUTURE_CUTS = ("continue", "restart")

# What a route may not set: the request's own substance, and what the proxy itself answers for.
NOT_PARAMETERS = ("model", "messages", "stream", "stream_options", "tools", "user", "metadata")

KIND_OF_PARAMETER: dict[str, str] = {
    "temperature": "a number",
    "top_p": "a number",
    "top_k": "a whole number",
    "min_p": "a number",
    "frequency_penalty": "a number",
    "presence_penalty": "a number",
    "repetition_penalty": "a number",
    "max_tokens": "a whole number",
    "max_completion_tokens": "a whole number",
    "n": "a whole number",
    "seed": "a whole number",
    "top_logprobs": "a whole number",
    "logprobs": "true or false",
    "parallel_tool_calls": "true or false",
    "store": "true or false",
    "reasoning_effort": "text",
    "service_tier": "text",
    "verbosity": "text",
    "stop": "text or a list",
    "tool_choice": "text or a mapping",
    "logit_bias": "a mapping",
    "response_format": "a mapping",
    "prediction": "a mapping",
    "modalities": "a list",
}
_TYPES_OF_KIND: dict[str, tuple[type, ...]] = {
    "a number": (int, float),
    "a whole number": (int,),
    "true or false": (bool,),
    "text": (str,),
    "text or a list": (str, list),
    "text or a mapping": (str, dict),
    "a mapping": (dict,),
    "a list": (list,),
}


def _as_list(value: Any) -> Any:
    """One entry may be written without the list around it."""
    return value if value is None or isinstance(value, list) else [value]


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name is up to 64 letters, digits, '-', '_' and '.', and starts with a letter or digit")
    return value


def _check_pattern(value: str) -> str:
    if not value:
        raise ValueError('an empty pattern matches nothing; "*" matches whatever is there')
    return value


Patterns = Annotated[list[str], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)]


class Model(BaseModel):
    """Base of all settings: closed, strict, read-only, and silent about values in errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class CorsSettings(Model):
    """Which web pages may call the proxy from a browser."""

    origins: list[str] = Field(
        description='Origins such as `https://app.example.com`, without a path; `"*"` for any, without credentials.'
    )
    credentials: bool = Field(default=False, description="Allow cookies and `Authorization` from these origins.")

    @field_validator("origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", origin):
                raise ValueError(f'{origin!r} is no origin: write scheme://host[:port] without a path, or "*"')
        return origins

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> CorsSettings:
        if self.credentials and "*" in self.origins:
            raise ValueError('credentials cannot go with origin "*": name the origins')
        return self


class LimitSettings(Model):
    """Bounds that keep one client or one answer from hurting all others."""

    body_mb: Megabytes = Field(default=20.0, description="Largest request body, in MB; more is a 413.")
    header_s: Seconds = Field(default=10.0, description="Time a client has to send its request headers.")
    body_s: Seconds = Field(default=30.0, description="Time a client has to send its request body.")
    idle_s: Seconds = Field(default=75.0, description="How long an idle keep-alive connection stays open.")
    write_stall_s: Seconds = Field(default=30.0, description="How long a client may read nothing before it is cut.")
    frame_mb: Megabytes = Field(default=4.0, description="Largest single event of an upstream, in MB.")
    answer_mb: Megabytes = Field(default=32.0, description="Largest whole answer, in MB.")
    connections: int = Field(default=20_000, gt=0, description="Open client connections; more are refused.")
    connections_per_peer: int = Field(default=0, ge=0, description="The same per client address; 0 is no limit.")
    auth_failures_per_minute: int = Field(
        default=30, ge=0, description="Wrong keys per client address and minute before it gets 429; 0 is no limit."
    )


class TimeoutSettings(Model):
    """Timers of a request, in seconds. `first_token_s` and `token_gap_s` are moved by content, never by pings."""

    connect_s: Seconds = Field(default=5.0, description="To connect to a backend, TLS included.")
    first_token_s: Seconds = Field(
        default=60.0, description="To the first piece of content, over all targets of a fallback chain."
    )
    token_gap_s: Seconds = Field(default=60.0, description="Between two pieces of content.")
    total_s: Seconds = Field(default=1800.0, description="A whole stream.")
    whole_s: Seconds = Field(default=600.0, description="A whole answer to a request that asked for no stream.")


class RouteTimeouts(Model):
    """A route's own timers; what is left out comes from `server.timeouts`."""

    connect_s: Seconds | None = Field(default=None, description="To connect to a backend, TLS included.")
    first_token_s: Seconds | None = Field(default=None, description="To the first piece of content, over all targets.")
    token_gap_s: Seconds | None = Field(default=None, description="Between two pieces of content.")
    total_s: Seconds | None = Field(default=None, description="A whole stream.")
    whole_s: Seconds | None = Field(default=None, description="A whole answer asked for without a stream.")

    def over(self, base: TimeoutSettings) -> TimeoutSettings:
        """These timers where given, else those of `base`."""
        return base.model_copy(update=self.model_dump(exclude_none=True))


class LogSettings(Model):
    """What is logged, and how."""

    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto`: coloured lines on a terminal, JSON lines elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severe line shown.")


class ServerSettings(Model):
    """Where and how the proxy listens, and what holds for all routes."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    cors: CorsSettings | None = Field(default=None, description="Web pages that may call; none by default.")
    drain_s: float = Field(
        default=30.0, ge=0, le=86_400, allow_inf_nan=False, description="How long open streams may finish at a stop."
    )
    limits: LimitSettings = Field(default_factory=LimitSettings, description="Bounds on clients and answers.")
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings, description="Timers of all routes.")
    heartbeat_s: float = Field(
        default=15.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="Silence before a heartbeat is sent; 0 is never.",
    )
    log: LogSettings = Field(default_factory=LogSettings, description="What is logged, and how.")
    reload: Literal["auto", "poll", "off"] = Field(
        default="auto",
        description="Take up changes of this file: told by the system (`auto`), by looking (`poll`), or not (`off`).",
    )
    trusted_proxies: list[str] = Field(
        default_factory=list, description="Networks (CIDR) of proxies in front whose `X-Forwarded-For` is believed."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is no network: write it as 10.0.0.0/8 or 192.0.2.7/32") from None
        return networks


class KeySettings(Model):
    """One client key: its name, its digest or (from the environment) the key itself, and what it may reach."""

    name: str = Field(description="Name of the key, for logs, metrics and `match.key`.")
    sha256: str | None = Field(
        default=None, description="SHA-256 of the key in hex; `chat-proxy key new` prints one. The better choice."
    )
    key: SecretStr | None = Field(
        default=None, description='The key itself, best as `"${VAR:-}"`; when that is empty this key is off.'
    )
    routes: Patterns = Field(default_factory=list, description="Names of the routes it may use; empty is all.")
    models: Patterns = Field(
        default_factory=list, description="Globs of models it may reach, as `model` or `backend/model`; empty is all."
    )

    _name = field_validator("name")(_check_name)

    @field_validator("sha256")
    @classmethod
    def _digest(cls, digest: str | None) -> str | None:
        if digest and not DIGEST.fullmatch(digest):
            raise ValueError("a SHA-256 digest is 64 hex digits; `chat-proxy key new` prints a key with its digest")
        return digest.lower() if digest else digest

    @model_validator(mode="after")
    def _exactly_one(self) -> KeySettings:
        if (self.sha256 is None) == (self.key is None):
            raise ValueError("a key needs exactly one of `sha256` and `key`")
        return self

    @property
    def off(self) -> bool:
        """Whether the value came out empty, as from `${VAR:-}`: nobody can present this key."""
        return not self.digest

    @property
    def digest(self) -> str:
        """SHA-256 of the key in lower-case hex; empty when the key is off."""
        if self.key is None:
            return self.sha256 or ""
        secret = self.key.get_secret_value()
        return hashlib.sha256(secret.encode()).hexdigest() if secret else ""


class AuthSettings(Model):
    """Who may ask. In YAML either `off` or a mapping with `keys`."""

    off: bool = Field(default=False, description="Nobody is asked for a key. Written as `auth: off`.")
    keys: list[KeySettings] = Field(default_factory=list, description="The keys that clients may present.")

    @model_validator(mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return {"off": True} if value == "off" else value


class TokenRange(Model):
    """How long a request is, in tokens estimated from its text; both ends included."""

    min: int | None = Field(default=None, ge=0, description="At least so many.")
    max: int | None = Field(default=None, ge=0, description="At most so many.")

    @model_validator(mode="after")
    def _in_order(self) -> TokenRange:
        if self.min is None and self.max is None:
            raise ValueError("say `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing can match")
        return self


Feature = Literal["tools", "images", "json_schema", "audio", "files"]


class MatchSettings(Model):
    """What a request must be for a rule to apply. All keys must hold; a list means any of its entries.

    Text is compared as a glob, `*` for any run and `?` for any one character, and case counts.
    """

    contract: Patterns | None = Field(default=None, description="Contract spoken: `chat`, `openai`, …")
    path: Patterns | None = Field(default=None, description="Path of the request, such as `/chat`.")
    model: Patterns | None = Field(default=None, description="Model the client asked for.")
    header: dict[str, Patterns] | None = Field(
        default=None, description='Request headers: each named one must match. `"*"`: it is there at all.'
    )
    key: Patterns | None = Field(default=None, description="Name of the key presented.")
    user: Patterns | None = Field(default=None, description="The body's `user`.")
    metadata: dict[str, Patterns] | None = Field(default=None, description="Entries of the body's `metadata`.")
    content: str | None = Field(
        default=None, min_length=1, description="RE2 regular expression, found anywhere in the last user message."
    )
    tokens: TokenRange | None = Field(default=None, description="Estimated length of the messages.")
    has: Annotated[list[Feature] | None, BeforeValidator(_as_list, json_schema_input_type=Feature | list[Feature])] = (
        Field(default=None, description="What the request carries; any of these.")
    )

    @field_validator("contract", "path", "model", "key", "user")
    @classmethod
    def _patterns(cls, patterns: list[str] | None) -> list[str] | None:
        if patterns is not None and not patterns:
            raise ValueError("an empty list matches nothing: name something or leave the key out")
        for pattern in patterns or ():
            _check_pattern(pattern)
        return patterns

    @field_validator("header", "metadata")
    @classmethod
    def _named_patterns(cls, named: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        if named is not None and not named:
            raise ValueError("an empty mapping asks for nothing: name something or leave the key out")
        for patterns in (named or {}).values():
            cls._patterns(patterns)
        return named

    @field_validator("has")
    @classmethod
    def _features(cls, features: list[Feature] | None) -> list[Feature] | None:
        if features is not None and not features:
            raise ValueError("an empty list matches nothing: name something or leave the key out")
        return features

    @field_validator("content")
    @classmethod
    def _regex(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            linear_regex(pattern)
        return pattern

    @property
    def always(self) -> bool:
        """Whether every request matches."""
        return not self.model_dump(exclude_none=True)


class TargetSettings(Model):
    """One place a route may send a request to. May be written as just its `target`."""

    target: str = Field(description="`backend/model`, or `backend` where the request's own model is to be used.")
    weight: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Share of requests with `pick: weighted`; 0 is only a fallback.",
    )

    @model_validator(mode="before")
    @classmethod
    def _just_a_target(cls, value: Any) -> Any:
        return {"target": value} if isinstance(value, str) else value

    @field_validator("target")
    @classmethod
    def _backend_and_model(cls, target: str) -> str:
        backend, slash, model = target.partition("/")
        if not backend or (slash and not model) or target != target.strip():
            raise ValueError("a target is `backend/model`, or `backend` alone to use the request's own model")
        return target

    @property
    def backend(self) -> str:
        return self.target.partition("/")[0]

    @property
    def model(self) -> str:
        """The model part; it may hold slashes of its own."""
        return self.target.partition("/")[2]


def _check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    for name, value in parameters.items():
        if name in NOT_PARAMETERS:
            hint = "write it into the target: `to: backend/model`" if name == "model" else "it is the request's own"
            raise ValueError(f"`{name}` cannot be set by a route: {hint}")
        kind = KIND_OF_PARAMETER.get(name)
        if kind is None or value is None:
            continue
        if not isinstance(value, _TYPES_OF_KIND[kind]) or (isinstance(value, bool) and kind != "true or false"):
            raise ValueError(f"`{name}` takes {kind}")
    return parameters


class RouteSettings(Model):
    """One rule: which requests it takes, and where they go. The first rule that matches wins."""

    name: str = Field(description="Name of the rule, for logs, metrics and messages.")
    match: MatchSettings = Field(default_factory=MatchSettings, description="Which requests; left out, all.")
    to: Annotated[
        list[TargetSettings],
        BeforeValidator(_as_list, json_schema_input_type=str | TargetSettings | list[str | TargetSettings]),
    ] = Field(description="Targets in order: when one fails before its first token, the next is tried.")
    pick: Literal["in-order", "weighted"] = Field(
        default="in-order", description="Which target is first: the first listed, or one drawn by weight."
    )
    sticky: str | None = Field(
        default=None,
        description="With `pick: weighted`: the same `header:NAME`, `key`, `user` or `conversation` draws the same.",
    )
    set: dict[str, Any] = Field(default_factory=dict, description="Parameters that replace the request's.")
    default: dict[str, Any] = Field(default_factory=dict, description="Parameters for requests without them.")
    timeouts: RouteTimeouts = Field(default_factory=RouteTimeouts, description="This route's own timers.")
    heartbeat_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="Silence before a heartbeat is sent; 0 is never.",
    )
    on_cut: Literal["error"] = Field(default="error", description="When an answer is cut short: say so.")
    dialect: Literal["text", "sse", "both", "json"] | None = Field(
        default=None, description="Founding contract: how tokens are written, where the client does not say."
    )
    errors: Literal["frame", "frame+text", "frame+abort"] = Field(
        default="frame",
        description="Founding contract: how an error is told. `frame+text` shows it to clients that read only tokens.",
    )

    _name = field_validator("name")(_check_name)
    _parameters = field_validator("set", "default")(_check_parameters)

    @field_validator("pick", mode="before")
    @classmethod
    def _pick_exists(cls, pick: Any) -> Any:
        if pick in FUTURE_PICKS:
            raise ValueError(f"`{pick}` is not available yet; these are: {', '.join(PICKS)}")
        return pick

    @field_validator("on_cut", mode="before")
    @classmethod
    def _cut_exists(cls, on_cut: Any) -> Any:
        if on_cut in FUTURE_CUTS:
            raise ValueError(f"`{on_cut}` is not available yet; this is: error")
        return on_cut

    @field_validator("to")
    @classmethod
    def _some_target(cls, to: list[TargetSettings]) -> list[TargetSettings]:
        if not to:
            raise ValueError("the list is empty: name at least one target, such as `echo/echo`")
        return to

    @field_validator("sticky")
    @classmethod
    def _sticky_to(cls, sticky: str | None) -> str | None:
        if sticky is None or sticky in {"key", "user", "conversation"}:
            return sticky
        if re.fullmatch(r"header:[A-Za-z0-9!#$%&'*+.^_`|~-]+", sticky):
            return sticky
        raise ValueError("sticky is one of `header:NAME`, `key`, `user` and `conversation`")

    @model_validator(mode="after")
    def _weights(self) -> RouteSettings:
        weighted = self.pick == "weighted"
        if self.sticky and not weighted:
            raise ValueError("`sticky` means something only with `pick: weighted`")
        if not weighted and any("weight" in target.model_fields_set for target in self.to):
            raise ValueError("`weight` means something only with `pick: weighted`")
        if weighted and not any(target.weight for target in self.to):
            raise ValueError("every weight is 0: nothing could be picked")
        return self


class Settings(Model):
    """The whole file."""

    server: ServerSettings = Field(default_factory=ServerSettings, description="Where and how the proxy listens.")
    auth: AuthSettings | None = Field(
        default=None,
        description="Who may ask. Left out: nobody needs a key, and only this machine can ask. `off`: nobody, anywhere.",
    )
    backends: dict[str, dict[str, Any]] = Field(
        description="Named destinations. `kind` picks the driver; the other keys are the kind's own.",
        repr=False,  # rows hold keys until their kind has wrapped them
    )
    routes: list[RouteSettings] = Field(description="Rules in order; the first that matches a request answers it.")

    @field_validator("auth", mode="before")
    @classmethod
    def _auth_says_something(cls, auth: Any) -> Any:
        if auth is None:
            raise ValueError("`auth` is empty: list `keys` under it, or write `auth: off` to ask nobody for a key")
        return auth

    @field_validator("backends")
    @classmethod
    def _some_backend(cls, backends: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not backends:
            raise ValueError("there is no backend: add one, such as `echo: {kind: echo}`")
        return backends

    @field_validator("routes")
    @classmethod
    def _some_route(cls, routes: list[RouteSettings]) -> list[RouteSettings]:
        if not routes:
            raise ValueError("there is no route, so nothing would be answered: add `- {name: default, to: …}`")
        return routes
