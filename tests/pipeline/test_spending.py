"""Budgets: what is reserved and settled, when a period ends, and that no more is spent than there is."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from structlog.testing import capture_logs

from proxy.config.budgets import BudgetSettings
from proxy.config.models import KeySettings, Settings
from proxy.pipeline.admission import Admission
from proxy.pipeline.spending import BILLION, Budget, Budgets, period
from proxy.policy.prices import Prices
from proxy.request import ChatRequest, Message, Text
from proxy.routing.plan import Plan, Target
from proxy.routing.principal import Principal
from proxy.store.base import Lease, Room, Want
from proxy.store.memory import MemoryStore
from proxy.store.rules import Counting, Outputs
from proxy.telemetry.metrics import Metrics


def budget(**more: Any) -> BudgetSettings:
    return BudgetSettings.model_validate({"usd": 5.0, **more})


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("per", "reset", "now", "began", "ends"),
    [
        ("day", "00:00 UTC", "2026-11-30 13:00", "2026-11-30 00:00", "2026-12-01 00:00"),
        ("day", "06:30", "2026-11-30 06:29", "2026-11-29 06:30", "2026-11-30 06:30"),
        ("week", "00:00 UTC", "2026-12-03 13:00", "2026-11-30 00:00", "2026-12-07 00:00"),
        ("week", "12:00 UTC", "2026-11-30 11:59", "2026-11-23 12:00", "2026-11-30 12:00"),
        ("month", "00:00 UTC", "2026-12-31 23:59", "2026-12-01 00:00", "2027-01-01 00:00"),
        ("month", "12:00 UTC", "2026-12-01 11:00", "2026-11-01 12:00", "2026-12-01 12:00"),
    ],
)
def test_a_period_begins_and_ends(per: str, reset: str, now: str, began: str, ends: str):
    assert period(budget(per=per, reset=reset), at(now)) == (at(began), at(ends))


def test_a_day_in_oslo_may_have_23_hours():
    began, ends = period(budget(per="day", reset="00:00 Europe/Oslo"), at("2026-03-29 12:00", "Europe/Oslo"))
    assert ends is not None
    assert (ends - began, began) == (23 * 3600, at("2026-03-29 00:00", "Europe/Oslo"))


def test_what_is_spent_altogether_never_begins_again():
    assert period(budget(per="total"), 1e9) == (0.0, None)


@given(now=st.floats(1.6e9, 2.2e9), per=st.sampled_from(["day", "week", "month"]), hour=st.integers(0, 23),
       zone=st.sampled_from(["UTC", "Europe/Oslo", "America/New_York", "Asia/Kolkata"]))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_now_is_in_its_period_and_the_next_begins_where_it_ends(now: float, per: str, hour: int, zone: str):
    given = budget(per=per, reset=f"{hour:02}:00 {zone}")
    began, ends = period(given, now)
    assert ends is not None
    assert began <= now < ends
    assert period(given, ends)[0] == ends
    assert period(given, began)[0] == began


@pytest.mark.parametrize("reset", ["24:00", "midnight", "00:00 Atlantis", "00:00 ../etc"])
def test_a_time_that_is_none_is_refused(reset: str):
    with pytest.raises(ValueError, match="reset"):
        budget(reset=reset)


REQUESTS = st.lists(
    st.tuples(st.integers(0, BILLION), st.floats(0, 1), st.booleans()), min_size=1, max_size=30
)  # worst case, the part of it that it cost, and whether another one begins before it ends


@given(requests=REQUESTS, usd=st.floats(0.1, 3.0))
@settings(max_examples=200, deadline=None)
def test_no_more_is_spent_than_there_is_and_all_that_is_spent_is_counted(requests: Any, usd: float):
    store, prices = MemoryStore(lambda: 0.0), Prices({}, {})
    meter = Budget.of(budget(usd=usd), "key", "web", at("2026-11-30 13:00"), prices).meter
    under_way: list[tuple[Lease, int]] = []
    spent = 0

    def end_all() -> int:
        total = 0
        while under_way:
            lease, cost = under_way.pop()
            store.settle(lease, [cost])
            total += cost
        return total

    for worst, part, overlaps in requests:
        lease = Lease(60.0, (Want(meter, 0, min(worst, meter.limit)),))
        reserved = sum(one.wants[0].hold for one, _ in under_way)
        taken, (room,) = store.take_now(lease)
        assert taken == (spent + reserved + lease.wants[0].hold <= meter.limit)
        if taken:
            under_way.append((lease, int(lease.wants[0].hold * part)))
        if not overlaps:
            spent += end_all()
    spent += end_all()
    assert spent <= meter.limit
    _, (room,) = store.take_now(Lease(60.0, (Want(meter, 0, 0),)))
    assert room.left == pytest.approx(meter.limit - spent)


def test_a_budget_that_is_nearly_used_is_warned_of_once_in_a_period():
    auth = {"budget": {"usd": 5.0, "warn_at": 0.5}, "keys": [{"name": "web", "sha256": "0" * 64}]}
    given = Settings.model_validate(
        {"auth": auth, "backends": {"a": {"kind": "echo"}}, "routes": [{"name": "r", "to": ["a/m"]}]}
    )
    budgets = Budgets(given, Prices({}, {}))
    (one,) = budgets.all([Principal("web")])

    def used(usd: float) -> None:
        budgets.watch([one], [Want(one.meter, 0, 0)], [Room((5 - usd) * BILLION, 0.0)])

    with capture_logs() as logged:
        used(2.49)
        assert logged == []
        for usd in (2.5, 4.0, 5.0):
            used(usd)
        (said,) = logged
        assert said == {
            "event": "budget_nearly_used", "log_level": "warning", "scope": "key", "name": "web", "usd": 5.0, "left": 2.5
        }  # fmt: skip
        one = msgspec.structs.replace(one, meter=msgspec.structs.replace(one.meter, name="the next period's"))
        used(2.5)
        assert len(logged) == 2


@pytest.mark.parametrize(
    ("row", "usd"), [({}, 5.0), ({"budget": {"usd": 1.0}}, 1.0), ({"budget": None}, None)], ids=["none", "own", "null"]
)
def test_a_keys_own_budget_takes_the_place_of_the_common_one_and_null_is_no_budget(row: dict[str, Any], usd: float):
    key = {"name": "web", "sha256": "0" * 64, **row}
    auth = {"budget": {"usd": 5.0}, "keys": [key]}
    given = Settings.model_validate(
        {"auth": auth, "backends": {"a": {"kind": "echo"}}, "routes": [{"name": "r", "to": ["a/m"]}]}
    )
    found = Budgets(given, Prices({}, {})).of(Principal.of(KeySettings.model_validate(key)), "r")
    assert [one.settings.usd for one in found] == ([] if usd is None else [usd])


def test_what_a_process_knew_before_it_began_is_not_counted_twice():
    store = MemoryStore(lambda: 0.0)
    meter = Budget.of(budget(), "key", "web", at("2026-11-30 13:00"), Prices({"a": SimpleNamespace()}, {})).meter
    store.remember(meter, 4 * BILLION)
    store.remember(meter, 4 * BILLION)
    taken, _ = store.take_now(Lease(60.0, (Want(meter, 0, 2 * BILLION),)))
    assert not taken


async def test_a_second_budget_that_is_used_up_is_downgraded_too():
    """What the first budget names costs more than the second has left: the second one's own word counts then."""
    given = Settings.model_validate(
        {
            "auth": {"keys": [{"name": "web", "sha256": "0" * 64, "budget": {"usd": 0.001, "downgrade_to": "a/next"}}]},
            "backends": {"a": {"kind": "echo"}},
            "routes": [{"name": "r", "to": ["a/first"], "budget": {"usd": 0.002, "downgrade_to": "a/last"}}],
            "prices": {
                name: {"input_per_million": 0, "output_per_million": usd}
                for name, usd in (("first", 10), ("next", 30), ("last", 1))
            },
        }
    )
    prices = Prices({"a": object()}, given.prices)
    admission = Admission(given, Counting(MemoryStore(lambda: 0.0), Outputs(), Metrics().limits), prices)
    request = ChatRequest(
        id="1", contract="openai", dialect="openai", messages=(Message("user", (Text("hi"),)),),
        params={"max_tokens": 100},
    )  # fmt: skip
    plan = Plan(route="r", targets=(Target("a", "first"),))
    web = Principal.of(given.auth.keys[0])
    assert (await admission.admit(request, web, plan)).plan.targets == plan.targets
    admitted = await admission.admit(request, web, plan)
    assert admitted.plan.targets == (Target("a", "last"),)
    assert [notice.param for notice in admitted.notices] == ["model", "model"]
