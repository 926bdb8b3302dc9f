"""Requests in a target's vocabulary, and their answers in the client's names."""

from __future__ import annotations

import msgspec
import pytest

from proxy.backends.streaming import CallsRestored
from proxy.errors import BadRequest, Unsupported
from proxy.events import Batch, Start, TextDelta, ToolCallDelta, ToolCallStart
from proxy.request import ChatRequest, Image, Message, Text, Tool, ToolCall
from proxy.wire.translation import restored, translated
from proxy.wire.vocabulary import WORD, NameForm, Vocabulary

DOTS = "page.navigate"
STRICT = Vocabulary(tool_names=NameForm(WORD, 24))


def request(**more: object) -> ChatRequest:
    values = {"messages": (Message("user", (Text("go"),)),), "tools": (Tool(DOTS), Tool("plain"))} | more
    return ChatRequest(id="1", contract="ag-ui", dialect="ag-ui", **values)


def test_a_request_that_the_target_takes_is_left_as_it_is():
    asked = request(tools=(Tool("plain"),))
    assert translated(asked, STRICT).request is asked


def test_R2_a_name_is_the_same_in_tools_calls_results_and_choices_and_comes_back():
    call = ToolCall("a", DOTS, "{}")
    asked = request(
        messages=(
            Message("user", (Text("go"),)),
            Message("assistant", tool_calls=(call,)),
            Message("tool", (Text("done"),), tool_call_id="a", name=DOTS),
        ),
        params={"tool_choice": {"type": "function", "function": {"name": DOTS}}, "temperature": 0},
    )
    told = translated(asked, STRICT)
    (sent,) = told.names
    assert STRICT.tool_names.takes(sent)
    assert [tool.name for tool in told.request.tools] == [sent, "plain"]
    assert told.request.messages[1].tool_calls[0].name == told.request.messages[2].name == sent
    assert told.request.params == {"tool_choice": {"type": "function", "function": {"name": sent}}, "temperature": 0}
    batch = restored(Batch([Start("1", "m"), ToolCallStart(0, "a", sent), ToolCallDelta(0, "{}")]), told.names, set())
    assert batch.events == [Start("1", "m"), ToolCallStart(0, "a", DOTS), ToolCallDelta(0, "{}")]


def test_R2_a_list_of_allowed_tools_has_the_names_that_are_sent():
    choice = {"type": "allowed_tools", "allowed_tools": {"tools": [{"type": "function", "function": {"name": DOTS}}]}}
    told = translated(request(params={"tool_choice": choice}), msgspec.structs.replace(STRICT, allowed_tools=True))
    (sent,) = told.names
    allowed = told.request.params["tool_choice"]["allowed_tools"]["tools"]
    assert allowed == [{"type": "function", "function": {"name": sent}}]


def test_R4_allowed_tools_are_the_only_ones_offered_where_the_target_has_no_such_choice():
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "plain"}}]},
    }
    told = translated(request(params={"tool_choice": choice}), STRICT)
    assert [tool.name for tool in told.request.tools] == ["plain"]
    assert told.request.params == {"tool_choice": "required"}


def test_R4_a_choice_of_a_tool_that_is_not_offered_is_refused():
    choice = {"type": "function", "function": {"name": "web_search"}}
    with pytest.raises(BadRequest) as refused:
        translated(request(params={"tool_choice": choice}), STRICT)
    assert refused.value.param == "tool_choice"


def test_R4_a_choice_of_a_custom_tool_is_refused_where_none_is_offered():
    choice = {"type": "custom", "custom": {"name": "shell"}}
    for tools in ((), (Tool("plain"),)):
        with pytest.raises(BadRequest) as refused:
            translated(request(tools=tools, params={"tool_choice": choice}), STRICT)
        assert refused.value.param == "tool_choice"


def test_R4_tools_are_offered_once_each_with_an_object_of_parameters():
    told = translated(request(tools=(Tool("f", parameters={}), Tool("f", "again"), Tool("g"))), STRICT)
    assert told.request.tools == (Tool("f", parameters={"properties": {}, "type": "object"}), Tool("g"))
    assert [notice.code for notice in told.notices] == ["ignored_tool"]


