"""Messages and their parts: those of one contract, and what clients mix into them from others."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import BadRequest
from proxy.request import Audio, File, Image, Message, Other, Part, Text, ToolCall
from proxy.wire.messages import read_messages
from proxy.wire.parts import read_part

PNG = "iVBORw0KGgo="
MARK = {"type": "ephemeral"}


def test_every_kind_of_message_has_a_normal_form():
    messages = read_messages(
        [
            {"role": "system", "content": "be kind", "unknown": {"x": 1}},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                    {"type": "image_url", "image_url": "https://example.org/a.png"},
                    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
                    {"type": "file", "file": {"file_data": "JVBE"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "reasoning": {"any": "thing"}},
        ]
    )
    assert messages == (
        Message("system", (Text("be kind"),)),
        Message(
            "user",
            (
                Text("see", {"type": "ephemeral"}),
                Image("data:image/png;base64,AA==", "low"),
                Image("https://example.org/a.png"),
                Audio("AAAA", "wav"),
                File(data="JVBE", name="a.pdf", media_type="application/pdf"),
                File(data="JVBE"),
                File(id="file-1"),
            ),
            name="ann",
        ),
        Message(
            "assistant", tool_calls=(ToolCall("c1", "f", "{}"), ToolCall("c2", "g", '{"input":"x"}')), reasoning="hm"
        ),
        Message("tool", (Text("42"),), tool_call_id="c1"),
        Message("assistant", (Text("no"),)),
    )


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ("hi", "messages[1]"),
        ({"content": "hi"}, "messages[1].role"),
        ({"role": "wizard", "content": "hi"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": 3}, "messages[1].content"),
        ({"role": "user", "content": ["a"]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]},
            "messages[1].content[0].image_url.url",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {}}]},
            "messages[1].content[0].file",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]},
            "messages[1].tool_calls[0].function.name",
        ),
    ],
)
def test_a_wrong_message_is_named_by_its_path(message, path):
    with pytest.raises(BadRequest) as caught:
        read_messages([{"role": "user", "content": "fine"}, message])
    assert caught.value.param == path


# what belongs to other contracts


def block(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, **fields}


def source(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, **fields}


PARTS: dict[str, tuple[dict[str, Any], tuple[Part, ...]]] = {
    "Anthropic's image": (
        block("image", source=source("base64", media_type="image/png", data=PNG), cache_control=MARK),
        (Image(f"data:image/png;base64,{PNG}", cache=MARK),),
    ),
    "Anthropic's image by address": (
        block("image", source=source("url", url="https://a.test/i")),
        (Image("https://a.test/i"),),
    ),
    "an image kept at Anthropic": (
        block("image", source=source("file", file_id="file_1")),
        (Other("image by file", "at.source"),),
    ),
    "Anthropic's document": (
        block("document", source=source("base64", data="JVBE"), title="T", context="from the archive"),
        (Text("from the archive"), File(data="JVBE", name="T")),
    ),
    "a document kept at Anthropic": (block("document", source=source("file", file_id="file_1")), (File(id="file_1"),)),
    "a document of text": (
        block("document", source=source("text", media_type="text/plain", data="plain"), title="T", cache_control=MARK),
        (Text("T\n\nplain", MARK),),
    ),
    "a search result": (
        block("search_result", source="https://a.test", title="A", content=[block("text", text="x")]),
        (Text("A\nhttps://a.test\nx"),),
    ),
    "AG-UI's image": (
        block("image", source=source("data", value=PNG, mimeType="image/png")),
        (Image(f"data:image/png;base64,{PNG}"),),
    ),
    "AG-UI's sounds": (
        block("audio", source=source("data", value="UklGRg", mimeType="audio/wav")),
        (Audio("UklGRg", "wav"),),
    ),
    "an image of an MCP tool": (
        block("image", data=PNG, mimeType="image/png"),
        (Image(f"data:image/png;base64,{PNG}"),),
    ),
    "sounds of an MCP tool": (block("audio", data="UklGRg", mimeType="audio/x-wav"), (Audio("UklGRg", "wav"),)),
    "LangChain's image": (
        block("image", source_type="base64", data=PNG, mime_type="image/jpeg"),
        (Image(f"data:image/jpeg;base64,{PNG}"),),
    ),
    "LangChain's newer image": (
        block("image", base64=PNG, mime_type="image/png"),
        (Image(f"data:image/png;base64,{PNG}"),),
    ),
    "LangChain's image by address": (block("image", url="https://a.test/i"), (Image("https://a.test/i"),)),
    "LangChain's file": (
        block("file", source_type="base64", data="JVBE", mime_type="application/pdf", filename="a.pdf"),
        (File(data="JVBE", name="a.pdf", media_type="application/pdf"),),
    ),
    "the AI SDK's image": (
        block("image", image=f"data:image/png;base64,{PNG}"),
        (Image(f"data:image/png;base64,{PNG}"),),
    ),
    "the AI SDK's file": (
        block("file", url="data:application/pdf;base64,JVBE", mediaType="application/pdf", filename="a.pdf"),
        (File(data="JVBE", name="a.pdf", media_type="application/pdf"),),
    ),
    "an image of Responses": (
        block("input_image", image_url="https://a.test/i", detail="low"),
        (Image("https://a.test/i", "low"),),
    ),
    "a file of Responses": (block("input_file", file_url="https://a.test/d"), (File(url="https://a.test/d"),)),
    "Mistral's document": (
        block("document_url", document_url="https://a.test/d.pdf", document_name="d.pdf"),
        (File(url="https://a.test/d.pdf", name="d.pdf"),),
    ),
    "Mistral's sounds": (block("input_audio", input_audio="SUQzBA"), (Audio("SUQzBA", "mp3"),)),
    "a file kept at Mistral": (block("file", file_id="f1"), (File(id="f1"),)),
    "something new": (block("hologram"), (Other("hologram", "at"),)),
}


@pytest.mark.parametrize("name", PARTS)
def test_R6_a_part_of_any_contract_is_read_by_its_meaning(name: str) -> None:
    part, read = PARTS[name]
    assert read_part(part, "at") == read


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (block("image"), "at.data"),
        (block("image", source=7), "at.source"),
        (block("image", source=source("base64", data=PNG)), "at.source.media_type"),
        (block("image", source=source("url")), "at.source.url"),
        (block("image", data=5, mimeType="image/png"), "at.data"),
        (block("document"), "at.source"),
        (block("document", source=source("text")), "at.source.data"),
        (block("document_url"), "at.document_url"),
        (block("input_audio"), "at.input_audio"),
        (block("file"), "at.data"),
        (block("input_image", file_id="f"), "at.image_url"),
    ],
)
def test_R6_a_part_whose_meaning_is_not_plain_is_refused_by_its_place(part: dict[str, Any], place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_part(part, "at")
    assert refused.value.param == place


def user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [*content]}


def answer(*content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [*content], **more}


CALLED = Message("assistant", (Text("Let me see."),), (ToolCall("c1", "f", '{"a":1}'),))
FOUND = Message("tool", (Text("42"),), tool_call_id="c1")
THANKS = Message("user", (Text("thanks"),))

TURNS: dict[str, list[dict[str, Any]]] = {
    "Chat Completions": [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "user", "content": "thanks"},
    ],
    "Anthropic": [
        answer(block("text", text="Let me see."), block("tool_use", id="c1", name="f", input={"a": 1})),
        user(block("text", text="thanks"), block("tool_result", tool_use_id="c1", content="42")),
    ],
    "Anthropic's arguments as a text": [
        answer(block("text", text="Let me see."), block("tool_use", id="c1", name="f", input='{"a":1}')),
        user(block("tool_result", tool_use_id="c1", content=[block("text", text="42")]), block("text", text="thanks")),
    ],
    "a result in a message of role tool": [
        answer(block("text", text="Let me see."), block("tool_use", id="c1", name="f", input={"a": 1})),
        {"role": "tool", "content": [block("tool_result", tool_use_id="c1", content="42")]},
        user(block("text", text="thanks")),
    ],
}


TURNS |= {
    f"calls with {name}": [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "name": "f", name: {"a": 1}, "type": type_}],
        },
        *TURNS["Chat Completions"][1:],
    ]
    for name, type_ in (("args", "tool_call"), ("arguments", "function"), ("input", "tool_use"))
}


@pytest.mark.parametrize("form", TURNS)
def test_R6_calls_and_results_are_read_in_the_form_of_either_contract(form: str) -> None:
    assert read_messages(TURNS[form]) == (CALLED, FOUND, THANKS)


def test_R6_items_of_responses_among_messages_are_read() -> None:
    assert read_messages(
        [
            {"role": "user", "content": "go"},
            block("reasoning", summary=[block("summary_text", text="Hm.")]),
            block("function_call", call_id="c1", name="f", arguments='{"a":1}'),
            block("custom_tool_call", call_id="c2", name="g", input="x"),
            block("function_call_output", call_id="c1", output="42"),
            block("custom_tool_call_output", call_id="c2", output=[block("input_text", text="y")]),
            block("message", role="assistant", content=[block("output_text", text="Done.")]),
        ]
    ) == (
        Message("user", (Text("go"),)),
        Message("assistant", tool_calls=(ToolCall("c1", "f", '{"a":1}'),), reasoning="Hm."),
        Message("assistant", tool_calls=(ToolCall("c2", "g", '{"input":"x"}'),)),
        FOUND,
        Message("tool", (Text("y"),), tool_call_id="c2"),
        Message("assistant", (Text("Done."),)),
    )


SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "s"}


@pytest.mark.parametrize(
    "message",
    [
        answer(SIGNED, block("redacted_thinking", data="x"), block("text", text="Yes.")),
        {"role": "assistant", "content": "Yes.", "thinking_blocks": [SIGNED], "reasoning_content": "Hm."},
        {
            "role": "assistant",
            "content": "Yes.",
            "reasoning": "Hm.",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "signature": "s", "format": "anthropic-claude-v1"}],
        },
    ],
    ids=["blocks", "litellm", "OpenRouter"],
)  # fmt: skip
def test_R3_signed_reasoning_is_read_where_clients_keep_it(message: dict[str, Any]) -> None:
    assert read_messages([message]) == (
        Message("assistant", (Text("Yes."),), reasoning="Hm.", reasoning_signature="s"),
    )


def test_R3_each_signed_thought_keeps_its_signature_and_calls_beside_blocks_go_with_the_last() -> None:
    call = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    first, second = read_messages(
        [
            answer(
                SIGNED,
                block("tool_use", id="c1", name="f", input={}),
                {**SIGNED, "thinking": "So.", "signature": "t"},
                tool_calls=[call],
            )
        ]
    )
    assert (first.reasoning, first.reasoning_signature, [one.id for one in first.tool_calls]) == ("Hm.", "s", ["c1"])
    assert (second.reasoning, second.reasoning_signature, [one.id for one in second.tool_calls]) == ("So.", "t", ["c2"])


def test_R3_reasoning_without_a_signature_is_told_once() -> None:
    (message,) = read_messages(
        [answer(block("thinking", thinking="Hm."), block("text", text="x"), reasoning_content="Hm.")]
    )
    assert (message.reasoning, message.reasoning_signature) == ("Hm.", None)


def test_R5_the_mark_of_a_result_is_kept() -> None:
    result = block("tool_result", tool_use_id="c1", content=[block("text", text="a"), block("text", text="b")])
    (message,) = read_messages([user({**result, "cache_control": MARK})])
    assert message.parts == (Text("a"), Text("b", MARK))
    (failed,) = read_messages([user({**result, "is_error": True, "content": "no", "cache_control": MARK})])
    assert (failed.parts, failed.failed) == ((Text("no", MARK),), True)


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (user(block("tool_result", content="x")), "messages[0].content[0].tool_use_id"),
        (user(block("tool_result", tool_use_id="c", content=5)), "messages[0].content[0].content"),
        (answer(block("tool_use", id="c", name="f")), "messages[0].content[0].input"),
        (answer(block("tool_use", id="c", input={})), "messages[0].content[0].name"),
        (answer(block("thinking", thinking=5)), "messages[0].content[0].thinking"),
        (block("function_call", name="f"), "messages[0].call_id"),
        (block("function_call_output", call_id="c"), "messages[0].output"),
        (block("web_search_call"), "messages[0].role"),
    ],
)
def test_R6_a_block_whose_meaning_is_not_plain_is_refused_by_its_place(message: dict[str, Any], place: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_messages([message])
    assert refused.value.param == place
