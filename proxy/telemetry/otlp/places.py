"""Where the requests of a backend go, as its row in the config says, for the attributes of spans."""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit


class Place(NamedTuple):
    """A provider and its address. `provider` is a preset or a kind; empty where the model's name begins with it."""

    provider: str = ""
    address: str = ""
    port: int = 0

    def provider_of(self, model: str) -> str:
        return self.provider or model.partition("/")[0]


Places = Mapping[str, Place]


def place(row: object) -> Place:
    """The place that a row of the config names."""
    kind = str(getattr(row, "kind", ""))
    azure = getattr(row, "azure", None)
    provider = "azure" if azure else getattr(row, "preset", None) or kind
    url = urlsplit(
        str(getattr(azure or row, "endpoint" if azure else "base_url", "") or getattr(row, "address", "") or "")
    )
    port = url.port or {"https": 443, "http": 80}.get(url.scheme, 0)
    return Place("" if provider == "litellm" else str(provider), url.hostname or "", port if url.hostname else 0)
