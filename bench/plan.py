"""Which proxies are measured under which load, in turns: one turn is one load, all its proxies one after the other.

A ratio is taken between two figures of the same turn, or of the same round of one run, never across runs. A turn is
also what a run that was broken off is resumed by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bench.workloads import WORKLOADS

EVERYWHERE = ("direct", "chat", "openai", "nginx", "haproxy", "envoy", "smg", "vllm-router", "portkey", "litellm")

ONLY = {
    "tls": ("chat", "openai", "nginx", "haproxy", "envoy", "portkey"),  # the load generator and the Rust routers cannot
    "even-200": ("direct", "chat", "openai", "nginx"),
    "paced-4000": ("direct", "chat", "openai", "nginx", "haproxy", "envoy", "smg", "vllm-router", "portkey"),
    "fast": ("direct", "chat", "openai", "nginx", "haproxy", "envoy", "smg", "vllm-router", "portkey"),
    "overload-200": ("chat", "openai", "nginx", "smg", "vllm-router"),
    "overload-400": ("chat", "openai", "nginx", "smg", "vllm-router"),
    "workers": ("chat-1-worker", "chat-2-workers"),
    "litellm": ("chat-litellm", "litellm-alone"),
}
"""LiteLLM carries a tenth of what the paced loads offer: two of them show it."""

BESIDES = {
    "burst": ("chat-aiohttp", "chat-team"),
    "whole": ("chat-team",),
    "paced-200": ("chat-team", "chat-tick-50", "chat-aiohttp", "chat-aiohttp-tick-50"),
    "fast": ("chat-tick-33",),
    "tls": ("chat-aiohttp",),
}

ONCE = {(load, "direct") for load in WORKLOADS} | {
    (load, proxy)
    for load in ("paced-1000", "paced-4000", "fast", "tls")
    for proxy in ("haproxy", "envoy", "smg", "vllm-router", "portkey", "litellm")
}
"""Measured in the first round only: no goal hangs on them."""


@dataclass(frozen=True)
class Turn:
    load: str
    round: int  # from 1
    proxies: tuple[str, ...]


def rows(load: str) -> tuple[str, ...]:
    """The proxies that are measured under a load."""
    return ONLY.get(load, EVERYWHERE) + BESIDES.get(load, ())


def turns(loads: Iterable[str], proxies: Collection[str], rounds: int) -> list[Turn]:
    """All turns of a run, in order. Turns that nobody is left for are left out."""
    found = []
    for count in range(1, rounds + 1):
        for load in loads:
            chosen = tuple(key for key in rows(load) if key in proxies and (count == 1 or (load, key) not in ONCE))
            if chosen:
                found.append(Turn(load, count, chosen))
    return found
