"""What tokens cost: the config's own prices, else those of the package genai-prices, which has them on disk.

A price that is not known is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache

from proxy.config.models import PriceSettings
from proxy.routing.plan import Target

_PROVIDERS = {"bedrock": "aws", "gemini": "google", "moonshot": "moonshotai", "vertex_ai": "google", "xai": "x-ai"} | {
    "together_ai": "together",
    "fireworks_ai": "fireworks",
}
"""Presets, and litellm's names of providers, by genai-prices' ids where they differ."""

_MILLION = Decimal(1_000_000)


class Prices:
    """The prices of one config. `rows` are its backends that are on."""

    def __init__(self, rows: Mapping[str, object], own: Mapping[str, PriceSettings]) -> None:
        self._rows = rows
        self._own = own

    def of(self, target: Target, input_tokens: int, output_tokens: int) -> Decimal | None:
        """What these tokens cost at a target, in US dollars."""
        for pattern, price in self._own.items():
            if fnmatchcase(target.model, pattern) or fnmatchcase(str(target), pattern):
                dollars = _dollars(price.input_per_million) * input_tokens
                return (dollars + _dollars(price.output_per_million) * output_tokens) / _MILLION
        row = self._rows.get(target.backend)
        return price_of(*_provider(row, target.model), input_tokens, output_tokens) if row is not None else None


def _dollars(number: float) -> Decimal:
    return Decimal(str(number))


def _provider(row: object, model: str) -> tuple[str, str]:
    """The provider that a row asks, or its address where it names none, and the model by the provider's name."""
    kind = str(getattr(row, "kind", ""))
    if kind == "litellm":
        provider, _, model = model.rpartition("/")[0].partition("/")[0], "", model.partition("/")[2] or model
    else:
        provider = getattr(row, "preset", None) or ("" if kind == "openai-compatible" else kind)
    return _PROVIDERS.get(provider, provider) or str(getattr(row, "address", "")), model


@lru_cache(maxsize=4096)
def price_of(provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
    """The list price; `provider` is an id of genai-prices or a base address. The first call takes half a second."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - half a second that most configs need not spend

    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    try:
        if "://" in provider:
            return calc_price(usage, model, provider_api_url=provider).total_price
        return calc_price(usage, model, provider_id=provider).total_price
    except LookupError:
        return None
