"""Nothing that a client can say gets lost without a word, from any contract to any vendor (R4)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from proxy.backends.litellm.backend import LiteLLMBackend
from proxy.backends.litellm.loading import load
from proxy.backends.litellm.settings import LiteLLMSettings
from proxy.events import Notice
from tests.matrix.losses import THINGS, verdict
from tests.matrix.table import CONTRACTS, LEFT_OUT
from tests.matrix.test_matrix import THROUGH_LITELLM
from tests.matrix.vendors import VENDORS, Asker


class LiteLLMAsker(Asker):
    """A vendor behind litellm: what litellm would be given is looked at, and what it says that it takes of that."""

    def __init__(self, model: str) -> None:
        self.vendor, self.model = "far", model
        self.grammar = "anthropic" if "claude" in model else ""
        settings = LiteLLMSettings.model_validate({"kind": "litellm", "api_key": "k"})
        self.backend = LiteLLMBackend("far", settings, self.resources())
        self.backend._litellm, self.backend._handler = load("far")

    def written(self, contract: str, body: bytes) -> tuple[dict[str, Any], list[Notice]]:
        request, target = self.read(contract, body), self.target()
        translation = self.backend._translation(request, target)
        given = self.backend._arguments(translation.request, target)
        notices = [*translation.notices, *self.backend._omissions(translation.request, given, target)]
        return {name: value for name, value in given.items() if name != "client"}, notices


LITELLM = ["anthropic/claude-sonnet-4-5", "openai/gpt-4o-mini", "mistral/mistral-medium-latest", "ollama_chat/qwen3"]
of_litellm = cache(LiteLLMAsker)


def lost(asker: Asker, contract: str) -> list[str]:
    return [name for name in THINGS[contract][1] if verdict(asker, contract, name) == LEFT_OUT]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("contract", CONTRACTS)
def test_R4_nothing_is_lost_in_silence(contract: str, vendor: str) -> None:
    assert lost(Asker.of(vendor), contract) == []


@pytest.mark.parametrize("model", [pytest.param(model, marks=THROUGH_LITELLM) for model in LITELLM])
@pytest.mark.parametrize("contract", CONTRACTS)
def test_R4_nothing_is_lost_in_silence_through_litellm(contract: str, model: str) -> None:
    assert lost(of_litellm(model), contract) == []


@pytest.mark.parametrize(
    ("model", "told"),
    [("mistral/mistral-medium-latest", True), ("openai/gpt-4o-mini", False), ("anthropic/claude-sonnet-4-5", False)],
)
@pytest.mark.xdist_group("litellm")
def test_R4_litellm_leaves_out_not_to_think_with_a_word(model: str, told: bool) -> None:
    body = b'{"model": "m", "think": false, "messages": [{"role": "user", "content": "hi"}]}'
    _, notices = of_litellm(model).written("ollama", body)
    assert [notice.param for notice in notices] == ["reasoning_effort"] * told


@pytest.mark.parametrize(("model", "told"), [("openai/gpt-5", True), ("openai/gpt-4o-mini", False)])
@pytest.mark.xdist_group("litellm")
def test_R4_litellm_leaves_out_a_temperature_with_a_word(model: str, told: bool) -> None:
    body = b'{"model": "m", "options": {"temperature": 0.5}, "messages": [{"role": "user", "content": "hi"}]}'
    _, notices = of_litellm(model).written("ollama", body)
    assert [notice.param for notice in notices] == ["temperature"] * told
