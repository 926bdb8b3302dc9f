"""The settings: every key of the config file, its meaning, its default and its allowed values.

These models are strict (`"5"` is not a number, `yes` is not a boolean), and an unknown key is an error.
The field descriptions are the reference manual: `chat-proxy schema` gives them to editors.
`proxy.config.checks` checks what depends on more than one place in the file.
"""

import hashlib
import ipaddress
import re
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from proxy.config.base import NAME, Model, Patterns, Seconds, check_name, setting
from proxy.config.budgets import BudgetSettings
from proxy.config.frontends import FrontendSettings
from proxy.config.limits import KeyLimits, StoreAddress
from proxy.config.rules import (
    DeliverySettings,
    MatchSettings,
    RouteSettings,
    RouteTimeouts,
    TargetSettings,
    TimeoutSettings,
    TokenRange,
)
from proxy.config.telemetry import TelemetrySettings
from proxy.config.usage import UsageSettings

__all__ = [
    "NAME", "AuthSettings", "BreakerSettings", "CorsSettings", "DeliverySettings", "KeySettings", "LimitSettings",
    "LogSettings", "MatchSettings", "Model", "PriceSettings", "ResumeSettings", "RouteSettings", "RouteTimeouts",
    "ServerSettings", "Settings", "TargetSettings", "TimeoutSettings", "TokenRange",
]  # fmt: skip

DIGEST = re.compile(r"[0-9a-fA-F]{64}")

Megabytes = Annotated[float, Field(gt=0, le=4096)]
Dollars = Annotated[float, Field(ge=0)]


class CorsSettings(Model):
    """Which web pages may call the proxy from a browser."""

    origins: list[str] = Field(
        description='Origins such as `https://app.example.com`, without a path; `"*"` for any, without credentials.'
    )
    credentials: bool = setting(False, "Allow cookies and `Authorization` from these origins.")

    @field_validator("origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+", origin):
                raise ValueError(f'{origin!r} is not an origin: write scheme://host[:port] without a path, or "*"')
        return origins

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError('`credentials` needs named origins: replace "*"')
        return self


class LimitSettings(Model):
    """Bounds that keep one client or one answer from harming the others."""

    body_mb: Megabytes = setting(20.0, "Largest request body, in MB; more is a 413.")
    header_s: Seconds = setting(10.0, "Time a client has to send its request headers.")
    body_s: Seconds = setting(30.0, "Time a client has to send its request body.")
    idle_s: Seconds = setting(75.0, "How long an idle keep-alive connection stays open.")
    write_stall_s: Seconds = setting(30.0, "How long a client may read nothing before it is cut.")
    frame_mb: Megabytes = setting(4.0, "Largest single event of an upstream, in MB.")
    answer_mb: Megabytes = setting(32.0, "Largest whole answer, in MB.")
    connections: int = setting(
        20_000,
        "Open client connections. For more than that, idle ones of the address that has the most are closed; if none is "
        "idle, new ones are refused.",
        gt=0,
    )
    connections_per_peer: int = setting(0, "Open connections of one client address; 0 is no limit.", ge=0)
    auth_failures_per_minute: int = setting(
        30, "Wrong keys per client address and minute before it gets 429; 0 is no limit.", ge=0
    )


class BreakerSettings(Model):
    """When a target that keeps failing is tried only after the others of its route."""

    failures: int = setting(5, "Failures in a row after which others are tried before a target; 0 is never.", ge=0)
    open_s: Seconds = setting(
        1.0, "For how long at first; it doubles each time. Then one request may try it first again."
    )
    longest_s: Seconds = setting(30.0, "For how long at most.")


class ResumeSettings(Model):
    """How long answers can be resumed after a lost connection."""

    keep_s: Seconds = setting(300.0, "How long an answer is kept after its end.")
    grace_s: float = setting(
        0.0,
        "How long an answer goes on when its last reader has left, so that a page may be loaded again. "
        "0: it is stopped at once, as without `resume`, and only answers that are whole can be fetched again.",
        ge=0,
        le=86_400,
    )
    bytes: int = setting(
        1_000_000,
        "How much of one answer is kept. One that grows longer goes on, and can be resumed no more.",
        ge=1024,
        le=1_000_000_000,
    )


