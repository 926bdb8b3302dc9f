"""The order in which each picker tries targets, from statistics that are made up here and by a clock of the test's own."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from decimal import Decimal
from typing import get_args

import pytest

from proxy.config.models import RouteSettings
from proxy.contracts.base import registered
from proxy.errors import UpstreamTimeout
from proxy.pipeline.targets import TargetStates
from proxy.request import ChatRequest, Message, Text
from proxy.routing.conditions import Facts
from proxy.routing.pick import PICKERS, NothingKnown, Picker, Stats, Weighted, sticky_to
from proxy.routing.plan import Target
from proxy.routing.principal import Principal

A, B, C = (Target(name, "m") for name in "abc")


class Known(NothingKnown):
    """What a test says is known."""

    def __init__(self, now: float = 100.0, **stats: Stats) -> None:
        self._now, self._stats = now, stats

    def now(self) -> float:
        return self._now

    def stats(self, target: Target) -> Stats:
        return self._stats.get(target.backend, Stats())


def picker(pick: str, *, sticky: str | None = None, name: str = "r", prices: dict[str, str] | None = None) -> Picker:
    settings = RouteSettings.model_validate({"name": name, "to": "a/m", "pick": pick, "sticky": sticky})

    def price(target: Target, input_tokens: int, output_tokens: int) -> Decimal | None:
        found = (prices or {}).get(target.backend)
        return None if found is None else Decimal(found) * (input_tokens + output_tokens)

    return PICKERS[pick](settings, price)


def usable(*weights: float) -> list[Weighted]:
    return [Weighted(Target("abcdefghijkl"[at], "m"), weight) for at, weight in enumerate(weights)]


def facts(id: str = "q", text: str = "hi", **keys: object) -> Facts:
    principal = keys.pop("principal", None)
    messages = keys.pop("messages", (Message("user", (Text(text),)),))
    request = ChatRequest(id=id, contract="chat", dialect="chat", messages=messages, **keys)  # type: ignore[arg-type]
    return Facts(request, principal)  # type: ignore[arg-type]


def order(
    chosen: Picker, targets: list[Weighted], id: str = "q", states: NothingKnown | TargetStates | None = None
) -> str:
    return "".join(target.backend for target in chosen.order(targets, facts(id), states or NothingKnown()))


def test_every_picker_that_the_config_accepts_is_there_and_no_other() -> None:
    names = get_args(RouteSettings.model_fields["pick"].annotation)
    assert set(PICKERS) == set(names)


def test_every_option_that_a_contract_declares_is_one_that_routes_have() -> None:
    declared = {name for point in registered().values() for name in getattr(point.load(), "route_settings", ())}
    said = RouteSettings.model_validate(
        {"name": "r", "to": "a/m", "dialect": "json", "errors": "frame", "reasoning_field": "both"}
    )
    assert set(said.options) == declared


@pytest.mark.parametrize("pick", PICKERS)
def test_every_picker_keeps_all_targets_also_one_that_is_listed_twice(pick: str) -> None:
    targets = [*usable(1, 2, 3), Weighted(A, 1)]
    for id in range(20):
        assert Counter(order(picker(pick), targets, str(id))) == Counter("aabc")


# -- weighted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_weights_hold_within_one_percent_over_10000_requests(seed: int) -> None:
    chosen, targets, random_ = picker("weighted"), usable(70, 20, 10), random.Random(seed)
    drawn = Counter(order(chosen, targets, f"{random_.getrandbits(128):032x}")[0] for _ in range(10_000))
    for name, share in (("a", 0.7), ("b", 0.2), ("c", 0.1)):
        assert drawn[name] / 10_000 == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_target_that_comes_or_goes_moves_only_its_share(seed: int) -> None:
    chosen, random_ = picker("weighted", sticky="user"), random.Random(seed)
    ids = [f"{random_.getrandbits(64):x}" for _ in range(5000)]
    three, four = usable(1, 1, 1), usable(1, 1, 1, 1)
    before, after = ([order(chosen, targets, id)[0] for id in ids] for targets in (three, four))
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {"d"}, "nothing moves between those that were there"
    assert len(moved) / 5000 == pytest.approx(0.25, abs=0.02)


def test_a_changed_weight_moves_only_what_it_takes() -> None:
    chosen = picker("weighted")
    moved = Counter(
        (old, new) for id in range(5000) if (old := order(chosen, usable(1, 1), str(id))[0]) != (new := order(chosen, usable(1, 2), str(id))[0])
    )  # fmt: skip
    assert set(moved) == {("a", "b")}
    assert moved.total() / 5000 == pytest.approx(1 / 6, abs=0.02)


def test_the_fallbacks_of_a_draw_are_drawn_too_and_weight_0_is_last() -> None:
    orders = Counter(order(picker("weighted"), usable(1, 1, 1, 0), str(id)) for id in range(400))
    assert len(orders) == 6
    assert {one[-1] for one in orders} == {"d"}


CONVERSATIONS = [
    ({"raw_body": {"prompt_cache_key": "k1"}}, "prompt_cache_key"),
    ({"raw_body": {"conversation": "c1"}}, "conversation"),
    ({"raw_body": {"conversation": {"id": "c1"}}}, "conversation"),
    ({"raw_body": {"thread_id": "t1"}}, "thread_id"),
    ({"raw_body": {"threadId": "t1"}}, "threadId"),
    ({"raw_body": {"chat_id": "i1"}}, "chat_id"),
    ({"metadata": {"conversation_id": "m1"}}, "conversation_id"),
    ({"headers": {"session_id": "s1"}}, "session_id"),
    ({"user": "u1"}, "user"),
]


@pytest.mark.parametrize(("keys", "name"), CONVERSATIONS)
def test_a_conversation_is_known_by_what_the_client_gives(keys: dict[str, object], name: str) -> None:
    found, value = sticky_to("conversation", facts(**keys))
    assert (found, len(value or "")) == (name, 2)
    assert sticky_to("conversation", facts(text="another", **keys)) == (found, value)


def test_an_id_of_the_conversation_counts_more_than_its_user_and_both_more_than_how_it_began() -> None:
    assert sticky_to("conversation", facts(user="u", metadata={"thread_id": "t"})) == ("thread_id", "t")
    begun = (Message("system", (Text("be nice"),)), Message("user", (Text("hello"),)))
    other = (Message("system", (Text("be brief"),)), Message("user", (Text("hello"),)))
    name, value = sticky_to("conversation", facts(messages=begun))
    assert name == "how it began"
    grown = (*begun, Message("assistant", (Text("hi"),)), Message("user", (Text("and then?"),)))
    assert sticky_to("conversation", facts(messages=grown))[1] == value
    assert sticky_to("conversation", facts(messages=other))[1] != value
    assert sticky_to("key", facts(principal=Principal("k"))) == ("key", "k")


# -- least-busy, cheapest --------------------------------------------------------------------------------------


def test_least_busy_takes_the_fewest_open_streams_for_their_weight() -> None:
    states = Known(a=Stats(open=4), b=Stats(open=3), c=Stats(open=9))
    assert order(picker("least-busy"), usable(1, 1, 1), states=states) == "bac"
    assert order(picker("least-busy"), usable(1, 1, 10), states=states) == "cba"
    assert order(picker("least-busy"), usable(0, 1, 1), states=states) == "bca"
    assert picker("least-busy").shares(usable(0, 1, 1)) == [0, 0.5, 0.5]
    assert picker("least-busy").shares(usable(0, 0)) == [0.5, 0.5]


def test_least_busy_draws_equals_by_weight() -> None:
    drawn = Counter(order(picker("least-busy"), usable(3, 1), str(id))[0] for id in range(4000))
    assert drawn["a"] == pytest.approx(3000, abs=120)


def test_cheapest_takes_the_lowest_price_and_an_unknown_one_last() -> None:
    chosen = picker("cheapest", prices={"b": "3", "c": "2", "d": "0"})
    assert order(chosen, usable(1, 1, 1)) == "cba"
    assert order(chosen, usable(1, 1, 1, 1)) == "dcba", "what costs nothing is known to"
    assert chosen.note(Weighted(A, 1), facts(), NothingKnown()) == "price unknown"
    assert chosen.note(Weighted(B, 1), facts(params={"max_tokens": 9}), NothingKnown()) == "about $3.0e+3"


# -- least-latency ---------------------------------------------------------------------------------------------


def measured(first_token_s: float, open: int = 0, begun: int = 1, sampled_at: float = 100.0) -> Stats:
    return Stats(open=open, begun=begun, first_token_s=first_token_s, sampled_at=sampled_at)


def test_least_latency_takes_the_shortest_expected_wait() -> None:
    states = Known(a=measured(0.2, open=3), b=measured(0.5, begun=2), c=measured(0.3))
    assert order(picker("least-latency"), usable(1, 1, 1), states=states) == "cba"


def test_least_latency_measures_a_new_target_with_one_request_at_a_time() -> None:
    chosen, three = picker("least-latency"), usable(1, 1, 1)
    assert order(chosen, three, states=Known(a=measured(0.2))) == "bca"
    assert order(chosen, three, states=Known(a=measured(0.2), b=Stats(open=1, begun=2))) == "cab"
    probing = Known(a=measured(0.2), b=Stats(open=1, begun=2), c=Stats(open=1, begun=3))
    assert order(chosen, three, states=probing)[0] == "a"


def test_least_latency_keeps_its_target_until_another_is_a_tenth_better() -> None:
    chosen, two = picker("least-latency"), usable(1, 1)
    assert order(chosen, two, states=Known(a=measured(0.95), b=measured(1.0, begun=2))) == "ba"
    assert order(chosen, two, states=Known(a=measured(0.85), b=measured(1.0, begun=2))) == "ab"


def test_least_latency_compares_two_of_many() -> None:
    states = Known(a=measured(0.1, begun=9), **{name: measured(1.0) for name in "bcdef"})
    drawn = Counter(order(picker("least-latency"), usable(*[1] * 6), str(id), states)[0] for id in range(3000))
    assert drawn["a"] / 3000 == pytest.approx(1 / 3, abs=0.03), "whenever it is one of the two"
    assert min(drawn[name] for name in "bcdef") > 300


class Served:
    """Targets that answer in so many seconds, asked as `pick` says, one request after another."""

    def __init__(self, *, seconds: dict[str, float], gap_s: float) -> None:
        self.now, self.gap_s, self.seconds = 1000.0, gap_s, seconds
        self.states = TargetStates(lambda: self.now, failures=0)
        self.chosen, self.targets = picker("least-latency"), usable(*[1] * len(seconds))
        self.asked = 0

    def serve(self, requests: int) -> str:
        """The target of each request."""
        first = ""
        for _ in range(requests):
            self.asked += 1
            target = self.chosen.order(self.targets, facts(f"id-{self.asked}"), self.states)[0]
            self.states.begin(target)
            self.now += self.seconds[target.backend]
            self.states.first_token(target, self.seconds[target.backend])
            self.states.end(target, None)
            self.now += self.gap_s
            first += target.backend
        return first


@pytest.mark.parametrize("gap_s", [0.01, 1.0, 60.0])
def test_least_latency_leaves_a_target_that_became_slow_within_20_requests_and_does_not_flap(gap_s: float) -> None:
    served = Served(seconds={"a": 0.2, "b": 0.25}, gap_s=gap_s)
    assert served.serve(50).strip("b").count("b") <= 3
    served.seconds["a"] = 2.0
    assert "a" not in served.serve(20)[2:]
    after = served.serve(500)
    changes = sum(one != next_ for one, next_ in itertools.pairwise(after))
    assert after.count("a") <= 25, "what it costs to see whether it is well again"
    assert changes <= 2 * after.count("a")


def test_least_latency_comes_back_when_a_target_is_well_again() -> None:
    served = Served(seconds={"a": 3.0, "b": 0.5}, gap_s=0.5)
    served.serve(20)
    served.seconds["a"] = 0.1
    assert served.serve(400)[-100:].count("a") > 95


def test_streams_that_wait_for_a_target_send_others_elsewhere_before_it_is_known_to_be_slow() -> None:
    served = Served(seconds={"a": 0.2, "b": 0.3}, gap_s=0)
    served.serve(10)
    for _ in range(10):  # nothing comes from it any more
        target = served.chosen.order(served.targets, facts(), served.states)[0]
        served.states.begin(target)
    assert served.states.stats(A).open < 8


def test_a_failure_counts_as_the_longest_wait() -> None:
    served = Served(seconds={"a": 0.2, "b": 0.3}, gap_s=0)
    served.serve(10)
    served.states.begin(A)
    served.states.end(A, UpstreamTimeout("nothing came"))
    assert served.states.stats(A).first_token_s == pytest.approx(A.first_token_s)
    assert served.serve(1) == "b"
