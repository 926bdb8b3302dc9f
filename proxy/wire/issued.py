"""State that only the vendor who made it can read, on its way through clients: who made it is written before it.

Vendors sign what their models think, or encrypt it, and refuse a conversation that holds another vendor's state. So
where several vendors may answer, such state goes to the client as `cp1-ISSUER:STATE`, and comes back either as it was
made, or not at all. Nothing is kept here: the tag says all. No I/O.

Known: Anthropic's signed and redacted thinking, its summaries of long conversations and what its tools encrypt,
Gemini's thought signatures, litellm's `thinking_blocks`, and `reasoning_details` of OpenRouter and MiniMax.
"""

import re
from base64 import b32encode
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from proxy.events import Batch, ReasoningSignature, StreamEvent
from proxy.request import ChatRequest, Message

_TAG = re.compile(r"cp1-([a-z2-7]{10}):")
_MARKERS = (b"signature", b"redacted_thinking", b"reasoning.encrypted", b'"encrypted_')
_KEYS = {
    "thinking": ("signature",),
    "signature_delta": ("signature",),
    "redacted_thinking": ("data",),
    "compaction": ("signature", "encrypted_content"),
    "compaction_delta": ("signature", "encrypted_content"),
    "reasoning.text": ("signature",),
    "reasoning.summary": ("signature",),
    "reasoning.encrypted": ("data",),
    "web_search_result": ("encrypted_content",),
    "web_search_result_location": ("encrypted_index",),
    "encrypted_code_execution_result": ("encrypted_stdout",),
    "advisor_redacted_result": ("encrypted_content",),
}
"""By the type of a block, the fields of it that hold state."""
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_UNMODELLED = (
    "redacted_thinking", "compaction", "web_search_tool_result", "code_execution_tool_result", "advisor_tool_result"
)  # fmt: skip
_PLACES = frozenset({"reasoning_details", "thinking_blocks", "tool_calls", "extra_content"})
_LISTS = ("reasoning_details", "thinking_blocks")

Change = Callable[[str], str]
"""What becomes of a piece of state; empty: it is left out."""


def issuer(kind: str, address: str, vendor: str) -> str:
    """The name of who makes state, the same in each process and after each reload."""
    digest = blake2b("\0".join((kind, address.rstrip("/"), vendor)).encode(), digest_size=6).digest()
    return b32encode(digest).decode().lower()[:10]


def tagged(state: str, by: str) -> str:
    """The state with the name of who made it, once."""
    tag = f"cp1-{by}:"
    return state if state.startswith(tag) else tag + state


def returned(state: str, to: str) -> str:
    """The state as `to` made it; empty if another made it. State without a tag stays as it is.

    Clients put the pieces of a signature together, so the tag of its own maker is taken out wherever it stands.
    """
    tag = _TAG.match(state)
    if tag is None:
        return state
    return state.replace(tag[0], "") if tag[1] == to else ""


# -- answers ---------------------------------------------------------------------------------------------------


def tag_answer(batch: Batch, by: str) -> Batch:
    """The batch with its state tagged: in its events, and in its bytes, of which only what holds state is written anew."""
    if batch.text_only:
        return batch
    batch.events = [_tagged_event(event, by) for event in batch.events]
    if batch.payloads:
        batch.payloads = [_tagged_frames(payload, by) for payload in batch.payloads]
    if batch.whole:
        batch.whole = _tagged_json(batch.whole, by) or batch.whole
    return batch


def _tagged_event(event: StreamEvent, by: str) -> StreamEvent:
    return ReasoningSignature(tagged(event.signature, by)) if type(event) is ReasoningSignature else event


def _tagged_frames(payload: bytes, by: str) -> bytes:
    if not any(marker in payload for marker in _MARKERS):
        return payload
    return b"\n".join([_tagged_line(line, by) for line in payload.split(b"\n")])


def _tagged_line(line: bytes, by: str) -> bytes:
    data = _tagged_json(line[5:], by) if line.startswith(b"data:") else None
    return line if data is None else b"data: " + data


def _tagged_json(data: bytes, by: str) -> bytes | None:
    """The JSON text with its state tagged; `None` if there is none in it."""
    if not any(marker in data for marker in _MARKERS):
        return None
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None  # the decoder of the dialect says what is wrong
    changed = _changed(value, lambda state: tagged(state, by))
    return None if changed == value else msgspec.json.encode(changed)


# -- requests --------------------------------------------------------------------------------------------------


def holds_tags(request: ChatRequest) -> bool:
    """Whether any state of the conversation has a tag. For routes that make none: it copies nothing."""
    for message in request.messages:
        if message.reasoning_signature and _TAG.match(message.reasoning_signature):
            return True
    messages = (request.raw_body or {}).get("messages")
    if not isinstance(messages, list):
        return False
    for message in messages:
        if type(message) is not dict or message.get("role") != "assistant":
            continue
        content = message.get("content")
        # Signed thinking is in `request.messages`, so most blocks need no more than this.
        hidden = type(content) is list and [
            one for one in content if type(one) is dict and one.get("type") in _UNMODELLED
        ]
        if (hidden or not _PLACES.isdisjoint(message)) and any(_TAG.match(state) for state in _states(message)):
            return True
    return False


