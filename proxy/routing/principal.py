"""Who asks, and the headers that say so."""

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
    limits: KeyLimits | msgspec.UnsetType | None = msgspec.UNSET  # left out: those of `auth`; `None`: no limits
    budget: BudgetSettings | msgspec.UnsetType | None = msgspec.UNSET  # the same

    @classmethod
    def of(cls, key: KeySettings) -> Self:
        """Whoever presents this key."""
        given = {name: getattr(key, name) for name in ("limits", "budget") if name in key.model_fields_set}
        return cls(key.name, tuple(key.routes), tuple(key.models), **given)

    @property
    def restricted(self) -> bool:
        """Whether it may not reach everything. Data about other clients is only for those that may."""
        return bool(self.routes or self.models)


ANONYMOUS = Principal("anonymous")
"""Every client, where no key is required."""
