"""What vendors refuse: for each dialect, a check of a request's body that lists what its server would answer 400 to.

Written from the vendors' documents and from the errors that their users report, without a look at the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.grammars import anthropic, openai

Check = Callable[[Mapping[str, Any]], list[str]]

CHECKS: Mapping[str, Check] = {
    "openai": openai.openai,
    "bedrock": openai.bedrock,
    "compatible": openai.local,
    "deepseek": openai.deepseek,
    "gemini": openai.gemini,
    "groq": openai.groq,
    "lmstudio": openai.lmstudio,
    "mistral": openai.mistral,
    "moonshot": openai.moonshot,
    "ollama": openai.ollama,
    "openrouter": openai.openrouter,
    "qwen": openai.qwen,
    "zai": openai.zai,
    "anthropic": anthropic.messages,
}
"""By dialect, or by the vendor whose form of OpenAI's dialect it is."""
