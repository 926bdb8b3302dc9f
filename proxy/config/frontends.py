"""Settings of declared contracts: where they are served, how requests are read, how answers are written.

Only types are checked here. `proxy.config.frontend_checks` checks the values of templates, paths, fields and names,
because it can point at the wrong word.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from proxy.config.base import Model, as_list, setting
from proxy.config.templates import STREAM_TEMPLATES
from proxy.request import Role

ACCEPT, ALWAYS, NEVER = "$accept", "$always", "$never"
"""The words that may stand in `stream` instead of a field's name."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


def _stream_fields(value: Any) -> Any:
    return [ALWAYS if value else NEVER] if isinstance(value, bool) else as_list(value)


def _some_template(template: Any) -> Any:
    if template is None:
        raise ValueError("the template is missing; write one, or remove the key")
    return template


Fields = Annotated[list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str]), Field(min_length=1)]
StreamFields = Annotated[
    list[str], BeforeValidator(_stream_fields, json_schema_input_type=bool | str | list[str]), Field(min_length=1)
]

Template = Annotated[Any, WithJsonSchema({"type": ["object", "array", "string"]})]
TemplateOrNone = Annotated[Any, WithJsonSchema({"type": ["object", "array", "string", "boolean"]})]


class RequestSettings(Model):
    """Where a request's JSON body holds each thing.

    A field is a name, or a path such as `input.question`, in which a number is a list index. With several, the first
    that holds a value counts. Other fields of a request are ignored.
    """

    messages: Fields | None = setting(
        None, "The conversation, a list. Default: `messages`, or nothing if there is a `prompt`."
    )
    role: Fields = setting(["role"], "In a message: its role.")
    content: Fields = setting(["content"], "In a message: its text, or a list of parts.")
    roles: dict[str, Role] = setting(dict, "The contract's own names of roles, such as `{ai: assistant}`.")
    prompt: Fields | None = setting(None, "The user's text now. It comes after the messages, if there are any.")
    system: Fields | None = setting(None, "A text that instructs the model.")
    model: Fields = setting(["model"], "The model asked for.")
    stream: StreamFields = setting(
        ["stream"],
        "Whether the answer is streamed: a boolean field (without it the answer is streamed), `true`, "
        "`false`, or `$accept`: streamed if the header `Accept` names the content type of streams.",
    )
    parameters: dict[str, Fields] | None = setting(
        None, "The fields that hold sampling parameters, by OpenAI's names. Default: fields with OpenAI's names."
    )
    parameters_in: str | None = setting(
        None, "The object that holds the sampling parameters, if the body itself does not."
    )
    tools: Fields | None = setting(
        None, "Tools in OpenAI's form. Default: `tools` if `response` has a template for calls, else none."
    )
    user: Fields = setting(["user"], "The user, for `match.user`: text or a number.")
    metadata: dict[str, Fields] | None = setting(
        None, "The entries that rules may match as `metadata`, and the field of each. Default: the object `metadata`."
    )
    defaults: dict[str, Any] = setting(
        dict, "Values for requests without them: `model`, `system`, `stream`, and parameters by OpenAI's names."
    )


