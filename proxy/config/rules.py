"""One rule of the file: which requests it takes, where they go, and what it changes in them."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, field_validator, model_validator

from proxy.config.answers import HedgeSettings, SmoothSettings
from proxy.config.base import Model, Patterns, Seconds, Unfit, as_list, check_name, setting
from proxy.config.budgets import BudgetSettings
from proxy.config.limits import UsageLimits
from proxy.config.parameters import check_parameters
from proxy.config.regex import linear_regex

STARS = re.compile(r"\$([1-9])")
"""A place in a target's model for what a star of `match.model` stands for."""


class TimeoutSettings(Model):
    """Timers of a request, in seconds. `first_token_s` and `token_gap_s` are moved by content, never by pings."""

    connect_s: Seconds = setting(5.0, "To connect to a backend, TLS included.")
    first_token_s: Seconds = setting(60.0, "To the first piece of content, over all targets of a fallback chain.")
    token_gap_s: Seconds = setting(60.0, "Between two pieces of content.")
    total_s: Seconds = setting(1800.0, "A whole stream.")
    whole_s: Seconds = setting(600.0, "A whole answer to a request that asked for no stream.")


class RouteTimeouts(Model):
    """A route's own timers; what is left out comes from `server.timeouts`."""

    connect_s: Seconds | None = setting(None, "To connect to a backend, TLS included.")
    first_token_s: Seconds | None = setting(None, "To the first piece of content, over all targets.")
    token_gap_s: Seconds | None = setting(None, "Between two pieces of content.")
    total_s: Seconds | None = setting(None, "A whole stream.")
    whole_s: Seconds | None = setting(None, "A whole answer asked for without a stream.")

    def over(self, base: TimeoutSettings) -> TimeoutSettings:
        """These timers where given, else those of `base`."""
        return base.model_copy(update=self.model_dump(exclude_none=True))


