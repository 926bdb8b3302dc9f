"""`chat-proxy prices`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from proxy.cli.common import CONFIG, DEFAULT, load, stop

if TYPE_CHECKING:
    from proxy.policy.prices import Price, Rate

_NAMES = {
    "input": "input",
    "cached_input": "input, read from a cache",
    "cache_write": "input, written to a cache",
    "audio_input": "input, audio",
    "output": "output",
    "reasoning": "output, reasoning",
    "audio_output": "output, audio",
    "requests": "a thousand requests",
}


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.argument("model")
def prices(path: str, as_json: bool, model: str) -> None:
    """Say what a model costs, and where that is known from.

    MODEL is `backend/model` of the config, `provider/model`, or a model's name. The config's `prices` come
    first, then the list of the package genai-prices. Nothing is contacted. Exit 1 if no price is known.

    \b
    chat-proxy prices gpt-5
    chat-proxy prices anthropic/claude-sonnet-4-5 --json
    """  # noqa: D301
    found = _found(path, model)
    if found is None:
        stop(f"no price is known for {model}: its cost is unknown, unless you add it under `prices`", exit_code=1)
    if as_json:
        shown = {name: _as_data(getattr(found, name)) for name in _NAMES}
        click.echo(json.dumps({"model": model, "source": found.source, "usd_per_million": shown}, indent=2))
        return
    click.echo(f"{model}, by {found.source}, US dollars for a million tokens:")
    for name, said in _NAMES.items():
        if (rate := getattr(found, name)) is not None:
            click.echo(f"  {said:<26}{_in_words(rate)}")


def _found(path: str, model: str) -> Price | None:
    from proxy.policy.prices import Prices, listed  # noqa: PLC0415

    backend, slash, rest = model.partition("/")
    if path != DEFAULT or os.path.lexists(path):
        config = load(path, exit_code=1)
        own = Prices(config.backends, config.settings.prices)
        found = own.price(backend, rest) if slash else own.price("", model)
        if found is not None or backend in config.backends:
            return found
    return (listed(backend, rest) if slash else None) or listed("", model)


def _as_data(rate: Rate | None) -> object:
    """One number, or a list with the length of the input above which each begins."""
    if rate is None or len(rate) == 1:
        return None if rate is None else float(rate[0][1])
    return [{"above_input_tokens": max(0, start), "usd": float(price)} for start, price in rate]


def _in_words(rate: Rate) -> str:
    """Such as `3, above 200000 tokens of input 6`."""
    first, *more = rate
    return ", ".join([f"{first[1]:f}", *(f"above {start} tokens of input {price:f}" for start, price in more)])
