"""The one shape of translated conversations: what each example becomes, and what holds for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.request import Image, Message, Text, ToolCall
from proxy.wire.conversation import CONTINUE, INTERRUPTED, ORPHAN, SHOWN, SILENT, arranged
from proxy.wire.ids import names_for
from proxy.wire.vocabulary import WORD, IdForm, NameForm, Vocabulary

PLAIN = Vocabulary()
IMAGE = Image("data:image/png;base64,AA==")
MISTRAL = Vocabulary(call_ids=IdForm(WORD.rstrip("_-"), 9, 9), empty_turns=False)


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def answer(text: str = "", *calls: str, **more: object) -> Message:
    made = tuple(ToolCall(id_, "f", '{"n":1}') for id_ in calls)
    return Message("assistant", (Text(text),) if text else (), tool_calls=made, **more)


def result(id_: str, text: str) -> Message:
    return Message("tool", (Text(text),), tool_call_id=id_)


def missing(id_: str) -> Message:
    return Message("tool", (Text(INTERRUPTED),), tool_call_id=id_, failed=True)


def codes(messages: list[Message], vocabulary: Vocabulary = PLAIN) -> list[str]:
    return [notice.code for notice in arranged(messages, vocabulary).notices]


LEGAL = (
    Message("system", (Text("be brief"),)),
    user("weather?"),
    answer("a moment", "a", "b"),
    result("a", "sun"),
    result("b", "rain"),
    answer("sun and rain"),
)


def test_a_conversation_that_every_target_takes_is_left_as_it_is():
    assert arranged(LEGAL, PLAIN).messages == LEGAL
    assert arranged(LEGAL, PLAIN).notices == ()


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        pytest.param(
            [user("hi"), answer("", "a"), answer("a note"), result("a", "1")],
            [user("hi"), answer("", "a"), result("a", "1"), answer("a note")],
            id="R1 a message between a call and its result stands behind the result",
        ),
        pytest.param(
            [user("hi"), answer("", "a"), user("hurry"), result("a", "1")],
            [user("hi"), answer("", "a"), result("a", "1"), user("hurry")],
            id="R1 so does the user's",
        ),
        pytest.param(
            [user("hi"), answer("", "a"), answer("", "b"), result("b", "2"), result("a", "1")],
            [user("hi"), answer("", "a", "b"), result("a", "1"), result("b", "2")],
            id="R1 one answer in several messages is one, its results in the order of its calls",
        ),
        pytest.param(
            [user("hi"), answer("first", "a"), answer("then", "b"), result("a", "1"), result("b", "2")],
            [
                user("hi"),
                Message("assistant", (Text("first"), Text("then")), tool_calls=answer("", "a", "b").tool_calls),
                result("a", "1"),
                result("b", "2"),
            ],
            id="R5 its parts stay apart",
        ),
        pytest.param(
            [answer("", "a"), result("a", "1"), answer("", "b"), result("b", "2")],
            [answer("", "a"), result("a", "1"), answer("", "b"), result("b", "2")],
            id="R1 an answer after a result is another one",
        ),
        pytest.param(
            [user("hi"), answer("", "a"), user("never mind")],
            [user("hi"), answer("", "a"), missing("a"), user("never mind")],
            id="R1 an interrupted call has a result that says so",
        ),
        pytest.param(
            [user("hi"), result("x", "42")],
            [user("hi"), Message("user", (Text(ORPHAN), Text("42")))],
            id="R1 a result without a call is the user's text",
        ),
        pytest.param(
            [user("hi"), Message("tool", (Text("a"), Image("data:image/png;base64,AA=="))), answer("ok")],
            [user("hi"), Message("user", (Text(ORPHAN), Text("a"), Image("data:image/png;base64,AA=="))), answer("ok")],
            id="R1 with all its parts",
        ),
        pytest.param(
            [Message("system", (Text("a"),)), Message("developer", (Text("b"),)), user("hi")],
            [Message("system", (Text("a\n\nb"),)), user("hi")],
            id="R5 the system text at the head is one message",
        ),
        pytest.param(
            [user("hi"), Message("developer", (Text("be rude"),)), answer("no")],
            [user("hi\n\n<system-reminder>\nbe rude\n</system-reminder>"), answer("no")],
            id="R5 later system text goes into the user's turn",
        ),
        pytest.param(
            [user("hi"), answer("no"), Message("system", (Text("be kind"),)), user("so?")],
            [user("hi"), answer("no"), user("<system-reminder>\nbe kind\n</system-reminder>\n\nso?")],
            id="R5 which it may begin",
        ),
        pytest.param(
            [answer("", "a"), Message("tool", (Text("1"), IMAGE), tool_call_id="a"), user("so?")],
            [answer("", "a"), result("a", "1"), Message("user", (IMAGE,)), user("so?")],
            id="R1 what a tool brought besides text follows its results as the user's",
        ),
    ],
)
def test_R1_R5_what_a_conversation_becomes(given_, wanted):
    assert list(arranged(given_, PLAIN).messages) == wanted


def test_R1_ids_that_repeat_over_turns_keep_each_result_with_its_own_call():
    turns = [answer("", "call_1"), result("call_1", "Oslo"), answer("", "call_1"), result("call_1", "Rome")]
    first, oslo, second, rome = arranged(turns, PLAIN).messages
    assert (oslo.text, rome.text) == ("Oslo", "Rome")
    assert first.tool_calls[0].id == oslo.tool_call_id == "call_1"
    assert second.tool_calls[0].id == rome.tool_call_id != "call_1"


def test_R1_an_earlier_call_never_gets_a_later_call_s_result():
    turns = [answer("", "a"), user("again"), answer("", "a"), result("a", "2")]
    placed = arranged(turns, PLAIN).messages
    assert [message.text for message in placed if message.role == "tool"] == [INTERRUPTED, "2"]
    assert codes(turns) == ["made_result"]


def test_R1_two_calls_of_one_answer_may_share_an_id():
    turns = [answer("", "a", "a"), result("a", "1"), result("a", "2")]
    call, one, two = arranged(turns, PLAIN).messages
    assert [each.id for each in call.tool_calls] == [one.tool_call_id, two.tool_call_id]
    assert one.tool_call_id != two.tool_call_id
    assert (one.text, two.text) == ("1", "2")


def test_R1_a_second_result_of_a_call_is_text_and_announced():
    turns = [answer("", "a"), result("a", "1"), result("a", "2")]
    assert [message.role for message in arranged(turns, PLAIN).messages] == ["assistant", "tool", "user"]
    assert codes(turns) == ["moved_result"]


def test_R1_ids_that_become_alike_stay_apart():
    form = Vocabulary(call_ids=IdForm(WORD, 1, 64))
    turns = [answer("", "functions.f:0", "functions_f_0"), result("functions.f:0", "1"), result("functions_f_0", "2")]
    call, one, two = arranged(turns, form).messages
    assert [each.id for each in call.tool_calls] == [one.tool_call_id, two.tool_call_id]
    assert len({each.id for each in call.tool_calls}) == 2


def test_R5_system_text_stays_in_place_where_the_target_takes_it():
    turns = [user("hi"), Message("developer", (Text("be rude"),)), answer("no")]
    assert arranged(turns, Vocabulary(system="anywhere", developer=True)).messages == tuple(turns)


LATER = Message("system", (Text("be rude"),))


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ([user("hi"), LATER], [user("hi"), LATER]),
        ([user("hi"), LATER, answer("no")], [user("hi"), LATER, answer("no")]),
        ([answer("no"), LATER, user("so?")], [answer("no"), user("so?"), LATER]),
        ([answer("", "a"), LATER, result("a", "1")], [answer("", "a"), result("a", "1"), LATER]),
        (
            [user("hi"), answer("no"), LATER, answer("yes")],
            [user("hi"), answer("no"), user("<system-reminder>\nbe rude\n</system-reminder>"), answer("yes")],
        ),
    ],
)
def test_R5_system_text_stands_behind_the_user_where_the_target_takes_it_there_alone(given_, wanted):
    assert list(arranged(given_, Vocabulary(system="after_user")).messages) == wanted


def test_R2_an_answer_stands_between_a_result_and_the_user_where_the_target_wants_one():
    turns = [answer("", "a"), result("a", "1"), user("so?")]
    placed = arranged(turns, Vocabulary(user_after_result=False)).messages
    assert [message.role for message in placed] == ["assistant", "tool", "assistant", "user"]


def test_R2_an_answer_that_the_target_does_not_continue_is_followed_by_a_request_to_do_so():
    turns = [user("count"), answer("1, 2,")]
    assert arranged(turns, Vocabulary(prefill="none")).messages == (*turns, user(CONTINUE))
    assert codes(turns, Vocabulary(prefill="none")) == ["moved_answer"]


def test_R1_signed_reasoning_is_not_joined_with_other_signed_reasoning():
    one = answer("", "a", reasoning="x", reasoning_signature="s1")
    two = answer("", "b", reasoning="y", reasoning_signature="s2")
    placed = arranged([one, two, result("a", "1"), result("b", "2")], Vocabulary(signatures="anthropic")).messages
    assert [message.reasoning_signature for message in placed if message.role == "assistant"] == ["s1", "s2"]


def test_R2_empty_answers_are_left_out_where_the_target_refuses_them():
    turns = [user("hi"), answer(""), user("still there?")]
    assert arranged(turns, PLAIN).messages == tuple(turns)
    assert arranged(turns, MISTRAL).messages == (turns[0], turns[2])
    assert arranged([turns[0], Message("assistant", (Text(" "),)), turns[2]], MISTRAL).messages == (turns[0], turns[2])


# -- what holds for every conversation -------------------------------------------------------------------------

IDS = st.sampled_from(["a", "b", "call_1", "functions.f:0", "x" * 300, "ü", ""])
TEXTS = st.text("abc ", max_size=3)
MESSAGES = st.lists(
    st.one_of(
        TEXTS.map(user),
        TEXTS.map(lambda text: Message("system", (Text(text),))),
        TEXTS.map(lambda text: Message("developer", (Text(text),))),
        st.builds(lambda text, ids: answer(text, *ids), TEXTS, st.lists(IDS, max_size=3)),
        st.builds(
            lambda text, id_, seal: answer(text, id_, reasoning="r", reasoning_signature=seal),
            TEXTS,
            IDS,
            st.sampled_from([None, "s1", "s2"]),
        ),
        st.builds(result, IDS, TEXTS),
    ),
    max_size=12,
)
VOCABULARIES = st.sampled_from(
    [
        PLAIN,
        MISTRAL,
        Vocabulary(call_ids=IdForm(WORD, 1, 64), signatures="anthropic"),
        Vocabulary(system="anywhere", developer=True),
    ]
)


def check_grammar(messages: tuple[Message, ...], vocabulary: Vocabulary) -> None:
    """What every target asks of calls and results, written without a look at the code above."""
    seen: set[str] = set()
    index = 0
    while index < len(messages):
        message = messages[index]
        assert message.role != "tool", "a result without its call"
        ids = [call.id for call in message.tool_calls]
        for id_ in ids:
            assert id_ not in seen
            assert vocabulary.call_ids.takes(id_)
            seen.add(id_)
        answers = messages[index + 1 : index + 1 + len(ids)]
        assert [one.tool_call_id for one in answers if one.role == "tool"] == ids
        index += 1 + len(ids)


@given(MESSAGES, VOCABULARIES)
def test_R1_every_conversation_comes_out_legal_complete_and_the_same_twice(messages, vocabulary):
    once = arranged(messages, vocabulary)
    check_grammar(once.messages, vocabulary)
    texts = "\0".join(part.text for message in once.messages for part in message.parts)
    for message in messages:
        for part in message.parts:
            assert part.text in texts or not part.text.strip()
    assert arranged(messages, vocabulary) == once
    again = arranged(once.messages, vocabulary)
    assert again.messages == once.messages
    assert again.notices == ()


@given(MESSAGES, VOCABULARIES, st.integers(0, 12))
def test_R1_a_longer_conversation_begins_with_the_same_ids(messages, vocabulary, length):
    def ids(of: list[Message]) -> list[str]:
        return [call.id for message in arranged(of, vocabulary).messages for call in message.tool_calls]

    begun = ids(messages[:length])
    assert ids(messages)[: len(begun)] == begun


@given(
    st.lists(st.text(max_size=90), max_size=8, unique=True),
    st.sampled_from([NameForm(), NameForm(WORD, 128, WORD[:52] + "_")]),
)
def test_R2_names_are_taken_and_distinguished(names, form):
    sent = names_for(names, form)
    assert all(form.takes(sent.get(name, name)) for name in names)
    assert len({sent.get(name, name) for name in names}) == len(names)


@given(
    st.lists(IDS, min_size=1, max_size=6),
    st.sampled_from([IdForm("0123456789", 9, 9), IdForm("abcdefghij", 9, 12), IdForm(WORD, 1, 64)]),
)
def test_R2_ids_are_made_of_the_characters_that_the_target_takes(ids, form):
    turns = [answer("", *ids), *(result(id_, "1") for id_ in ids)]
    (call, *_) = arranged(turns, Vocabulary(call_ids=form)).messages
    assert all(form.takes(one.id) for one in call.tool_calls)
    assert len({one.id for one in call.tool_calls}) == len(ids)


TWO = [user("hi"), answer("", "a", "b")]
PICTURE = Image("data:image/png;base64,BB==")


def shown(id_: str, *parts: Image | Text) -> Message:
    return Message("tool", parts, tool_call_id=id_)


def test_R1_what_two_results_show_says_which_of_them_shows_it() -> None:
    asked = [*TWO, shown("a", IMAGE), shown("b", Text("2"), PICTURE)]
    behind = (Text("Shown by result 1 of 2:"), IMAGE, Text("Shown by result 2 of 2:"), PICTURE)
    assert arranged(asked, PLAIN).messages[2:] == (result("a", SHOWN), result("b", "2"), Message("user", behind))


def test_R1_an_empty_result_behind_one_that_shows_something_stays() -> None:
    sent = arranged([user("hi"), answer("", "a", "b"), shown("a", IMAGE), shown("b")], PLAIN).messages
    assert [(one.role, one.tool_call_id) for one in sent[2:]] == [("tool", "a"), ("tool", "b"), ("user", None)]


def test_R2_the_user_begins_where_the_target_wants_that() -> None:
    told = Vocabulary(user_first=True)
    sent = arranged([Message("system", (Text("be brief"),)), answer("Welcome."), user("hi")], told).messages
    assert [one.role for one in sent] == ["system", "user", "assistant", "user"]
    assert arranged(LEGAL, told).messages == LEGAL


def test_R5_what_an_answer_shows_stands_in_the_users_turn() -> None:
    asked = [user("draw"), Message("assistant", (Text("here"), IMAGE)), user("thanks")]
    for vocabulary in (PLAIN, Vocabulary(result_media=True)):
        told = arranged(asked, vocabulary).messages
        assert told == (asked[0], answer("here"), Message("user", (IMAGE,)), asked[2])
    alone = [user("draw"), Message("assistant", (IMAGE,)), user("thanks")]
    assert arranged(alone, PLAIN).messages == (alone[0], Message("user", (IMAGE,)), alone[2])


def test_R2_a_result_is_never_empty_where_the_target_takes_no_empty_turns() -> None:
    asked = [*TWO, shown("a"), result("b", " ")]
    assert arranged(asked, MISTRAL).messages[2].parts == (Text(SILENT),)
    assert arranged(asked, MISTRAL).messages[3].parts == (Text(SILENT),)
    assert arranged(asked, PLAIN).messages[2].parts == ()


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ("", "{}"),
        (' {"a": 1}', ' {"a": 1}'),
        ('{"a":', '{"arguments":"{\\"a\\":"}'),
        ("[1]", '{"arguments":[1]}'),
        ('{"a":123456789012345678901234567890}', '{"a":123456789012345678901234567890}'),
    ],
)
def test_R1_the_arguments_of_a_call_are_an_object(given_: str, sent: str) -> None:
    asked = [user("hi"), Message("assistant", tool_calls=(ToolCall("a", "f", given_),)), result("a", "1")]
    assert arranged(asked, PLAIN).messages[1].tool_calls == (ToolCall("a", "f", sent),)


def test_R1_results_without_ids_belong_to_the_last_answer_by_tool_then_by_order() -> None:
    calls = (ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}"))
    turn = Message("assistant", tool_calls=calls)
    asked = [
        turn,  # interrupted
        user("again"),
        turn,
        Message("tool", (Text("of g"),), name="g"),
        Message("tool", (Text("of f"),)),
    ]
    told = arranged(asked, PLAIN).messages
    assert [one.text for one in told if one.role == "tool"] == [INTERRUPTED, INTERRUPTED, "of f", "of g"]
    assert all(one.name is None for one in told)


def test_R2_an_empty_last_turn_of_the_user_makes_no_answer_one_to_be_continued() -> None:
    asked = [Message("user", (Text("hi"),)), Message("assistant", (Text("Hello."),)), Message("user", (Text(" "),))]
    for prefill in ("none", "prefix_flag", "trailing"):
        far = Vocabulary(empty_turns=False, prefill=prefill)
        assert arranged(asked, far).messages == (*asked[:2], Message("user", (Text("."),)))
        assert arranged(asked, far).notices == ()
