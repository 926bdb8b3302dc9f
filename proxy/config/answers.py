"""How the answers of a route are asked for."""

from typing import Literal, Self

from pydantic import model_validator

from proxy.config.base import Model, setting


class HedgeSettings(Model):
    """When a second target is asked because the first is slow to begin. Give `after_ms` or `after_percentile`."""

    after_ms: float | None = setting(None, "After so many milliseconds without content.", gt=0, le=600_000)
    after_percentile: float | None = setting(
        None, "After the time within which so many percent of the first target's latest answers began.", ge=50, lt=100
    )
    on_lose: Literal["cancel", "drain"] = setting(
        "cancel",
        "What becomes of the slower one: it is closed, or read to its end, for at most 30 s, for vendors that "
        "bill it anyway and say at the end how much.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.after_ms is None) == (self.after_percentile is None):
            raise ValueError("say `after_ms` or `after_percentile`, one of the two")
        return self


class SmoothSettings(Model):
    """Text word by word, where the upstream sends it in bursts."""

    max_lag_ms: float = setting(250, "How late a word may be at most, in milliseconds.", ge=20, le=10_000)
