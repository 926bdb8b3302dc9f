"""What a row says about its target's vocabulary, where it differs from what is known of the kind or preset."""

from typing import Any, Literal

import msgspec

from proxy.config.base import Model, setting
from proxy.wire.vocabulary import IdForm, NameForm, Vocabulary


class IdSettings(Model):
    """The ids of tool calls that the target takes. Others are made anew."""

    characters: str = setting(
        "", "The characters they may have, ten or more. Default: any visible ASCII.", pattern=r"^$|.{10}"
    )
    shortest: int = setting(1, "Their least length.", ge=1)
    longest: int = setting(256, "Their greatest length.", ge=9, le=256)


class NameSettings(Model):
    """The names of tools that the target takes. Others are offered under a name made from them."""

    characters: str = setting(NameForm().characters, "The characters they may have, ten or more.", min_length=10)
    longest: int = setting(64, "Their greatest length.", ge=16)
    starts: str = setting("", "The characters that they may begin with. Default: any of them.")


class ConversationQuirks(Model):
    """How conversations of other contracts are written for this target."""

    call_ids: IdSettings | None = setting(None, "The ids of tool calls that it takes.")
    tool_names: NameSettings | None = setting(None, "The names of tools that it takes.")
    system: Literal["anywhere", "after_user", "head"] | None = setting(
        None,
        "Where it takes system text: anywhere, behind a user's turn, or at the head alone. Elsewhere that "
        "text goes into the user's turn.",
    )
    developer: bool | None = setting(None, "Whether it knows the role `developer`.")
    empty_turns: bool | None = setting(None, "Whether it takes messages without content.")
    result_media: bool | None = setting(None, "Whether tool results may hold more than text.")
    user_after_result: bool | None = setting(None, "Whether the user may speak right after a tool's result.")
    prefill: Literal["none", "trailing", "prefix_flag", "continue_final_message"] | None = setting(
        None,
        "How it is had to go on with an answer at the end of the conversation: it does (`trailing`), it does "
        "if the answer has `prefix: true`, or the body `continue_final_message`, or it refuses the request (`none`). "
        "Default: what is known of the vendor.",
    )
    names: bool | None = setting(None, "Whether messages may have the `name` of their speaker.")
    media: list[Literal["audio", "file", "image"]] | None = setting(None, "What it takes besides text.")
    images: list[str] | None = setting(None, "The media types of images that it takes.")
    image_addresses: bool | None = setting(None, "Whether it fetches images by their address.")
    cache_marks: int | None = setting(None, "How many marks `cache_control` it takes.", ge=0)
    stops: int | None = setting(None, "How many stop sequences it takes; 0: any number.", ge=0)
    hottest: float | None = setting(None, "The highest `temperature` that it takes.", ge=0)
    coldest: float | None = setting(None, "The lowest `temperature` that it takes.", ge=0)
    choices: Literal["", "required", "unthinking", "auto"] | None = setting(
        None,
        "Which forms of `tool_choice` it takes: all (empty), no name of a tool (`required`), a demand for a "
        "call only while the model does not think (`unthinking`), or none but `auto`.",
    )
    formats: list[Literal["json_object", "json_schema"]] | None = setting(
        None, "The types of `response_format` that it takes."
    )
    schemas: Literal["", "closed", "inline", "openapi"] | None = setting(
        None,
        "Which JSON Schemas it takes: all (empty), `strict` ones only if they are `closed`, none with a `$ref` "
        "(`inline`), or those of OpenAPI 3.0 (`openapi`).",
    )

    def over(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary with what the row says of it."""
        given: dict[str, Any] = {
            name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None
        }
        forms = {"call_ids": IdForm, "tool_names": NameForm, "efforts": tuple}
        forms |= dict.fromkeys(("images", "media", "formats", "refused"), frozenset)
        for name, form in forms.items():
            if name in given:
                value = given[name]
                given[name] = form(**value.model_dump()) if isinstance(value, Model) else form(value)
        return msgspec.structs.replace(vocabulary, **given)


class Quirks(ConversationQuirks):
    """How requests of other contracts are written for this target, where it differs from its preset."""

    allowed_tools: bool | None = setting(
        None, "Whether `tool_choice` may list the tools that may be called now (`allowed_tools`)."
    )
    parameters: dict[str, str] | None = setting(None, "Its own names of settings, by OpenAI's.")
    refused: list[str] | None = setting(None, "Fields that it answers with an error.")
    efforts: list[Literal["minimal", "low", "medium", "high", "xhigh", "max"]] | None = setting(
        None, "The words of `reasoning_effort` that it takes besides `none`. The nearest one is sent."
    )
    thinking: dict[str, Any] | None = setting(
        None, "The fields that make a model think, for any `reasoning_effort` but `none`."
    )
    effort_with_tools: bool | None = setting(
        None, "Whether it takes `reasoning_effort` beside tools. Else such requests do not think."
    )
    no_thinking: dict[str, Any] | None = setting(
        None, "The fields that stop a model from thinking, for `reasoning_effort: none`."
    )
