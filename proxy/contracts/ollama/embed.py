"""Embeddings in Ollama's form: `/api/embed`, and `/api/embeddings`, its form before, with one prompt and one vector.

The request goes on in OpenAI's form, which is the one that upstreams have.
"""

from collections.abc import Callable, Container, Mapping
from typing import Any

import msgspec

from proxy.contracts.base import Reply
from proxy.contracts.ollama.request import model_name
from proxy.contracts.ollama.writer import failure
from proxy.contracts.replies import InOnePiece, json_reply
from proxy.errors import BadRequest, ProxyError, UpstreamMalformed
from proxy.request import EMBEDDINGS as VECTORS
from proxy.request import Answer, ChatRequest, Message, Text
from proxy.wire.json_body import get_string, parse_object, wrong

EMBED, EMBEDDINGS = "/api/embed", "/api/embeddings"


def decode_embed(
    body: bytes, *, id: str, path: str = "", headers: Mapping[str, str] | None = None, models: Container[str] = ()
) -> ChatRequest:
    """Read a body of either form. Raises `BadRequest` saying what is wrong and where."""
    fields = parse_object(body)
    name = "prompt" if path.endswith(EMBEDDINGS) else "input"
    given, model = fields.get(name), get_string(fields, "model")
    texts = [given] if type(given) is str else given
    if type(texts) is not list or not all(type(text) is str for text in texts):
        raise wrong(name, "a string or a list of strings", given)
    if not texts:
        raise BadRequest(f"{name}: expected at least one text, got an empty list", param=name)
    wire: dict[str, Any] = {"input": given, "encoding_format": "float"}
    if fields.get("dimensions") is not None:
        wire["dimensions"] = fields["dimensions"]
    return ChatRequest(
        id=id,
        contract="embeddings",  # to a rule, as in OpenAI's form
        dialect=VECTORS,
        task="embedding",
        messages=(Message("user", tuple(map(Text, texts))),),
        model=model_name(model, models) if model else None,
        stream=False,
        path=path,
        headers=headers or {},
        raw_body=wire,
    )


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]


_decode = msgspec.json.Decoder(_Vectors).decode


class EmbedWriter(InOnePiece):
    """Writes the vectors. `one`: as the older form has them. `clock` is in nanoseconds."""

    def __init__(self, model: str, *, one: bool, clock: Callable[[], int]) -> None:
        self._model, self._one, self._clock, self._began = model, one, clock, clock()

    def whole(self, answer: Answer) -> Reply:
        """Raises `UpstreamMalformed` for vectors in another form than lists of numbers."""
        try:
            found = sorted(_decode(answer.payload).data, key=lambda vector: vector.index)
        except ValueError:
            found = []
        vectors = [vector.embedding for vector in found]
        if not vectors or not all(bytes(vector).startswith(b"[") for vector in vectors):
            raise UpstreamMalformed("the upstream's embeddings are no lists of numbers")
        if self._one:
            return json_reply(msgspec.json.encode({"embedding": vectors[0]}))
        told = {
            "model": self._model,
            "embeddings": vectors,
            "total_duration": self._clock() - self._began,
            "load_duration": 0,
            "prompt_eval_count": answer.usage.input_tokens if answer.usage else 0,
        }
        return json_reply(msgspec.json.encode(told))

    def failure(self, error: ProxyError) -> Reply:
        return failure(error)
