"""Who asks, and the headers that say so."""

from __future__ import annotations

from typing import Self

import msgspec

from proxy.config.budgets import BudgetSettings
from proxy.config.limits import KeyLimits
from proxy.config.models import KeySettings

KEY_HEADERS = ("authorization", "x-api-key", "api-key")
"""Where clients put keys: as OpenAI, Anthropic and Azure do."""

SECRET_HEADERS = frozenset({*KEY_HEADERS, "proxy-authorization", "cookie"})
"""Request headers whose values are never shown and never forwarded."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks: the key's name and what it may reach. Empty means everything."""

    name: str
    routes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    limits: KeyLimits | None = None
    budget: BudgetSettings | None = None

    @classmethod
    def of(cls, key: KeySettings) -> Self:
        """Whoever presents this key."""
        return cls(key.name, tuple(key.routes), tuple(key.models), key.limits, key.budget)

    @property
    def restricted(self) -> bool:
        """Whether it may not reach everything. Only who may sees what concerns others."""
        return bool(self.routes or self.models)


ANONYMOUS = Principal("anonymous")
"""Whoever asks where no keys are asked for."""