def own_state(request: ChatRequest, to: str, *, unsigned: str = "") -> tuple[ChatRequest, int]:
    """The request with the state that `to` made, as it was made, and how many pieces of others were left out.

    `unsigned` stands in place of the signature of another's call, for vendors that refuse a call without one.
    """
    lost: list[str] = []

    def change(state: str) -> str:
        own = returned(state, to)
        if not own:
            lost.append(state)
        return own

    messages = tuple(_with_own(message, change) for message in request.messages)
    body, count = request.raw_body, len(lost)
    if body is not None and isinstance(wire := body.get("messages"), list):
        sent = [_changed(one, change, unsigned) if any(_states(one)) else one for one in wire]
        kept = [
            new
            for old, new in zip(wire, sent, strict=True)
            if new is old or new.get("content") or not old.get("content")
        ]
        body = {**body, "messages": kept}
    return msgspec.structs.replace(request, messages=messages, raw_body=body), max(count, len(lost) - count)


def _with_own(message: Message, change: Change) -> Message:
    signature = message.reasoning_signature
    own = change(signature) if signature else signature
    return message if own == signature else msgspec.structs.replace(message, reasoning_signature=own or None)


def _states(message: Any) -> Iterator[str]:
    """The state in an earlier answer, as the client's own dialect says it."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return
    for name in ("content", *_LISTS):
        if isinstance(blocks := message.get(name), list):
            for block in blocks:
                yield from _states_of(block)
    calls = message.get("tool_calls")
    for holder in (message, *(calls if isinstance(calls, list) else ())):
        if isinstance(holder, dict) and (extra := holder.get("extra_content")):
            yield _google_state(extra)


def _states_of(block: Any) -> Iterator[str]:
    if not isinstance(block, dict):
        return
    for key in _keys_of(block):
        if isinstance(state := block.get(key), str):
            yield state
    for name in ("content", "citations"):
        if inner := block.get(name):
            for one in inner if isinstance(inner, list) else [inner]:
                yield from _states_of(one)


# -- where state stands ----------------------------------------------------------------------------------------


def _changed(value: Any, change: Change, unsigned: str = "") -> Any:
    """A JSON value with its state changed. What the model wrote, and what it calls tools with, is never looked into."""
    if isinstance(value, list):
        return _all_changed(value, change, unsigned)
    if not isinstance(value, dict):
        return value
    if keys := _keys_of(value):
        return _with_state(value, keys, change)
    changed = {}
    for key, one in value.items():
        if key == "extra_content":
            changed[key] = _of_google(one, change, unsigned)
        elif key in _LISTS:
            changed[key] = _with_blocks(one, change)
        else:
            changed[key] = one if key == "input" else _changed(one, change, unsigned)
    return None if _lost(value, changed) else changed


def _all_changed(values: list[Any], change: Change, unsigned: str) -> list[Any]:
    """The values without those that are left out, and without the calls whose results are."""
    changed = [(one, _changed(one, change, unsigned)) for one in values]
    calls = {
        one["tool_use_id"] for one, new in changed if new is None and isinstance(one, dict) and "tool_use_id" in one
    }
    return [
        new
        for one, new in changed
        if (new is not None or one is None) and not (calls and isinstance(one, dict) and one.get("id") in calls)
    ]


def _lost(value: dict[str, Any], changed: dict[str, Any]) -> bool:
    """Whether the result of a tool that ran at the vendor has lost some of its content: it has to be whole."""
    before, content = value.get("content"), changed.get("content")
    if not before or not str(value.get("type")).endswith("_tool_result"):
        return False
    return content is None or (isinstance(before, list) and len(content) < len(before))


def _keys_of(block: dict[str, Any]) -> tuple[str, ...]:
    """The fields of a block that hold state."""
    kind = block.get("type")
    return _KEYS.get(kind, ()) if isinstance(kind, str) else ()


def _with_state(block: dict[str, Any], names: tuple[str, ...], change: Change) -> dict[str, Any] | None:
    """A block with its state changed; `None` if it is left out. A thought then has no signature: no vendor is sent it.

    A summary stays, without its state: it is all that is left of what it sums up.
    """
    states = {name: change(state) for name in names if isinstance(state := block.get(name), str) and state}
    if not states:
        return block
    if all(states.values()):
        return {**block, **states}
    if block["type"] == "compaction":
        return {name: value for name, value in {**block, **states}.items() if name not in states or value}
    if block["type"] not in _THOUGHTS:
        return None
    thought = block.get("thinking", "")
    return {"type": "thinking", "thinking": thought if isinstance(thought, str) else "", "signature": ""}


def _with_blocks(blocks: Any, change: Change) -> Any:
    """The blocks of a list of their own, without those whose state is left out."""
    if not isinstance(blocks, list):
        return blocks
    changed = [(one, _changed(one, change)) for one in blocks]
    return [new for one, new in changed if new == one or (new and new.get("signature") != "")]


def _of_google(extra: Any, change: Change, unsigned: str) -> Any:
    """Gemini's field of a call, with its thought signature changed."""
    if not (state := _google_state(extra)):
        return extra
    google, new = extra["google"], change(state) or unsigned
    without = {key: one for key, one in google.items() if key != "thought_signature"}
    return {**extra, "google": {**google, "thought_signature": new} if new else without}


def _google_state(extra: Any) -> str:
    google = extra.get("google") if isinstance(extra, dict) else None
    state = google.get("thought_signature") if isinstance(google, dict) else None
    return state if isinstance(state, str) else ""
