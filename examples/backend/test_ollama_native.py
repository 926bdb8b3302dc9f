from proxy.testing.backend import CANARY, BackendCase, UpstreamConformance
from proxy.testing.wires import OllamaWire


class TestOllamaNative(UpstreamConformance):
    case = BackendCase(
        kind="ollama-native",
        row=lambda upstream: {"base_url": upstream.origin, "api_key": CANARY},
        wire=OllamaWire(),
        always_streams=True,
    )
