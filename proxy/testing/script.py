"""Scripts of a `ScriptedUpstream`: the steps it can play, and the bytes that upstreams send."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 60.0
"""How long a test waits for what must happen, on a machine that is busy with other things. Only a failing test waits as
long."""

LAST_CHUNK = b"0\r\n\r\n"


# -- steps of a script -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Write `data`, `times` over, waiting for the socket to take it."""

    data: bytes
    times: int = 1


@dataclass(frozen=True)
class Split:
    """Write `data` in pieces of `size` bytes, each as a write of its own."""

    data: bytes
    size: int = 1
    pause_s: float = 0.0


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Wait:
    """Go on when the test sets the event."""

    event: asyncio.Event


@dataclass(frozen=True)
class Stall:
    """Do nothing until the peer leaves."""


@dataclass(frozen=True)
class Fin:
    """Close properly, after all that was written has left. `half` only ends our sending side."""

    half: bool = False


@dataclass(frozen=True)
class Rst:
    """Close with a TCP reset, after all that was written has left."""


@dataclass(frozen=True)
class NeverRead:
    """As the first step: play as soon as the request's head is in, and never read a byte of its body.

    While nothing is read, the peer's FIN or RST is only noticed by a write.
    """


Step = Send | Split | Sleep | Wait | Stall | Fin | Rst | NeverRead
Script = tuple[Step, ...]
Steps = Step | bytes | Iterable["Steps"]


def script(*steps: Steps) -> Script:
    """Flatten lists of steps; bare bytes are sent."""
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, bytes):
            flat.append(Send(step))
        elif isinstance(step, Send | Split | Sleep | Wait | Stall | Fin | Rst | NeverRead):
            flat.append(step)
        else:
            flat.extend(script(*step))
    return tuple(flat)


# -- bytes that upstreams send -----------------------------------------------------------------------------------


def head(status: int = 200, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> bytes:
    """A status line and headers, nothing added."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"HTTP/1.1 {status} Reason\r\n{lines}\r\n".encode("latin-1")


def sse_head(status: int = 200, /, **headers: str) -> bytes:
    """The head of a chunked event stream; `x_request_id="1"` adds `x-request-id: 1`."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return head(status, {"content-type": "text/event-stream", "transfer-encoding": "chunked", **more})


def chunked(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: Any, name: str = "") -> bytes:
    """One SSE event, as a chunk. What is not a string is sent as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return chunked(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())


def openai_chunk(
    delta: Mapping[str, Any] | None, *, finish: str | None = None, model: str = "scripted-1", **more: Any
) -> dict[str, Any]:
    """One `chat.completion.chunk`. `delta=None` is a chunk without choices, as usage comes in."""
    choices = [] if delta is None else [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}]
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": choices,
        **more,
    }


def openai_stream(
    tokens: Iterable[str],
    *,
    finish: str | None = "stop",
    usage: Mapping[str, int] | None = None,
    done: bool = True,
    gap_s: float = 0.0,
    model: str = "scripted-1",
    **headers: str,
) -> list[Step]:
    """A proper Chat Completions stream, one write per token. Cut it as a list: `openai_stream("abc")[:3] + [Rst()]`.

    Step 0 is the head, step 1 the role chunk, then the tokens (each followed by a `Sleep` where `gap_s` is set).
    """
    steps: list[Step] = [
        Send(sse_head(**headers)),
        Send(event(openai_chunk({"role": "assistant", "content": ""}, model=model))),
    ]
    for token in tokens:
        steps.append(Send(event(openai_chunk({"content": token}, model=model))))
        if gap_s:
            steps.append(Sleep(gap_s))
    if finish is not None:
        steps.append(Send(event(openai_chunk({}, finish=finish, model=model))))
    if usage is not None:
        steps.append(Send(event(openai_chunk(None, model=model, usage=dict(usage)))))
    if done:
        steps.append(Send(event("[DONE]")))
    steps.append(Send(LAST_CHUNK))
    return steps


def json_reply(status: int = 200, body: Any = None, headers: Mapping[str, str] | None = None) -> list[Step]:
    """A whole answer with Content-Length. `body` may be bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    fields = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
    return [Send(head(status, fields) + data)]