def test_R4_settings_of_tools_go_with_tools_alone():
    assert translated(request(tools=(), params={"tool_choice": "auto", "top_p": 1}), STRICT).request.params == {
        "top_p": 1
    }
    with pytest.raises(BadRequest) as refused:
        translated(request(tools=(), params={"tool_choice": "required"}), STRICT)
    assert refused.value.param == "tool_choice"


def test_R4_stop_sequences_beyond_those_that_the_target_takes_are_announced():
    told = translated(request(params={"stop": ["a", "b", "c"]}), msgspec.structs.replace(STRICT, stops=2))
    assert told.request.params["stop"] == ["a", "b"]
    assert [notice.code for notice in told.notices] == ["changed_setting"]


def test_R2_images_go_under_their_registered_names_and_others_are_refused():
    some = Vocabulary(images=frozenset({"image/jpeg"}))
    turn = Message("user", (Image("data:image/jpg;base64,AA=="), Image("https://example.com/a.bmp")))
    told = translated(request(messages=(turn,)), some)
    assert told.request.messages[0].parts == (Image("data:image/jpeg;base64,AA=="), turn.parts[1])
    with pytest.raises(Unsupported):
        translated(request(messages=(Message("user", (Image("data:image/bmp;base64,AA=="),)),)), some)


class Decoder:
    done, finished, finished_s = False, True, 2.0

    def feed(self, chunk: bytes) -> Batch:
        return Batch([ToolCallStart(0, "a", chunk.decode()), TextDelta("x")])

    def finish(self) -> Batch:
        return Batch([ToolCallStart(1, "b", "short")])

    def fail(self, error):
        return Batch([])


def test_R2_a_decoder_tells_calls_by_the_client_s_names():
    decoder = CallsRestored(Decoder(), {"short": DOTS}, frozenset())
    assert decoder.feed(b"short").events == [ToolCallStart(0, "a", DOTS), TextDelta("x")]
    assert decoder.feed(b"other").events[0].name == "other"
    assert decoder.finish().events == [ToolCallStart(1, "b", DOTS)]
    assert (decoder.done, decoder.finished) == (False, True)


@pytest.mark.parametrize(
    ("given", "sent"),
    [({"max_tokens": "100"}, 100), ({"max_tokens": 100.0}, 100), ({"temperature": "0.5"}, 0.5), ({"top_p": 1}, 1)],
)
def test_A6_a_setting_goes_to_another_dialect_in_its_own_type(given, sent):
    (value,) = translated(request(params=given), STRICT).request.params.values()
    assert (value, type(value)) == (sent, type(sent))


@pytest.mark.parametrize(
    "given",
    [{"max_tokens": "many"}, {"temperature": True}, {"stop": 5}, {"reasoning_effort": 2}, {"tool_choice": [1]}],
)
def test_A6_a_setting_that_another_dialect_would_ignore_is_refused_by_name(given):
    (name,) = given
    with pytest.raises(BadRequest, match=f"^{name}: ") as caught:
        translated(request(params=given), STRICT)
    assert caught.value.param == name


def test_A6_a_name_of_the_route_s_own_passes_as_it_is():
    given = {"mirostat": "2", "thinking": None}
    assert translated(request(params=given), STRICT).request.params == given


def test_R1_an_id_that_the_client_has_already_is_told_under_another_one():
    asked = request(
        messages=(Message("user", (Text("go"),)), Message("assistant", tool_calls=(ToolCall("a", "plain", "{}"),)))
    )
    used = translated(asked, STRICT).used
    assert used == {"a"}
    told = [CallsRestored(Decoder(), {}, used).feed(b"plain").events[0].id for _ in range(2)]
    assert told[0] == told[1] != "a"  # the same answer again has the same ids
    two = Batch([ToolCallStart(0, "b", "plain"), ToolCallStart(1, "b", "plain")])
    first, second = restored(two, {}, set()).events
    assert first.id == "b" != second.id
