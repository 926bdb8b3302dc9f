"""Settings, tools and what is shown, in a target's vocabulary: what is sent, and what the client is told."""

from __future__ import annotations

import json

import pytest

from proxy.errors import BadRequest, Unsupported
from proxy.request import Audio, ChatRequest, File, Image, Message, Text, Tool
from proxy.wire.settings import CONFORM
from proxy.wire.translation import Translation, translated
from proxy.wire.vocabulary import Vocabulary

HI = Message("user", (Text("hi"),))
NAMED = {"type": "function", "function": {"name": "g"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
PNG = Image("data:image/png;base64,AA==")


def told(vocabulary: Vocabulary, *, messages: tuple[Message, ...] = (HI,), **params: object) -> Translation:
    tools = (Tool("f"), Tool("g"))
    return translated(
        ChatRequest(id="1", contract="c", dialect="c", messages=messages, tools=tools, params=params), vocabulary
    )


def names(translation: Translation) -> list[str]:
    return [tool.name for tool in translation.request.tools]


def codes(translation: Translation) -> list[tuple[str, str]]:
    return [(notice.code, notice.param) for notice in translation.notices]


def test_R4_a_tool_that_is_named_is_the_only_one_where_a_target_takes_no_name() -> None:
    sent = told(Vocabulary(choices="required"), tool_choice=NAMED)
    assert (sent.request.params, names(sent), codes(sent)) == ({"tool_choice": "required"}, ["g"], [])
    assert told(Vocabulary(choices="required"), tool_choice="none").request.params == {"tool_choice": "none"}


def test_R4_a_model_that_has_to_call_a_tool_is_told_not_to_think_where_it_cannot_do_both() -> None:
    far = Vocabulary(choices="unthinking")
    for choice in (NAMED, "required"):
        sent = told(far, tool_choice=choice, reasoning_effort="high")
        assert sent.request.params == {"tool_choice": choice, "reasoning_effort": "none"}
        assert codes(sent) == [("changed_setting", "reasoning_effort")]
    assert codes(told(far, tool_choice="required", reasoning_effort="none")) == []
    assert told(far, tool_choice="none").request.params == {"tool_choice": "none"}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("any", "required"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "auto"}, "auto"),
        ({"type": "tool", "name": "g"}, NAMED),
        ({"type": "function", "name": "g"}, NAMED),
        (NAMED, NAMED),
    ],
)
def test_R6_a_choice_is_read_in_the_form_of_any_contract(choice: object, sent: object) -> None:
    assert told(Vocabulary(), tool_choice=choice).request.params == {"tool_choice": sent}
    gone = {"type": "tool", "name": "h"}
    with pytest.raises(BadRequest, match="names a tool that this target is not offered"):
        told(Vocabulary(), tool_choice=gone)


def test_an_empty_stop_is_left_out_without_a_word() -> None:
    sent = told(Vocabulary(), stop=["", "x", ""])
    assert (sent.request.params, sent.notices) == ({"stop": ["x"]}, ())
    assert told(Vocabulary(blank_stops=False), stop=["", ""]).request.params == {}


def test_R4_a_choice_is_announced_as_lost_where_the_model_always_chooses() -> None:
    far = Vocabulary(choices="auto")
    named, required = told(far, tool_choice=NAMED), told(far, tool_choice="required")
    assert (named.request.params, names(named)) == ({}, ["g"])
    assert (required.request.params, names(required)) == ({}, ["f", "g"])
    assert codes(named) == codes(required) == [("changed_setting", "tool_choice")]
    none = told(far, tool_choice="none", parallel_tool_calls=False)
    assert (none.request.params, names(none), codes(none)) == ({}, [], [])


def test_R4_tools_stop_a_model_from_thinking_where_it_cannot_do_both() -> None:
    sent = told(Vocabulary(effort_with_tools=False), reasoning_effort="high")
    assert sent.request.params == {"reasoning_effort": "none"}
    assert codes(sent) == [("changed_setting", "reasoning_effort")]


def test_R4_a_schema_goes_into_the_prompt_where_a_target_takes_none() -> None:
    sent = told(Vocabulary(formats=frozenset({"json_object"})), response_format=FORMAT)
    assert sent.request.params == {"response_format": {"type": "json_object"}}
    system, asked = sent.request.messages
    assert (system.role, asked) == ("system", HI)
    assert json.loads(system.text.removeprefix(CONFORM)) == SCHEMA
    assert codes(sent) == [("changed_setting", "response_format")]