class LogSettings(Model):
    """The log."""

    format: Literal["auto", "json", "console"] = setting(
        "auto", "`auto`: coloured lines on a terminal, JSON lines elsewhere."
    )
    level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severe line shown.")


class Listen(NamedTuple):
    """A port to listen on."""

    port: int
    prefix: str  # paths under it are also served at the root of this port
    key: str  # the key of the config that asks for it


class ServerSettings(Model):
    """Where the proxy listens, and settings of all routes."""

    host: str = setting("127.0.0.1", "Address to listen on.", min_length=1)
    port: int = setting(8080, "Port to listen on; 0 takes a free one.", ge=0, le=65535)
    ollama_port: int | None = setting(
        None,
        "A second port, for programs that expect Ollama there: `11434` is where they look. What is served "
        "under `/ollama` is at the root there (`/api/chat`, `/api/tags`), all else where it always is. None by default.",
        ge=0,
        le=65535,
    )
    cors: CorsSettings | None = setting(None, "Web pages that may call; none by default.")
    allowed_hosts: list[str] = setting(
        list, "Public names under which the proxy answers although it has no `auth` and listens on this machine alone."
    )
    drain_s: float = setting(30.0, "How long open streams may finish at a stop.", ge=0, le=86_400)
    limits: LimitSettings = setting(LimitSettings, "Bounds on clients and answers.")
    timeouts: TimeoutSettings = setting(TimeoutSettings, "Timers of all routes.")
    breaker: BreakerSettings = setting(BreakerSettings, "When a target that keeps failing is tried last.")
    heartbeat_s: float = setting(15.0, "Silence before a heartbeat is sent; 0 is never.", ge=0, le=86_400)
    delivery: DeliverySettings = setting(DeliverySettings, "Pacing of streams faster than anybody can see.")
    log: LogSettings = setting(LogSettings, "How the log looks and how much it says.")
    resume: ResumeSettings | None = setting(
        None,
        "Streams can be resumed: their id is in the header `X-Stream-Id`, and `GET /streams/{id}?after=N` "
        "goes on after frame N. Off unless said.",
    )
    answer_headers: bool = setting(
        True,
        "Say in each answer's headers who answered: `X-Chat-Route`, `X-Chat-Target` (`backend/model`) and "
        "`X-Chat-Attempts`, and of whole answers `X-Chat-Cost`. `false` keeps these names from clients.",
    )
    reload: Literal["auto", "off"] = setting(
        "auto", "Take up changes of this file, within a second (`auto`), or only when told by SIGHUP (`off`)."
    )
    trusted_proxies: list[str] = setting(
        list, "Networks (CIDR) of proxies in front whose `X-Forwarded-For` is believed."
    )

    @property
    def listen(self) -> tuple[Listen, ...]:
        """Every port to listen on, the main one first."""
        main = Listen(self.port, "", "server.port")
        if self.ollama_port is None:
            return (main,)
        return main, Listen(self.ollama_port, "/ollama", "server.ollama_port")

    def needs_restart(self, running: "ServerSettings") -> list[str]:
        """The keys that differ from those of a process that runs with `running`, and are read at its start only."""
        keys = ("host", "port", "ollama_port", "log", "reload")
        return [f"server.{key}" for key in keys if getattr(self, key) != getattr(running, key)]

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r} is not a network: write it as 10.0.0.0/8 or 192.0.2.7/32") from None
        return networks


