"""What a request cost, by the prices of its config."""

from decimal import Decimal

from proxy.config.models import Settings
from proxy.pipeline.spending import has_budgets
from proxy.policy.prices import Prices
from proxy.telemetry.record import StreamRecord


def counts_costs(settings: Settings) -> bool:
    """Whether the costs of requests are needed. A config with prices of its own shows them."""
    return settings.usage is not None or bool(settings.prices) or has_budgets(settings)


def needs_prices(settings: Settings) -> bool:
    """Whether prices are looked up at all."""
    return counts_costs(settings) or any(route.pick == "cheapest" for route in settings.routes)


def price_attempts(record: StreamRecord, prices: Prices) -> None:
    """Say of each attempt what it cost, as far as its tokens and a price are known."""
    record.priced = True
    for attempt in record.attempts:
        if not attempt.started_at or attempt.cost_usd is not None:
            continue
        if attempt.free:
            attempt.cost_usd = Decimal(0)
        elif attempt.usage is not None and (price := prices.price(attempt.backend, attempt.model)) is not None:
            attempt.cost_usd, attempt.price = price.dollars(attempt.usage), price.source
