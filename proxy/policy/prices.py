"""What tokens cost: the config's own prices, else those of the package genai-prices, which has them on disk.

A price that is not known is `None`, never 0.
"""

import time
from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib.metadata import version

import msgspec

from proxy.config.models import PriceSettings
from proxy.request import Usage
from proxy.routing.plan import Target

_PROVIDERS = {
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "xai": "x-ai",
}
"""Presets, and litellm's names of providers, by genai-prices' ids where they differ."""

_MILLION = Decimal(1_000_000)

OWN = "config"
"""The source of the config's own prices."""

KNOWN_FOR_S = 600
"""How long a listed price is taken for the present one: some depend on the time of day, or begin on a date."""

Rate = tuple[tuple[int, Decimal], ...]
"""US dollars for a million tokens, each with the length of the input, in tokens, above which it is the one. Rising."""


class Price(msgspec.Struct, frozen=True):
    """What a model costs. A part whose rate is `None` costs what other input, or output, costs.

    Two costs are unknown instead: that of `output`, and in a list that of audio, which is many times that of text.
    """

    source: str  # `config`, or the package with its version, which dates its list
    input: Rate
    output: Rate | None
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    reasoning: Rate | None = None
    audio_input: Rate | None = None
    audio_output: Rate | None = None
    requests: Rate | None = None  # for a thousand of them, whatever is in them

    def dollars(self, usage: Usage) -> Decimal | None:
        """What these tokens cost."""
        total, made = max(0, usage.input_tokens), max(0, usage.output_tokens)
        # Most are 0, and then nothing is called: this is done twice a request.
        cached = usage.cached_tokens and min(max(0, usage.cached_tokens), total)
        written = usage.cache_write_tokens and min(max(0, usage.cache_write_tokens), total - cached)
        thought = usage.reasoning_tokens and min(max(0, usage.reasoning_tokens), made)
        heard = usage.audio_input_tokens and min(max(0, usage.audio_input_tokens), total - cached - written)
        spoken = usage.audio_output_tokens and min(max(0, usage.audio_output_tokens), made - thought)
        if made and self.output is None:
            return None
        if self.source != OWN and ((heard and self.audio_input is None) or (spoken and self.audio_output is None)):
            return None
        output = self.output or self.input
        parts = (
            (total - cached - written - heard, self.input),
            (heard, self.audio_input or self.input),
            (cached, self.cached_input or self.input),
            (written, self.cache_write or self.input),
            (made - thought - spoken, output),
            (spoken, self.audio_output or output),
            (thought, self.reasoning or output),
            (1000, self.requests),
        )
        return sum([count * _at(rate, total) for count, rate in parts if count and rate], Decimal(0)) / _MILLION


class Prices:
    """The prices of one config. `rows` are its backends that are on."""

    def __init__(self, rows: Mapping[str, object], own: Mapping[str, PriceSettings]) -> None:
        self._rows = rows
        self._own = {pattern: own_price(price) for pattern, price in own.items()}
        self._own_price = lru_cache(maxsize=4096)(self._matching)  # asked twice a request

    def is_on(self, backend: str) -> bool:
        """Whether there is such a backend."""
        return backend in self._rows

    def price(self, backend: str, model: str) -> Price | None:
        """What a target costs."""
        if self._own and (price := self._own_price(backend, model)) is not None:
            return price
        row = self._rows.get(backend)
        return listed(*_provider(row, model)) if row is not None else None

    def _matching(self, backend: str, model: str) -> Price | None:
        target = f"{backend}/{model}"
        for pattern, price in self._own.items():
            if fnmatchcase(model, pattern) or fnmatchcase(target, pattern):
                return price
        return None

    def of(self, target: Target, input_tokens: int, output_tokens: int) -> Decimal | None:
        """What these tokens cost at a target, in US dollars."""
        price = self.price(target.backend, target.model)
        return None if price is None else price.dollars(Usage(input_tokens, output_tokens))


def own_price(price: PriceSettings) -> Price:
    """A price of the config."""

    def rate(number: float | None) -> Rate | None:
        return None if number is None else ((-1, Decimal(str(number))),)

    return Price(
        OWN,
        rate(price.input_per_million) or (),
        rate(price.output_per_million),
        rate(price.cached_input_per_million),
        rate(price.cache_write_per_million),
        rate(price.reasoning_per_million),
        rate(price.audio_input_per_million),
        rate(price.audio_output_per_million),
    )


def _at(rate: Rate, input_tokens: int) -> Decimal:
    """The rate for a request with that much input: it is the rate of all its tokens."""
    found = rate[0][1]
    for start, price in rate[1:]:
        if input_tokens > start:
            found = price
    return found


def _provider(row: object, model: str) -> tuple[str, str]:
    """The provider that a row asks, or its address where it names none, and the model by the provider's name."""
    kind = str(getattr(row, "kind", ""))
    if kind == "litellm":
        provider, _, model = model.rpartition("/")[0].partition("/")[0], "", model.partition("/")[2] or model
    else:
        provider = getattr(row, "preset", None) or ("" if kind == "openai-compatible" else kind)
    return _PROVIDERS.get(provider, provider) or str(getattr(row, "address", "")), model


def listed(provider: str, model: str) -> Price | None:
    """The list price; `provider` is an id of genai-prices, a base address, or empty: whose model it is by its name.

    The first call takes half a second, the first for a model a millisecond.
    """
    return _listed(provider, model, int(time.time() // KNOWN_FOR_S))


@lru_cache(maxsize=4096)
def _listed(provider: str, model: str, _period: int) -> Price | None:
    from genai_prices import Usage as Nothing  # noqa: PLC0415 - half a second that most configs need not spend
    from genai_prices import calc_price  # noqa: PLC0415

    try:
        if "://" in provider:
            found = calc_price(Nothing(), model, provider_api_url=provider).model_price
        else:
            found = calc_price(Nothing(), model, provider_id=provider or None).model_price
    except (LookupError, ValueError):
        return None

    def rate(name: str) -> Rate | None:
        value = getattr(found, name, None)
        if value is None or isinstance(value, Decimal):
            return None if value is None else ((-1, value),)
        return ((-1, value.base), *((tier.start, tier.price) for tier in value.tiers))

    given = rate("input_mtok")
    if given is None:  # priced by the page, the minute, the request
        return None
    return Price(
        _source(),
        given,
        rate("output_mtok"),
        rate("cache_read_mtok"),
        rate("cache_write_mtok"),
        rate("output_reasoning_mtok"),
        rate("input_audio_mtok"),
        rate("output_audio_mtok"),
        rate("requests_kcount"),
    )


@cache
def _source() -> str:
    return f"genai-prices {version('genai-prices')}"
