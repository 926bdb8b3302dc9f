"""Import litellm, switch off what it does by itself, and check that it is a version that is known to work."""

import logging
import os
import re
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from proxy.backends.litellm.http import SHARED_CLIENTS
from proxy.errors import ConfigError

OLDEST = (1, 106)
"""1.82.7 and 1.82.8 were malicious, and older versions lack what this package builds on."""

REFUSED = frozenset({(1, 107)})
"""Withdrawn from the index and reported as compromised."""

_ENVIRONMENT = {
    # Read when litellm is imported: it fetches no price list or header list, and reads no `.env` file.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_MODE": "PRODUCTION",
}
_SWITCHES = {
    "disable_hf_tokenizer_download": True,
    "disable_stop_sequence_limit": True,  # it would send four of them, without a word
    "suppress_debug_info": True,
    "turn_off_message_logging": True,
    "disable_streaming_logging": True,
    "disable_token_counter": True,  # it would count every prompt on the loop, and fetch images for that
    "telemetry": False,
    "DEFAULT_MAX_RETRIES": 0,  # of embeddings, where it takes 0 for "not said"
}
_IMPORTED_LATE = ("openai.resources.chat", "litellm._service_logger")
_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")  # they log prompts and answers


def load(backend: str) -> tuple[Any, Any]:
    """litellm, and the handler for the providers that take one. Takes seconds. Raises `ConfigError`."""
    try:
        installed = version("litellm")
    except PackageNotFoundError:
        raise ConfigError(
            f"backend {backend}: kind litellm needs a package that is not installed: pip install 'chat-proxy[litellm]'"
        ) from None
    release = tuple(int(part) for part in re.findall(r"\d+", installed)[:2])
    if release < OLDEST or release in REFUSED:
        why = "is too old" if release < OLDEST else "was withdrawn"
        raise ConfigError(f"backend {backend}: litellm {installed} {why}: pip install -U 'chat-proxy[litellm]'")
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    litellm = import_module("litellm")
    for name, switch in _SWITCHES.items():
        setattr(litellm, name, switch)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Half a second of imports and type building, which would otherwise block the loop at the first request.
    _ = litellm.acompletion, litellm.get_llm_provider, litellm.AnthropicConfig, litellm.OllamaChatConfig
    litellm.ModelResponse()
    for module in _IMPORTED_LATE:
        with suppress(ImportError):
            import_module(module)
    if not hasattr(litellm.CustomStreamWrapper, "chunk_creator"):
        raise ConfigError(f"backend {backend}: litellm {installed} is newer than this version of chat-proxy supports")
    return litellm, SHARED_CLIENTS.set_up(litellm)
