"""The built-in backends keep to what every backend must."""

from __future__ import annotations

from proxy.backends.base import kinds
from proxy.testing.backend import CANARY, BackendCase, BackendConformance, UpstreamConformance
from proxy.testing.wires import AnthropicWire, OpenAIWire


class TestEcho(BackendConformance):
    case = BackendCase(kind="echo", target="", row=lambda upstream: {})


class TestOpenAI(UpstreamConformance):
    case = BackendCase(
        kind="openai",
        row=lambda upstream: {"api_key": CANARY, "base_url": upstream.url},
        wire=OpenAIWire(),
    )


class TestOpenAICompatible(UpstreamConformance):
    case = BackendCase(
        kind="openai-compatible",
        row=lambda upstream: {"api_key": CANARY, "base_url": upstream.url},
        wire=OpenAIWire(),
    )


class TestAnthropic(UpstreamConformance):
    case = BackendCase(
        kind="anthropic",
        row=lambda upstream: {"api_key": CANARY, "base_url": upstream.url},
        wire=AnthropicWire(),
    )


def test_every_built_in_kind_has_a_case() -> None:
    here = {case.case.kind for case in (TestEcho, TestOpenAI, TestOpenAICompatible, TestAnthropic)}
    assert set(kinds()) == here | {"litellm"}  # that one is in test_litellm.py: importing it takes seconds
