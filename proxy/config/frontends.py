"""Contracts declared in the config: where they are served, how their requests are read and answers written.

Only types are checked here. What templates, paths, fields and names may be is checked in
`proxy.config.frontend_checks`, which can point at the very word.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from proxy.config.base import Model, as_list
from proxy.config.templates import STREAM_TEMPLATES, TOOL_TEMPLATES
from proxy.request import Role

ACCEPT, ALWAYS, NEVER = "$accept", "$always", "$never"
"""In place of the field that says whether an answer is streamed."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


def _stream_fields(value: Any) -> Any:
    return [ALWAYS if value else NEVER] if isinstance(value, bool) else as_list(value)


def _some_template(template: Any) -> Any:
    if template is None:
        raise ValueError("nothing stands here; write a template, or remove the key")
    return template


Fields = Annotated[list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str]), Field(min_length=1)]
StreamFields = Annotated[
    list[str], BeforeValidator(_stream_fields, json_schema_input_type=bool | str | list[str]), Field(min_length=1)
]

Template = Annotated[Any, WithJsonSchema({"type": ["object", "array", "string"]})]
TemplateOrNone = Annotated[Any, WithJsonSchema({"type": ["object", "array", "string", "boolean"]})]


class RequestSettings(Model):
    """Where things stand in a request's JSON body.

    A field is given by its name, or as a path such as `input.question` (a number counts in a list). Of several, the
    first that is there counts. Fields that nothing names are ignored.
    """

    messages: Fields | None = Field(
        default=None, description="The conversation, a list. Left out: `messages`, or none where there is a `prompt`."
    )
    role: Fields = Field(default=["role"], description="In a message: who says it.")
    content: Fields = Field(default=["content"], description="In a message: its text, or a list of parts.")
    roles: dict[str, Role] = Field(
        default_factory=dict, description="The contract's own words for roles, such as `{ai: assistant}`."
    )
    prompt: Fields | None = Field(
        default=None, description="One text that the user says now, after the messages if there are any."
    )
    system: Fields | None = Field(default=None, description="A text that instructs the model.")
    model: Fields = Field(default=["model"], description="The model asked for.")
    stream: StreamFields = Field(
        default=["stream"],
        description="Whether the answer is streamed: the field that says so (it is where there is none), `true`, "
        "`false`, or `$accept`: where the header `Accept` names the content type of streams.",
    )
    parameters: dict[str, Fields] | None = Field(
        default=None,
        description="The fields that hold sampling parameters, by OpenAI's names. Left out, OpenAI's names it is.",
    )
    parameters_in: str | None = Field(
        default=None, description="The object that holds the sampling parameters, where they do not stand in the body."
    )
    tools: Fields | None = Field(
        default=None,
        description="Tools in OpenAI's form. Left out: `tools`, if `response` says how a call is written, else none.",
    )
    user: Fields = Field(default=["user"], description="Who asks, for `match.user`: text or a number.")
    metadata: dict[str, Fields] | None = Field(
        default=None,
        description="What rules may match as `metadata`, and the field of each. Left out, the object `metadata`.",
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="For requests without them: `model`, `system`, `stream`, and parameters by OpenAI's names.",
    )