class ResponseSettings(Model):
    """How an answer is streamed: one template per kind of event, in which `$name` stands for a value of the event.

    A mapping or a list is written as JSON, text as it is. Events without a template are left out of the stream.
    """

    framing: Literal["sse", "ndjson", "raw"] = setting("sse", "Server-Sent Events, one line per frame, or bare text.")
    content_type: str | None = setting(None, "The stream's content type. Default: the framing's own.")
    start: Template = setting(None, "The first frame.")
    token: Template = Field(description="A piece of the answer: `$text`.")
    reasoning: Template = setting(None, "A piece of the model's reasoning: `$text`.")
    tool_call_start: Template = setting(None, "A tool call begins: `$call_id`, `$call_index`, `$name`.")
    tool_call_delta: Template = setting(None, "A piece of a call's arguments: also `$arguments_text`.")
    tool_call: Template = setting(
        None, "A whole call, written when the answer is complete: also `$arguments`, an object."
    )
    source: Template = setting(None, "A source of the answer: `$url`, `$title`.")
    media: Template = setting(None, "A file that the model made: `$url`, `$media_type`.")
    notice: Template = setting(
        None,
        "A notice before the answer, such as a setting that was left out: `$message`, `$code` "
        "(`ignored_setting`, `ignored_tool`, `changed_setting`), `$param` (its name). The header `X-Chat-Notice` holds it too.",
    )
    usage: Template = setting(
        None,
        "Token counts before the end, if they are known: `$input_tokens`, `$output_tokens`, `$total_tokens`, "
        "`$cached_tokens`, `$reasoning_tokens`.",
    )
    done: Template = setting(
        None,
        "The answer is complete: `$finish_reason`, `$answer` (all its text), and the placeholders of "
        "`usage`. Without it the end of the body means complete.",
    )
    error: Template = setting(
        None,
        "The answer broke off: `$message`, `$code`, `$type`, `$status`, `$retryable`, `$retry_after`, "
        "`$param`. Without it the connection is cut.",
    )
    heartbeat: TemplateOrNone = setting(
        None,
        "A frame during silence, which must leave the answer as it is; `false` for none. Default: a "
        "comment in `sse`, else none.",
    )
    events: dict[str, str] = setting(dict, "In `sse`: event names by template, such as `{done: done}`.")
    data_prefix: Literal["data: ", "data:"] = setting(
        "data: ", "In `sse`: the beginning of a data line. The space is not part of the data."
    )
    bare_text: Literal["sse", "text", "both"] = setting(
        "sse", "In `sse`, if `token` is `$text` alone: how the text is cut into events, as the dialects of `/chat`."
    )
    line_ends: Literal["keep", "lf"] = setting(
        "keep", "`lf`: CRLF and CR in the answer become LF. In events of bare text they always become LF."
    )
    join: bool = setting(False, "Write tokens that arrive together as one frame.")
    early: bool = setting(
        False, "Send status 200 and headers before the backend answers. Failures are then `error` frames."
    )
    cut_on_error: bool | None = setting(
        None,
        "Cut the connection after `error` when an answer breaks off. Default: yes if there is no `error`, "
        "and in `raw`; else no.",
    )
    finish_reasons: dict[FinishReason, str] = setting(
        dict, "The contract's own values of `$finish_reason`, such as `{stop: end}`."
    )

    _some_template = field_validator(*STREAM_TEMPLATES, mode="before")(_some_template)

    @property
    def cuts(self) -> bool:
        """Whether the connection is cut when an answer breaks off."""
        if self.cut_on_error is None:
            return self.framing == "raw" or self.error is None
        return self.cut_on_error


class ErrorsSettings(Model):
    """The answer to a request that fails before anything was sent."""

    status: dict[str, int] = setting(
        dict,
        'The status to send instead, by code (`upstream_timeout`), status (`"429"`), class (`5xx`) or `*`. '
        "A request without a valid key always gets a 401.",
    )
    body: Template = setting(None, "Template of the body. Default: `response.error`.")

    _some_template = field_validator("body", mode="before")(_some_template)


class FrontendSettings(Model):
    """One contract: where it is served, how its requests are read, how its answers are written."""

    path: Fields = Field(description="The path or paths at which it is served, with `POST`.")
    request: RequestSettings = setting(RequestSettings, "Where a request's body holds each thing.")
    response: ResponseSettings = Field(description="How an answer is streamed.")
    whole: Template = setting(
        None,
        "Template of an answer that is not streamed: `$text`, `$reasoning`, `$tool_calls` (a list, each item "
        "as `tool_call` writes it), `$sources` and `$media` (lists, as `source` and `media` write them), `$finish_reason`, and the placeholders of `usage`. Default: `{text: $text}`, in `raw` `$text`.",
    )
    errors: ErrorsSettings = setting(ErrorsSettings, "How to answer a request that fails before anything was sent.")
    headers: dict[str, str] = setting(dict, "More headers of streamed answers.")

    _some_template = field_validator("whole", mode="before")(_some_template)
