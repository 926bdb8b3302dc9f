"""What answers cost, by the price list and by hand."""

from __future__ import annotations

import itertools
import random
from decimal import Decimal
from types import SimpleNamespace

import pytest
from genai_prices import Usage as Listed
from genai_prices import calc_price
from genai_prices.data import providers

from proxy.config.models import PriceSettings
from proxy.contracts.anthropic.events import read_usage as anthropic
from proxy.contracts.openai.chunks import read_usage as openai
from proxy.policy.prices import Prices, _provider, listed
from proxy.request import Usage
from proxy.routing.plan import Target

OWN = {
    "cheap-*": {"input_per_million": 1.0, "output_per_million": 2.0},
    "far/full": {
        "input_per_million": 1.0,
        "output_per_million": 8.0,
        "cached_input_per_million": 0.1,
        "cache_write_per_million": 1.25,
        "reasoning_per_million": 10.0,
        "audio_input_per_million": 10.0,
        "audio_output_per_million": 42.0,
    },
}


def prices() -> Prices:
    rows = {
        "openai": SimpleNamespace(kind="openai"),
        "anthropic": SimpleNamespace(kind="anthropic"),
        "far": SimpleNamespace(kind="openai-compatible", address="https://models.example/v1"),
        "litellm": SimpleNamespace(kind="litellm"),
    }
    return Prices(rows, {pattern: PriceSettings.model_validate(price) for pattern, price in OWN.items()})


RECORDED = [
    # gpt-4o: 2.50 in, 1.25 cached, 10 out
    ("openai", "gpt-4o", openai, {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}, "0.0026"),
    ("openai", "gpt-4o", openai, {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010,
      "prompt_tokens_details": {"cached_tokens": 200}}, "0.00235"),
    # gpt-5: 1.25 in, 0.125 cached, 10 out; reasoning is output
    ("openai", "gpt-5", openai, {"prompt_tokens": 2000, "completion_tokens": 900, "total_tokens": 2900,
      "prompt_tokens_details": {"cached_tokens": 1024}, "completion_tokens_details": {"reasoning_tokens": 832}}, "0.010348"),
    # claude-sonnet-4-5: 3 in, 15 out, 0.30 read, 3.75 written; Anthropic's input leaves both out
    ("anthropic", "claude-sonnet-4-5", anthropic, {"input_tokens": 12, "output_tokens": 100}, "0.001536"),
    ("anthropic", "claude-sonnet-4-5", anthropic, {"input_tokens": 12, "output_tokens": 100,
      "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 2000}, "0.010536"),
    # config, with one price for each
    ("far", "cheap-1", openai, {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, "0.00002"),
    ("far", "cheap-1", openai, {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
      "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}}, "0.00002"),
    ("far", "full", openai, {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
      "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
      "completion_tokens_details": {"reasoning_tokens": 40}}, "0.0005335"),
    # reasoning that the vendor leaves out of the output, as the total shows
    ("far", "full", openai, {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 150,
      "completion_tokens_details": {"reasoning_tokens": 40}}, "0.00058"),
    # gpt-realtime: 4 in, 16 out; 32 heard, 64 spoken
    ("openai", "gpt-realtime", openai, {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
      "prompt_tokens_details": {"audio_tokens": 60}, "completion_tokens_details": {"audio_tokens": 40}}, "0.0048"),
    # the list has no price for what this one hears
    ("openai", "gpt-4o-audio-preview", openai, {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
      "prompt_tokens_details": {"audio_tokens": 60}}, None),
    ("openai", "gpt-4o-audio-preview", openai, {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
      "prompt_tokens_details": {"audio_tokens": 0}}, "0.00075"),
    ("far", "full", openai, {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110,
      "prompt_tokens_details": {"audio_tokens": 60}, "completion_tokens_details": {"audio_tokens": 10}}, "0.00106"),
    ("far", "nobody-knows", openai, {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, None),
]  # fmt: skip


@pytest.mark.parametrize(("backend", "model", "read", "counts", "usd"), RECORDED)
def test_ten_answers_cost_what_they_cost_by_hand(backend, model, read, counts, usd):
    usage, price = read(counts), prices().price(backend, model)
    assert usage is not None
    assert (price and price.dollars(usage)) == (usd and Decimal(usd))


def test_the_list_is_read_as_the_package_reads_it():
    models = [(provider, model) for provider in providers for model in provider.models if model.prices]
    compared = 0
    for provider, model in random.Random(7).sample(models, 150):
        price = listed(provider.id, model.id)
        if price is None or price.output is None:
            continue
        for total, made in itertools.product((1000, 300_000), (0, 500)):
            usage = Usage(total, made, cached_tokens=total // 2, cache_write_tokens=total // 4)
            counts = Listed(
                input_tokens=total, output_tokens=made, cache_read_tokens=total // 2, cache_write_tokens=total // 4
            )
            expected = calc_price(counts, model.id, provider_id=provider.id).total_price
            assert price.dollars(usage) == expected, (provider.id, model.id)
            compared += 1
    assert compared > 200


def test_the_first_pattern_that_fits_counts_and_what_nobody_knows_is_none():
    assert prices().of(Target("far", "cheap-2"), 1_000_000, 1_000_000) == 3
    assert prices().of(Target("far", "gone"), 1, 1) is None
    assert prices().of(Target("off", "gpt-4o"), 1, 1) is None
    source = prices().price("openai", "gpt-4o")
    assert source is not None
    assert source.source.startswith("genai-prices ")


def test_a_price_without_output_prices_no_output():
    price = listed("openai", "text-embedding-3-small")
    assert price is not None
    assert price.dollars(Usage(1_000_000)) == Decimal("0.02")


def test_counts_that_cannot_be_are_no_discount():
    price = prices().price("far", "full")
    assert price is not None
    assert price.dollars(Usage(10, 5, cached_tokens=50, cache_write_tokens=50, reasoning_tokens=50)) == Decimal(
        "0.000051"
    )
    assert price.dollars(Usage(-10, -5)) == 0


@pytest.mark.parametrize(
    ("row", "model", "found"),
    [
        ({"kind": "openai"}, "gpt-4o", ("openai", "gpt-4o")),
        ({"kind": "litellm"}, "gemini/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ({"kind": "openai-compatible", "preset": "xai"}, "grok-4", ("x-ai", "grok-4")),
        ({"kind": "openai-compatible", "address": "https://h/v1"}, "m", ("https://h/v1", "m")),
    ],
)
def test_whose_price_it_is(row: dict[str, str], model: str, found: tuple[str, str]):
    assert _provider(SimpleNamespace(**row), model) == found
