"""Write lists of models as Ollama does. The fields about a model's file are empty, for there is no file here.

Every name has a tag, as in Ollama: Open WebUI adds `:latest` to a name without one and then looks for it in the list.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.contracts.ollama.request import LATEST
from proxy.contracts.replies import date
from proxy.wire.json_body import get_string, missing, parse_object

CAPABILITIES = ("completion", "tools", "vision", "thinking")
"""What the proxy can pass on. It does not know what each model can do; the upstream says so when it is asked."""

_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}

_encode = msgspec.json.Encoder().encode


def tags_body(ids: Sequence[str], created: int) -> bytes:
    """The answer of `/api/tags`."""
    return _encode({"models": [_row(_tagged(id_), created) for id_ in ids]})


def show_body(id_: str, created: int, context: int = 0) -> bytes:
    """The answer of `/api/show`. `context`: the most tokens of a conversation, if that is known."""
    length = {"unknown.context_length": context} if context else {}
    return _encode(
        {
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _DETAILS,
            "model_info": {"general.architecture": "unknown", "general.basename": id_, **length},
            "capabilities": CAPABILITIES,
            "modified_at": date(created),
        }
    )


def decode_show(body: bytes) -> str:
    """The model in question; older clients call the field `name`. Raises `BadRequest`."""
    fields = parse_object(body)
    model = get_string(fields, "model") or get_string(fields, "name")
    if not model:
        raise missing("model", "a string")
    return model


def _row(name: str, created: int) -> dict[str, Any]:
    # Clients tell models apart by the digest; the `ollama` command shows 12 characters of it.
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "modified_at": date(created), "size": 0, "digest": digest, "details": _DETAILS}


def _tagged(id_: str) -> str:
    return id_ if ":" in id_.rpartition("/")[2] else id_ + LATEST