def _check_tick(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    if type(value) is int and 0 <= value <= 1000:
        return value
    raise ValueError("takes `auto`, 0 for as it comes, or 1 to 1000 milliseconds")


Tick = Annotated[int | str, PlainValidator(_check_tick, json_schema_input_type=int | Literal["auto"])]


class DeliverySettings(Model):
    """Pacing: how often streams are passed on that are faster than a person can read."""

    tick_ms: Tick = setting(
        "auto",
        "How often the answer of a fast backend is read at most, in milliseconds: what comes between two "
        "ticks goes on together. 0: as it comes. `auto`: as it comes while the load is low, up to 33 as it rises. "
        "The first token, and streams slower than the tick, are never held up.",
    )

    @property
    def tick_s(self) -> float | None:
        """In seconds; `None` for `auto`."""
        return None if isinstance(self.tick_ms, str) else self.tick_ms / 1000


class TokenRange(Model):
    """How long a request is, in tokens estimated from its text; both ends included."""

    min: int | None = setting(None, "At least so many.", ge=0)
    max: int | None = setting(None, "At most so many.", ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("say `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: nothing can match")
        return self


def _check_pattern(value: str) -> str:
    if not value:
        raise ValueError('an empty pattern matches nothing; "*" matches whatever is there')
    return value


Feature = Literal["tools", "images", "json_schema", "audio", "files"]


class MatchSettings(Model):
    """What a request must be for a rule to apply. All keys must hold; a list means any of its entries.

    Text is compared as a glob, `*` for any run and `?` for any one character, and case counts.
    """

    contract: Patterns | None = setting(None, "Contract spoken: `chat`, `openai`, …")
    path: Patterns | None = setting(None, "Path of the request, such as `/chat`.")
    model: Patterns | None = setting(None, "Model the client asked for.")
    header: dict[str, Patterns] | None = setting(
        None, 'Request headers: each named one must match. `"*"`: it is there at all.'
    )
    key: Patterns | None = setting(None, "Name of the key presented.")
    user: Patterns | None = setting(None, "The body's `user`.")
    metadata: dict[str, Patterns] | None = setting(None, "Entries of the body's `metadata`.")
    content: str | None = setting(
        None,
        "RE2 regular expression, found anywhere in the first 16,384 characters of the last user message.",
        min_length=1,
    )
    tokens: TokenRange | None = setting(None, "Estimated length of the messages.")
    has: Annotated[list[Feature] | None, BeforeValidator(as_list, json_schema_input_type=Feature | list[Feature])] = (
        setting(None, "What the request carries; any of these.")
    )

    @field_validator("*", mode="before")
    @classmethod
    def _given(cls, wanted: Any) -> Any:
        if wanted is None:  # a forgotten value, and the rule would take every request
            raise ValueError("it has no value, so it asks for nothing: give it one, or leave the key out")
        return wanted

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


class ConcurrencyRange(Model):
    """A number of streams at once that adapts: it grows while all are in use, and shrinks when answers begin slowly."""

    min: int = setting(1, "What it begins with, and never goes below.", gt=0)
    max: int = Field(gt=0, description="What it never exceeds.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


def _as_range(value: Any) -> Any:
    if type(value) is int:
        return {"min": value, "max": value}
    if value is None or isinstance(value, dict | ConcurrencyRange):
        return value
    raise ValueError("takes a whole number, or a range such as {min: 2, max: 20}")


class QueueSettings(Model):
    """Requests that wait for a slot of a target. The clients' keys take turns; of one key the first that came is the first served."""

    size: int = Field(gt=0, le=100_000, description="How many may wait.")
    wait_s: Seconds = setting(10.0, "For how long, before the next target is asked, or a 429 answers.")


class TargetSettings(Model):
    """One place a route may send a request to. May be written as just its `target`."""

    target: str = Field(
        description="`backend/model`, or `backend` where the request's own model is to be used. In the model, `$1` is what "
        "the first `*` of `match.model` stands for, `$2` the second."
    )
    weight: float = setting(
        1.0, "Share of requests with `pick: weighted`, of open streams with `least-busy`; 0 is only a fallback.", ge=0
    )
    concurrency: Annotated[
        ConcurrencyRange | None, BeforeValidator(_as_range, json_schema_input_type=int | ConcurrencyRange)
    ] = setting(
        None,
        "How many streams it is sent at once, counted over all rules of a process: a number, or a range in "
        "which the number adapts to how the target does. See [routing](routing.md#concurrency-and-queues).",
    )
    queue: QueueSettings | None = setting(
        None, "Requests that wait for a slot. Without a queue, or when it is full, the next target is asked."
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

    @model_validator(mode="after")
    def _queue_before_slots(self) -> Self:
        if self.queue and self.concurrency is None:
            raise Unfit("`queue` means something only with `concurrency`; say how many streams at once, too", "queue")
        return self

    @property
    def stars(self) -> tuple[int, ...]:
        """Which stars of `match.model` the model takes: 1 for `$1`."""
        return tuple(int(number) for number in STARS.findall(self.model))


class RouteSettings(Model):
    """One rule: which requests it takes, and where they go. The first rule that matches wins."""

    name: str = Field(description="Name of the rule, for logs, metrics and messages.")
    match: MatchSettings = setting(MatchSettings, "Which requests; left out, all.")
    to: Annotated[
        list[TargetSettings],
        BeforeValidator(as_list, json_schema_input_type=str | TargetSettings | list[str | TargetSettings]),
    ] = Field(description="Targets in order: when one fails before its first token, the next is tried.")
    pick: Literal["in-order", "weighted", "least-latency", "least-busy", "cheapest"] = setting(
        "in-order",
        "Which target is first: the first listed; one drawn by weight; the one whose first token is due "
        "soonest; the one with the fewest open streams for its weight; or the one with the lowest price. The others "
        "follow as fallbacks. See [routing](routing.md#choosing).",
    )
    sticky: str | None = setting(
        None,
        "With `pick: weighted`: the same `header:NAME`, `key`, `user` or `conversation` draws the same. "
        "A conversation is known by an id that the client gives, else by its user, else by how it began.",
    )
    set: dict[str, Any] = setting(dict, "Parameters that replace the request's.")
    default: dict[str, Any] = setting(dict, "Parameters for requests without them.")
    timeouts: RouteTimeouts = setting(RouteTimeouts, "This route's own timers.")
    limits: UsageLimits | None = setting(None, "How much all its requests together may use.")
    budget: BudgetSettings | None = setting(None, "How much all its requests together may spend.")
    heartbeat_s: float | None = setting(None, "Silence before a heartbeat is sent; 0 is never.", ge=0, le=86_400)
    delivery: DeliverySettings | None = setting(None, "This route's own pacing.")
    resume: bool | None = setting(
        None, "Whether streams of this route can be resumed. Left out: if there is `server.resume`."
    )
    smooth: SmoothSettings | None = setting(
        None, "Pass text on word by word where the upstream sends it in bursts. See [routing](routing.md#even-text)."
    )
    repetition_guard: bool = setting(
        False, "End an answer that got into a loop, as `degenerate`. See [cuts](cuts.md#loops)."
    )
    min_tokens_per_s: float | None = setting(
        None,
        "End an answer that comes more slowly than that for 10 s, as `upstream_slow`. See "
        "[cuts](cuts.md#slow-answers).",
        gt=0,
        le=10_000,
    )
    on_cut: Literal["error", "continue"] = setting(
        "error",
        "When an answer is cut off after the client saw some of it: say so, or have the next target (at last "
        "the same one again) go on with it. See [cuts](cuts.md).",
    )
    continue_with: str = setting(
        "Your answer was cut off. Go on with it exactly where it ends. Repeat nothing, and say nothing else.",
        "With `on_cut: continue`: what a model is asked that is not known to go on by itself. It should be in "
        "the language of the conversation.",
        min_length=1,
    )
    hedge: HedgeSettings | None = setting(
        None,
        "Ask the next target too when the first is slow to begin; the first content decides. See "
        "[routing](routing.md#hedging).",
    )
    dialect: Literal["text", "sse", "both", "json"] | None = setting(
        None, "Contract `chat`: the dialect of answers, if the client names none."
    )
    errors: Literal["frame", "frame+text", "frame+abort"] | None = setting(
        None,
        "How an answer that broke off ends: `frame`: the contract's error, then a clean end; `frame+abort`: "
        "the error, then a cut connection; `frame+text` (contract `chat`): the error, also as text for clients that read "
        "only tokens. Default: `frame+abort` for `ollama` and for contracts without an error, else `frame`.",
    )
    reasoning_field: Literal["reasoning_content", "reasoning", "both"] | None = setting(
        None,
        "OpenAI Chat Completions: the field of a delta or message that reasoning is told in. Left out: as a "
        "backend of this dialect wrote it, else `reasoning_content`.",
    )

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the contract of a request: see `route_settings` of each frontend."""
        said = {"dialect": self.dialect, "errors": self.errors, "reasoning_field": self.reasoning_field}
        return {name: value for name, value in said.items() if value is not None}

    _name = field_validator("name")(check_name)
    _parameters = field_validator("set", "default")(check_parameters)

    @field_validator("on_cut", mode="before")
    @classmethod
    def _cut_exists(cls, on_cut: Any) -> Any:
        if on_cut == "restart":
            raise ValueError("no contract here can tell its client to drop text; these are: error, continue")
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
    def _weights(self) -> Self:
        weighted = self.pick in {"weighted", "least-busy"}
        if self.sticky and self.pick != "weighted":
            raise Unfit("it means something only with `pick: weighted`", "sticky")
        at = next((at for at, target in enumerate(self.to) if "weight" in target.model_fields_set), None)
        if not weighted and at is not None:
            raise Unfit("it means something only with `pick: weighted` or `pick: least-busy`", "to", at, "weight")
        if self.hedge and len(self.to) < 2:
            raise Unfit("it asks a second target: list another in `to`, or the same one twice", "hedge")
        if weighted and not any(target.weight for target in self.to):
            raise Unfit("every weight is 0: nothing could be picked", "to")
        return self
