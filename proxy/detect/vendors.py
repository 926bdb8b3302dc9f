"""Vendors whose key is set: the usual variable of each kind and preset."""

from collections.abc import Mapping
from typing import NamedTuple

from proxy.backends.openai.compatible import PRESETS
from proxy.backends.settings import fault_of_key


class Vendor(NamedTuple):
    """A vendor, the variable with its key, the models that only it is asked for, and the one to begin with."""

    name: str
    kind: str
    variable: str
    models: tuple[str, ...] = ()
    first: str = ""


_MODELS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "openai": (("gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*"), "gpt-4o-mini"),
    "anthropic": (("claude-*",), "claude-sonnet-4-5"),
    "gemini": (("gemini-*", "gemma-*"), "gemini-2.5-flash"),
    "mistral": (("mistral-*", "codestral-*", "devstral-*", "magistral-*"), "mistral-small-latest"),
    "deepseek": (("deepseek-*",), "deepseek-chat"),
    "xai": (("grok-*",), "grok-4"),
    "moonshot": (("kimi-*",), ""),
    "minimax": (("MiniMax-*",), ""),
    "zai": (("glm-*",), ""),
    "qwen": (("qwen*", "qwq*"), ""),
    # These have models of many makers.
    "openrouter": ((), "openrouter/auto"),
    "groq": ((), "llama-3.3-70b-versatile"),
    "together": ((), "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
}
"""The names of a maker's own models, and one for those who ask for none."""

_KINDS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


def vendors() -> list[Vendor]:
    """All vendors, in the order in which one is chosen for requests that name no model."""
    keys = _KINDS | {
        name: preset.key_variable for name, preset in PRESETS.items() if preset.key_variable and not preset.ended
    }
    order = [*_MODELS, *(name for name in keys if name not in _MODELS)]
    return [
        Vendor(name, name if name in _KINDS else "openai-compatible", keys[name], *_MODELS.get(name, ()))
        for name in order
    ]


def with_key(environment: Mapping[str, str]) -> list[Vendor]:
    """Those whose key is set, and may be one. Nobody is asked."""
    return [vendor for vendor in vendors() if not fault_of_key(environment.get(vendor.variable, ""))]


def unusable(environment: Mapping[str, str]) -> dict[str, str]:
    """Why a key that is set cannot be one, by its variable."""
    found = {vendor.variable: environment.get(vendor.variable, "") for vendor in vendors()}
    return {variable: fault for variable, key in found.items() if key and (fault := fault_of_key(key))}
