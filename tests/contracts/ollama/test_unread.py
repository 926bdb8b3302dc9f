"""What Ollama's clients ask for and an upstream that runs the model itself cannot do is announced."""

from __future__ import annotations

import json

from proxy.contracts.ollama.request import decode_chat, decode_generate

HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_R4_options_and_fields_without_a_place() -> None:
    options = {"num_ctx": 4096, "mirostat": 1, "temperature": 0.5, "num_gpu": 1, "use_mmap": False, "typical_p": None}
    request = decode_chat(json.dumps({**HI, "options": options, "keep_alive": "5m", "logprobs": True}).encode(), id="1")
    assert request.unread == ("logprobs", "options.mirostat", "options.num_ctx")


def test_R4_what_a_prompt_has_beside_it() -> None:
    asked = {"model": "m", "prompt": "hi", "context": [1, 2], "template": "t", "raw": False}
    assert decode_generate(json.dumps(asked).encode(), id="1").unread == ("context", "template")
    asked = {"model": "m", "prompt": "hi", "suffix": "bye", "options": {"num_ctx": 1}}
    assert decode_generate(json.dumps(asked).encode(), id="1").unread == ("options.num_ctx",)


def test_R4_a_name_that_is_no_word_is_not_repeated() -> None:
    request = decode_chat(json.dumps({**HI, "a\r\nSet-Cookie: b": 1}).encode(), id="1")
    assert request.unread == ("a setting",)


def test_R4_many_names_are_cut_short() -> None:
    request = decode_chat(json.dumps(HI | {f"f{number:03}": 1 for number in range(500)}).encode(), id="1")
    assert len(request.unread) == 16
