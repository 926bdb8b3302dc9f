"""The built-in backends keep to what every backend must."""

from __future__ import annotations

from proxy.backends.base import kinds
from tests.conformance.backend import CANARY, BackendConformance, Case, FarSideConformance
from tests.support.providers import AnthropicWire, OpenAIWire


class TestEcho(BackendConformance):
    case = Case(kind="echo", target="", row=lambda upstream: {})


class TestOpenAI(FarSideConformance):
    case = Case(
        kind="openai",
        row=lambda upstream: {"api_key": CANARY, "base_url": upstream.url},
        wire=OpenAIWire(),
    )


class TestOpenAICompatible(FarSideConformance):
    case = Case(
        kind="openai-compatible",
        row=lambda upstream: {"api_key": CANARY, "base_url": upstream.url},
        wire=OpenAIWire(),
    )


class TestAnthropic(FarSideConformance):
    case = Case(
        kind="anthropic",
        row=lambda upstream: {"api_key": CANARY, "base_url": upstream.url},
        wire=AnthropicWire(),
    )


def test_every_built_in_kind_has_a_case() -> None:
    here = {case.case.kind for case in (TestEcho, TestOpenAI, TestOpenAICompatible, TestAnthropic)}
    assert set(kinds()) == here | {"litellm"}  # that one is in test_litellm.py: importing it takes seconds