def test_R4_json_is_any_object_where_a_target_takes_schemas_alone() -> None:
    sent = told(Vocabulary(formats=frozenset({"json_schema"})), response_format={"type": "json_object"})
    assert sent.request.params["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert codes(sent) == []


def test_R4_a_temperature_above_what_the_target_takes_is_lowered() -> None:
    sent = told(Vocabulary(hottest=1), temperature=1.5)
    assert (sent.request.params, codes(sent)) == ({"temperature": 1}, [("changed_setting", "temperature")])


def test_R5_strict_is_announced_as_lost_where_the_schema_is_not() -> None:
    strict = (Tool("f", parameters=SCHEMA, strict=True),)
    asked = ChatRequest(id="1", contract="c", dialect="c", messages=(HI,), tools=strict)
    sent = translated(asked, Vocabulary(schemas="closed"))
    assert (sent.request.tools[0].strict, codes(sent)) == (None, [("ignored_setting", "tools")])
    assert translated(asked, Vocabulary()).request.tools == strict


@pytest.mark.parametrize("part", [PNG, Audio("AA==", "wav"), File(data="AA==", media_type="application/pdf")])
def test_R2_what_a_target_cannot_see_is_refused_of_the_user_and_told_of_a_tool(part: Image | Audio | File) -> None:
    far = Vocabulary(media=frozenset())
    with pytest.raises(Unsupported):
        told(far, messages=(Message("user", (Text("see"), part)),))
    result = Message("tool", (Text("done"), part))
    sent = told(far, messages=(HI, result))
    assert sent.request.messages[1].parts[-1].text.startswith("[")
    assert ("ignored_setting", "messages") in codes(sent)


def test_R2_an_image_by_address_is_refused_where_the_target_fetches_none() -> None:
    with pytest.raises(Unsupported, match="by address"):
        told(Vocabulary(image_addresses=False), messages=(Message("user", (Image("https://example.com/a.png"),)),))


def test_R2_stops_of_white_space_alone_are_left_out_where_a_target_takes_none() -> None:
    sent = told(Vocabulary(blank_stops=False), stop=["\n", "END"])
    assert (sent.request.params, codes(sent)) == ({"stop": ["END"]}, [("changed_setting", "stop")])
    sent = told(Vocabulary(blank_stops=False), stop="\n")
    assert (sent.request.params, codes(sent)) == ({}, [("changed_setting", "stop")])
    assert told(Vocabulary(), stop="\n").request.params == {"stop": "\n"}


def test_R2_a_temperature_of_nothing_is_raised_where_a_target_takes_none() -> None:
    sent = told(Vocabulary(coldest=0.01), temperature=0)
    assert (sent.request.params, codes(sent)) == ({"temperature": 0.01}, [("changed_setting", "temperature")])
    assert told(Vocabulary(), temperature=0).request.params == {"temperature": 0}


@pytest.mark.parametrize(
    ("id_", "keeper"), [("file-1", "openai"), ("assistant-1", "openai"), ("file_011C", "anthropic")]
)
def test_R2_a_file_goes_by_its_id_to_the_vendor_that_keeps_it_alone(id_: str, keeper: str) -> None:
    shown = (Message("user", (File(id=id_),)),)
    assert told(Vocabulary(file_ids=keeper), messages=shown).request.messages == shown  # type: ignore[arg-type]
    for other in {"", "openai", "anthropic"} - {keeper}:
        with pytest.raises(Unsupported, match="this target takes no files by this id: send the data instead"):
            told(Vocabulary(file_ids=other), messages=shown)  # type: ignore[arg-type]


def test_R4_a_model_that_always_thinks_is_told_to_think_as_little_as_it_can() -> None:
    sent = told(Vocabulary(efforts=("high", "low", "max")), reasoning_effort="none")
    assert (sent.request.params, codes(sent)) == (
        {"reasoning_effort": "low"},
        [("changed_setting", "reasoning_effort")],
    )
    for words in (Vocabulary(efforts=("low",), no_thinking={}), Vocabulary(efforts=()), Vocabulary()):
        assert told(words, reasoning_effort="none").request.params == {"reasoning_effort": "none"}


def test_R4_a_list_of_allowed_tools_without_one_that_is_offered_is_refused() -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "gone"}}]}
    with pytest.raises(BadRequest, match="allows no tool"):
        told(Vocabulary(), tool_choice={"type": "allowed_tools", "allowed_tools": allowed})


def test_R2_an_answer_that_is_a_list_is_asked_for_in_the_prompt_alone() -> None:
    listed = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "array"}}}
    sent = told(Vocabulary(formats=frozenset({"json_object"})), response_format=listed).request
    assert (sent.messages[0].text, sent.params) == (f'{CONFORM}{{"type":"array"}}', {})


@pytest.mark.parametrize("said", ["", "image/*", "application/octet-stream"])
def test_R2_an_image_without_its_type_is_sent_with_it(said: str) -> None:
    shown = (Message("user", (Image(f"data:{said};base64,iVBORw0KGgo="),)),)
    (sent,) = told(Vocabulary(), messages=shown).request.messages
    assert sent.parts == (Image("data:image/png;base64,iVBORw0KGgo="),)