class KeySettings(Model):
    """One client key: its name, its digest or (from the environment) the key itself, and what it may reach."""

    name: str = Field(description="Name of the key, for logs, metrics and `match.key`.")
    sha256: str | None = setting(None, "SHA-256 of the key in hex; `chat-proxy key new` prints one. The better choice.")
    key: SecretStr | None = setting(None, 'The key itself, best as `"${VAR:-}"`; when that is empty this key is off.')
    routes: Patterns = setting(list, "Names of the routes it may use; empty is all.")
    models: Patterns = setting(list, "Globs of models it may reach, as `model` or `backend/model`; empty is all.")
    limits: KeyLimits | None = setting(
        None, "How much it may use; what is left out comes from `auth.limits`. `null` is no limit."
    )
    budget: BudgetSettings | None = setting(
        None, "How much it may spend; left out, what `auth.budget` says. `null` is no budget."
    )

    _name = field_validator("name")(check_name)

    @field_validator("sha256")
    @classmethod
    def _digest(cls, digest: str | None) -> str | None:
        if digest and not DIGEST.fullmatch(digest):
            raise ValueError("a SHA-256 digest is 64 hex digits; `chat-proxy key new` prints a key with its digest")
        return digest.lower() if digest else digest

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.sha256 is None) == (self.key is None):
            raise ValueError("a key needs exactly one of `sha256` and `key`")
        return self

    @property
    def off(self) -> bool:
        """True if the value is empty, as from `${VAR:-}`: nobody can present this key."""
        return not self.digest

    @property
    def digest(self) -> str:
        """SHA-256 of the key in lower-case hex; empty if the key is off."""
        if self.key is None:
            return self.sha256 or ""
        secret = self.key.get_secret_value()
        return hashlib.sha256(secret.encode()).hexdigest() if secret else ""


class AuthSettings(Model):
    """Who may ask. In YAML `off`, or a mapping with `keys`."""

    off: bool = setting(False, "Nobody is asked for a key. Written as `auth: off`.")
    keys: list[KeySettings] = setting(list, "The keys that clients may present.")
    limits: KeyLimits | None = setting(None, "How much each key may use that says nothing else.")
    budget: BudgetSettings | None = setting(None, "How much each key may spend that says nothing else.")

    @model_validator(mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return {"off": True} if value == "off" else value


class PriceSettings(Model):
    """What a model costs, in US dollars."""

    input_per_million: Dollars = Field(description="A million input tokens.")
    output_per_million: Dollars = Field(description="A million output tokens.")
    cached_input_per_million: Dollars | None = setting(
        None, "A million input tokens read from a cache; as other input if left out."
    )
    cache_write_per_million: Dollars | None = setting(
        None, "A million input tokens written to a cache; as other input if left out."
    )
    reasoning_per_million: Dollars | None = setting(
        None, "A million output tokens of reasoning; as other output if left out."
    )
    audio_input_per_million: Dollars | None = setting(
        None, "A million input tokens of audio; as other input if left out."
    )
    audio_output_per_million: Dollars | None = setting(
        None, "A million output tokens of audio; as other output if left out."
    )


class Settings(Model):
    """The whole file."""

    server: ServerSettings = setting(ServerSettings, "Where and how the proxy listens.")
    auth: AuthSettings | None = setting(
        None, "Who may ask. Left out: nobody needs a key, and only this machine can ask. `off`: nobody, anywhere."
    )
    backends: dict[str, dict[str, Any]] = Field(
        description="Named destinations. `kind` picks the driver; the other keys are the kind's own.",
        repr=False,  # rows hold secrets until the model of their kind has wrapped them
    )
    frontends: dict[str, FrontendSettings] = setting(
        dict, "Contracts of your own, by name: beside those built in, for chat frontends that speak none of them."
    )
    prices: dict[str, PriceSettings] = setting(
        dict,
        "Prices by model, as a glob of `model` or `backend/model`; the first that fits counts. Models without "
        "one cost what the price list of the package genai-prices says; a model in neither has no known price.",
    )
    routes: list[RouteSettings] = Field(description="Rules in order; the first that matches a request answers it.")
    store: StoreAddress = setting(
        None,
        "Where limits are counted and keys are kept that are not in this file: `memory`, which is each "
        "process's own, or a Redis or Valkey server that replicas share, `redis://…` or `rediss://…`.",
    )
    telemetry: TelemetrySettings = setting(
        TelemetrySettings, "Where traces and metrics go besides the log and `/metrics`."
    )
    usage: UsageSettings | None = setting(
        None, "Write down who used what, for `chat-proxy usage` and `GET /usage`. Off unless said."
    )

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
