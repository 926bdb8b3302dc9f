"""How much may be spent: `budget:` of keys and routes."""

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from proxy.config.base import Model, setting

_RESET = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?: ([A-Za-z0-9_+/-]+))?")

MOST_USD = 90_000  # a double holds billionths of it exactly


class BudgetSettings(Model):
    """How much may be spent in a day, a week, a month or altogether."""

    usd: Annotated[float, Field(gt=0, le=MOST_USD)] = Field(description="US dollars.")
    per: Literal["day", "week", "month", "total"] = setting(
        "month", "When it begins again: each day, on Mondays, on the first of the month, or never."
    )
    reset: str = setting("00:00 UTC", "At which time of that day, and where: `HH:MM`, or `HH:MM Europe/Oslo`.")
    warn_at: float = setting(0.8, "Which part of it may be used before the log warns.", gt=0, le=1)
    unknown_price: Literal["allow", "deny"] = setting(
        "allow", "Targets without a known price: ask them, and count nothing, or do not ask them."
    )
    downgrade_to: str | None = setting(
        None,
        "`backend/model` that answers instead when the budget is used up. Left out: the answer is a 402.",
        min_length=1,
    )
    on_outage: Literal["allow", "deny", "local"] = setting(
        "local", "While the store cannot be reached: as with `limits`."
    )

    @field_validator("reset")
    @classmethod
    def _time_and_zone(cls, reset: str) -> str:
        found = _RESET.fullmatch(reset)
        if found is None:
            raise ValueError("write a time and a zone, such as `00:00 UTC` or `06:30 Europe/Oslo`")
        try:
            ZoneInfo(found[3] or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"this machine knows no time zone {found[3]!r}; `UTC` and `Europe/Oslo` are such"
            ) from None
        return reset

    @property
    def at(self) -> tuple[int, int, ZoneInfo]:
        """Hour, minute and zone of `reset`."""
        found = _RESET.fullmatch(self.reset)
        assert found is not None
        return int(found[1]), int(found[2]), ZoneInfo(found[3] or "UTC")
