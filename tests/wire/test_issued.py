"""Tags of state: what comes back is what was made, and nobody else is sent it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.events import Batch, ReasoningSignature, TextDelta
from proxy.request import ChatRequest, Message, Text
from proxy.wire.issued import holds_tags, issuer, own_state, returned, tag_answer, tagged

ONE, TWO = issuer("anthropic", "https://one", "anthropic"), issuer("anthropic", "https://two", "anthropic")
states = st.text(min_size=1).filter(lambda state: not state.startswith("cp1-"))


@given(states)
def test_state_comes_back_as_it_was_made(state: str) -> None:
    assert returned(tagged(state, ONE), ONE) == state
    assert returned(tagged(state, ONE), TWO) == ""
    assert returned(state, ONE) == state, "without a tag nobody knows"
    assert tagged(tagged(state, ONE), ONE) == tagged(state, ONE)


@given(st.lists(st.text("ABCabc019+/=_-", min_size=1), min_size=1))
def test_pieces_that_a_client_joined_come_back_joined(pieces: list[str]) -> None:
    assert returned("".join(tagged(piece, ONE) for piece in pieces), ONE) == "".join(pieces)


@given(states)
def test_a_chain_of_proxies_takes_its_own_tag_alone(state: str) -> None:
    assert returned(tagged(tagged(state, ONE), TWO), TWO) == tagged(state, ONE)


def test_an_issuer_is_the_same_everywhere() -> None:
    assert issuer("anthropic", "https://api.anthropic.com", "anthropic") == "n5y5kcji3e"
    assert issuer("anthropic", "https://api.anthropic.com/", "anthropic") == "n5y5kcji3e"
    assert ONE != TWO


def frame(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


SIGNED = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "S/+="}}
REDACTED = {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "R="}}
GOOGLE = {"tool_calls": [{"index": 0, "extra_content": {"google": {"thought_signature": "G=", "more": 1}}}]}
DETAILS = {
    "reasoning_details": [{"type": "reasoning.encrypted", "data": "E="}, {"type": "reasoning.text", "text": "t"}]
}


@pytest.mark.parametrize("value", [SIGNED, REDACTED, GOOGLE, DETAILS])
def test_frames_with_state_are_tagged_and_the_others_keep_their_bytes(value: dict[str, Any]) -> None:
    other = b'data: {"text":  "a signature, redacted_thinking", "n": 1.50}\n\n'
    batch = tag_answer(Batch([], "d", [other + frame(value, "x"), other]), ONE)
    assert batch.payloads[1] == other
    assert batch.payloads[0].startswith(other + b"event: x\ndata: ")
    assert batch.payloads[0].endswith(b"}\n\n")
    told = json.loads(batch.payloads[0].rpartition(b"data: ")[2])
    assert json.dumps(told).replace(f"cp1-{ONE}:", "") == json.dumps(value)
    assert json.dumps(told).count(f"cp1-{ONE}:") == 1


def test_what_the_model_wrote_is_never_looked_into() -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"type": "thinking", "signature": "mine"}}
    whole = json.dumps({"content": [{"type": "text", "text": '{"signature": "x"}'}, use]}).encode()
    assert tag_answer(Batch([], "d", [], whole), ONE).whole == whole
    text = Batch([TextDelta("signature")], "d", [b'data: {"signature": 1}\n\n'], text_only=True)
    assert tag_answer(text, ONE).payloads == [b'data: {"signature": 1}\n\n']


def test_events_are_tagged_once_however_often_a_batch_passes() -> None:
    batch = Batch([ReasoningSignature("S"), TextDelta("a")], "d", [frame(SIGNED)])
    for _ in range(2):
        batch = tag_answer(batch, ONE)
    assert batch.events[0] == ReasoningSignature(tagged("S", ONE))
    assert batch.payloads[0].count(b"cp1-") == 1


def request(state: str, raw: dict[str, Any] | None = None) -> ChatRequest:
    messages = (Message("user", (Text("hi"),)), Message("assistant", (Text("a"),), reasoning_signature=state or None))
    return ChatRequest(id="r", contract="c", dialect="d", messages=messages, raw_body=raw)


def test_a_request_keeps_what_its_target_made() -> None:
    mine, theirs = tagged("S", ONE), tagged("T", TWO)
    assert not holds_tags(request("S"))
    assert holds_tags(request(mine))
    assert own_state(request(mine), ONE) == (request("S"), 0)
    assert own_state(request(theirs), ONE) == (request(""), 1)


def test_a_call_without_text_stays_a_call() -> None:
    extra = {"google": {"thought_signature": tagged("G", TWO)}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    for said in ({}, {"content": None}, {"content": []}):
        raw = {"messages": [{"role": "assistant", **said, "tool_calls": [call]}]}
        got = own_state(request("", raw), ONE)[0].raw_body
        assert got == {
            "messages": [{"role": "assistant", **said, "tool_calls": [{**call, "extra_content": {"google": {}}}]}]
        }


def test_a_block_whose_type_is_no_word_has_no_state() -> None:
    raw = {"messages": [{"role": "assistant", "content": [{"type": []}, {"type": {}}, {"type": None}]}]}
    assert not holds_tags(request("", raw))


def test_a_search_of_another_vendor_is_left_out_with_its_call_and_its_citations() -> None:
    hit = {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": tagged("E", TWO)}
    place = {"type": "web_search_result_location", "url": "https://a.example", "encrypted_index": tagged("I", TWO)}
    blocks = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [hit]},
        {"type": "server_tool_use", "id": "s2", "name": "web_search", "input": {"query": "r"}},
        {"type": "web_search_tool_result", "tool_use_id": "s2", "content": {"type": "web_search_tool_result_error"}},
        {"type": "text", "text": "So it is.", "citations": [place]},
    ]
    raw = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": blocks}]}
    alone = {"messages": [raw["messages"][0], {"role": "assistant", "content": blocks[:2]}]}
    assert holds_tags(request("", raw))
    theirs, lost = own_state(request("", raw), ONE)
    assert lost == 2
    assert theirs.raw_body is not None
    assert theirs.raw_body["messages"][1]["content"] == [*blocks[2:4], {**blocks[4], "citations": []}]
    assert own_state(request("", alone), ONE)[0].raw_body == {"messages": raw["messages"][:1]}
    own = json.dumps(own_state(request("", raw), TWO)[0].raw_body)
    assert own == json.dumps(raw).replace(f"cp1-{TWO}:", "")
    told = tag_answer(
        Batch([], "d", [], json.dumps({"content": json.loads(own)["messages"][1]["content"]}).encode()), TWO
    )
    assert json.loads(told.whole)["content"] == blocks


def test_a_summary_of_another_vendor_stays_without_its_state() -> None:
    """What it sums up is gone from the conversation."""
    summary = {"type": "compaction", "content": "They said hi.", "tool_changes": []}
    advice = {"type": "advisor_redacted_result", "encrypted_content": "A"}
    blocks = [
        {**summary, "signature": "S", "encrypted_content": "E"},
        {"type": "server_tool_use", "id": "s1", "name": "advisor", "input": {}},
        {"type": "advisor_tool_result", "tool_use_id": "s1", "content": advice},
        {"type": "text", "text": "So it is."},
    ]
    told = json.loads(tag_answer(Batch([], "d", [], json.dumps({"content": blocks}).encode()), ONE).whole)["content"]
    raw = {"messages": [{"role": "assistant", "content": told}]}
    assert holds_tags(request("", {"messages": [{"role": "assistant", "content": told[:1]}]}))
    assert holds_tags(request("", {"messages": [{"role": "assistant", "content": told[2:3]}]}))
    own, theirs = own_state(request("", raw), ONE)[0].raw_body, own_state(request("", raw), TWO)[0].raw_body
    assert own == {"messages": [{"role": "assistant", "content": blocks}]}
    assert theirs == {"messages": [{"role": "assistant", "content": [summary, blocks[3]]}]}
    delta = {
        "type": "content_block_delta",
        "delta": {"type": "compaction_delta", "content": "T", "encrypted_content": "E"},
    }
    (sent,) = tag_answer(Batch([], "d", [frame(delta)]), ONE).payloads
    assert sent.count(f"cp1-{ONE}:E".encode()) == 1


def test_blocks_of_others_are_left_out_of_a_list_of_their_own() -> None:
    details = [
        {"type": "reasoning.encrypted", "data": tagged("E", TWO)},
        {"type": "reasoning.text", "text": "t"},
        {"type": "reasoning.text", "text": "u", "signature": tagged("S", ONE)},
    ]
    raw = {"model": "m", "messages": [{"role": "assistant", "content": "a", "reasoning_details": details}]}
    assert holds_tags(request("", raw))
    got, lost = own_state(request("", raw), ONE)
    assert lost == 1
    assert got.raw_body is not None
    assert got.raw_body["messages"][0]["reasoning_details"] == [details[1], {**details[2], "signature": "S"}]