class ResponseSettings(Model):
    """How an answer is streamed: a template for each thing that can happen, in which `$name` stands for what it brings.

    A template that is a mapping or a list is written as JSON, one that is text as it stands. What has no template is
    left out of the stream.
    """

    framing: Literal["sse", "ndjson", "raw"] = Field(
        default="sse", description="Server-Sent Events, a line for each frame, or the bare text."
    )
    content_type: str | None = Field(default=None, description="Of the stream. Left out, the framing's own.")
    start: Template = Field(default=None, description="First of all.")
    token: Template = Field(description="A piece of the answer: `$text`.")
    reasoning: Template = Field(default=None, description="A piece of the model's reasoning: `$text`.")
    tool_call_start: Template = Field(
        default=None, description="The model begins to call a tool: `$call_id`, `$call_index`, `$name`."
    )
    tool_call_delta: Template = Field(
        default=None, description="A piece of a call's arguments: the same, and `$arguments_text`."
    )
    tool_call: Template = Field(
        default=None,
        description="A whole call, told once the answer is complete: the same, and `$arguments`, an object.",
    )
    source: Template = Field(default=None, description="A page that the answer relies on: `$url`, `$title`.")
    media: Template = Field(default=None, description="A file that the model made: `$url`, `$media_type`.")
    notice: Template = Field(
        default=None,
        description="Before the answer, something about it, such as a setting that was left out: `$message`, `$code` "
        "(`ignored_setting`, `ignored_tool`, `changed_setting`), `$param` (which one). The header `X-Chat-Notice` says it too.",
    )
    usage: Template = Field(
        default=None,
        description="Before the end, where it is known: `$input_tokens`, `$output_tokens`, `$total_tokens`, "
        "`$cached_tokens`, `$reasoning_tokens`.",
    )
    done: Template = Field(
        default=None,
        description="The answer is complete: `$finish_reason`, `$answer` (all of its text), and what `usage` has. "
        "Left out, the end of the body says so.",
    )
    error: Template = Field(
        default=None,
        description="The answer broke off: `$message`, `$code`, `$type`, `$status`, `$retryable`, `$retry_after`, "
        "`$param`. Left out, the connection is cut.",
    )
    heartbeat: TemplateOrNone = Field(
        default=None,
        description="During silence, something that leaves the answer as it is; `false` for nothing. Left out: a "
        "comment in `sse`, nothing elsewhere.",
    )
    events: dict[str, str] = Field(
        default_factory=dict, description="In `sse`: names of events, by template, such as `{done: done}`."
    )
    data_prefix: Literal["data: ", "data:"] = Field(
        default="data: ", description="In `sse`: how a data line begins. The space is no part of the data."
    )
    bare_text: Literal["sse", "text", "both"] = Field(
        default="sse",
        description="In `sse`: how a token that is `$text` alone is cut into events, as the dialects of `/chat` are.",
    )
    line_ends: Literal["keep", "lf"] = Field(
        default="keep", description="`lf`: CRLF and CR in the answer become LF. In events of bare text they always do."
    )
    join: bool = Field(default=False, description="Make one frame of tokens that arrive together.")
    early: bool = Field(
        default=False,
        description="Send status 200 and headers before the backend answers; failures from then on are `error` frames.",
    )
    cut_on_error: bool | None = Field(
        default=None,
        description="Cut the connection when an answer breaks off, after `error`. Left out: where there is no `error`, "
        "and in `raw`.",
    )
    finish_reasons: dict[FinishReason, str] = Field(
        default_factory=dict, description="The contract's own words for `$finish_reason`, such as `{stop: end}`."
    )

    _some_template = field_validator(*STREAM_TEMPLATES, mode="before")(_some_template)

    @property
    def calls_tools(self) -> bool:
        """Whether a tool call can be told."""
        return not self.model_fields_set.isdisjoint(TOOL_TEMPLATES)

    @property
    def cuts(self) -> bool:
        """Whether the connection is cut when an answer breaks off."""
        if self.cut_on_error is None:
            return self.framing == "raw" or self.error is None
        return self.cut_on_error


class ErrorsSettings(Model):
    """What a client gets that fails before anything was sent."""

    status: dict[str, int] = Field(
        default_factory=dict,
        description='The status to send instead, by code (`upstream_timeout`), status (`"429"`), class (`5xx`) or `*`. '
        "A request without a valid key is a 401 all the same.",
    )
    body: Template = Field(default=None, description="Template of the body. Left out, `response.error`.")

    _some_template = field_validator("body", mode="before")(_some_template)


class FrontendSettings(Model):
    """One contract: where it is served, how its requests are read, how its answers are written."""

    path: Fields = Field(description="Where it is served, with `POST`: one path or several.")
    request: RequestSettings = Field(
        default_factory=RequestSettings, description="Where things stand in a request's body."
    )
    response: ResponseSettings = Field(description="How an answer is streamed.")
    whole: Template = Field(
        default=None,
        description="Template of an answer that is not streamed: `$text`, `$reasoning`, `$tool_calls` (a list of what "
        "`tool_call` makes of each), `$sources` and `$media` (lists, by `source` and `media`), `$finish_reason`, and what `usage` has. Left out: `{text: $text}`, in `raw` `$text`.",
    )
    errors: ErrorsSettings = Field(
        default_factory=ErrorsSettings, description="How a failure is told before anything was sent."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="More headers for streamed answers.")

    _some_template = field_validator("whole", mode="before")(_some_template)
