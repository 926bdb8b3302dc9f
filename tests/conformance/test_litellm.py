"""litellm keeps to what every backend must, through three of its providers and their real wires."""

from __future__ import annotations

import pytest

from proxy.testing.backend import CANARY, BackendCase, UpstreamConformance
from proxy.testing.wires import AnthropicWire, OllamaWire, OpenAIWire

pytestmark = [
    pytest.mark.xdist_group("litellm"),
    # Its types warn when they are first built. It silences that itself, but only as long as the test that imports it.
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict:UserWarning"),
]


class TestThroughOpenAI(UpstreamConformance):
    case = BackendCase(
        kind="litellm",
        target="openai/scripted-1",
        row=lambda upstream: {"api_key": CANARY, "api_base": upstream.url},
        wire=OpenAIWire(),
        always_streams=True,
    )


class TestThroughAnthropic(UpstreamConformance):
    case = BackendCase(
        kind="litellm",
        target="anthropic/claude-sonnet-4-5",
        row=lambda upstream: {"api_key": CANARY, "api_base": upstream.origin},
        wire=AnthropicWire(),
        always_streams=True,
    )


class TestThroughOllama(UpstreamConformance):
    case = BackendCase(
        kind="litellm",
        target="ollama_chat/scripted-1",
        row=lambda upstream: {"api_key": CANARY, "api_base": upstream.origin},
        wire=OllamaWire(),
        always_streams=True,
    )
