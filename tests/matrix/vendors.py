"""What each vendor is sent of a request, from runs: written by the proxy, judged by the vendor's grammar.

Nothing is sent: the body that would be sent is looked at. What a vendor would refuse fails the run.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec

from proxy.backends.base import Resources, kind
from proxy.contracts.base import Head
from proxy.errors import BadRequest, Unsupported
from proxy.events import Notice
from proxy.request import ChatRequest
from proxy.routing.plan import Target
from tests.matrix.asking import SAID, NoWords
from tests.matrix.features import ASKED, Asked
from tests.matrix.table import ANNOUNCED, CARRIED, CONTRACTS, LEFT_OUT, REFUSED, UNSAID
from tests.support.grammars import CHECKS
from tests.support.rich_requests import REQUESTS


def _preset(name: str) -> dict[str, str]:
    return {"kind": "openai-compatible", "preset": name, "api_key": "k"}


_AZURE = {"endpoint": "https://example.openai.azure.com", "api_version": "2024-10-21"}

VENDORS = {
    "OpenAI": ({"kind": "openai", "api_key": "k"}, "gpt-5", "openai"),
    "Azure": ({"kind": "openai", "api_key": "k", "azure": _AZURE}, "gpt-4.1", "openai"),
    "a local server": ({"kind": "openai-compatible", "base_url": "http://localhost:1/v1"}, "qwen3", "compatible"),
    "vLLM": (_preset("vllm"), "qwen3", "compatible"),
    "Ollama": (_preset("ollama"), "qwen3", "ollama"),
    "Groq": (_preset("groq"), "qwen/qwen3-32b", "groq"),
    "Z.ai": (_preset("zai"), "glm-4.6", "zai"),
    "Cerebras": (_preset("cerebras"), "gpt-oss-120b", "compatible"),
    "OpenRouter": (_preset("openrouter"), "z-ai/glm-4.6", "openrouter"),
    "Mistral": (_preset("mistral"), "mistral-medium-latest", "mistral"),
    "DeepSeek": (_preset("deepseek"), "deepseek-reasoner", "deepseek"),
    "Moonshot": (_preset("moonshot"), "kimi-k2-thinking", "moonshot"),
    "Gemini": (_preset("gemini"), "gemini-3-pro-preview", "gemini"),
    "Claude Sonnet 4.5": ({"kind": "anthropic", "api_key": "k"}, "claude-sonnet-4-5", "anthropic"),
    "Claude Opus 4.8": ({"kind": "anthropic", "api_key": "k"}, "claude-opus-4-8", "anthropic"),
}
"""By name: the row of the backend, the model, and the grammar that the body is held to."""


def verdicts(vendor: str) -> dict[str, str]:
    """Signs by feature, one for each of `CONTRACTS`."""
    return {name: "".join(_verdict(vendor, contract, one) for contract in CONTRACTS) for name, one in ASKED.items()}


class Asker:
    """A vendor that is asked nothing: what it would be sent is looked at."""

    def __init__(self, vendor: str) -> None:
        row, self.model, self.grammar = VENDORS[vendor]
        made = kind(row["kind"])
        self.vendor = vendor
        self.backend = made.build(vendor, made.settings.model_validate(row), self.resources())

    @staticmethod
    def resources() -> Resources:
        return Resources(None)  # type: ignore[arg-type]  # asks nobody

    @staticmethod
    @cache
    def of(vendor: str) -> Asker:
        return Asker(vendor)

    @staticmethod
    def read(contract: str, body: bytes) -> ChatRequest:
        frontend, path, _ = REQUESTS[contract]
        return frontend.decode(body, Head("1", "POST", path, {}, {}))

    def target(self) -> Target:
        return Target(self.vendor, self.model)

    def written(self, contract: str, body: bytes) -> tuple[dict[str, Any], list[Notice]]:
        """The body for the vendor, which is what it takes, and what the client is told."""
        request = self.read(contract, body)
        fields, notices = self.backend.written(request, self.target())
        sent = json.loads(json.dumps(fields))
        if request.dialect != self.backend.dialect:  # else it is the client's own body
            wrong = CHECKS[self.grammar](sent)
            assert not wrong, f"{self.vendor} would refuse what {contract} asks: {wrong}: {sent}"
        return sent, notices


def _verdict(vendor: str, contract: str, one: Asked) -> str:
    asker = Asker.of(vendor)
    try:
        body = json.dumps(SAID[contract][1](msgspec.structs.replace(one.request, stream=True))).encode()
        sent, notices = asker.written(contract, body)
    except NoWords:
        return UNSAID
    except (BadRequest, Unsupported):
        return REFUSED
    ours = {theirs: name for name, theirs in asker.backend.vocabulary(asker.model).parameters.items()}
    arrived = one.anthropic if asker.grammar == "anthropic" else one.openai
    if arrived({ours.get(name, name): value for name, value in sent.items()}):
        return CARRIED
    return ANNOUNCED if notices else LEFT_OUT
