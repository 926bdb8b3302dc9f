import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.policy.peers import FailedLogins, client_address

TRUSTED = ["10.0.0.0/8", "fd00::/8"]


def forwarded(*lines: str) -> CIMultiDict[str]:
    return CIMultiDict(("X-Forwarded-For", line) for line in lines)


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),  # nobody we know: hearsay
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the left part is the client's own invention
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9", "10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),  # a client inside
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1," * 500 + "203.0.113.9"], "203.0.113.9"),
        ("", ["1.1.1.1"], ""),
        (None, ["1.1.1.1"], ""),
        ("/run/proxy.sock", ["1.1.1.1"], "/run/proxy.sock"),
    ],
)
def test_g09_forwarded_for_is_believed_only_as_far_as_trusted_proxies_wrote_it(peer, lines, client):
    assert client_address(peer, forwarded(*lines), TRUSTED) == client


def test_without_trusted_proxies_the_header_means_nothing():
    assert client_address("10.0.0.1", forwarded("1.1.1.1")) == "10.0.0.1"
    assert client_address("10.0.0.1", {"x-forwarded-for": "1.1.1.1"}, TRUSTED) == "1.1.1.1"


@given(st.text(max_size=80), st.lists(st.text(max_size=200), max_size=4), st.lists(st.text(max_size=20), max_size=3))
def test_a_client_address_never_raises(peer, lines, trusted):
    assert isinstance(client_address(peer, forwarded(*lines), trusted), str)
    assert isinstance(client_address("10.0.0.1", forwarded(*lines), TRUSTED), str)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_allowance_comes_back_with_time_and_never_exceeds_a_minute_s_worth():
    clock = Clock()
    logins = FailedLogins(6, clock=clock)
    assert [logins.failed("192.0.2.1") for _ in range(6)] == [0.0] * 6
    assert logins.failed("192.0.2.1") == 10.0
    clock.now += 4
    assert logins.failed("192.0.2.1") == pytest.approx(6.0)
    clock.now += 6
    assert logins.failed("192.0.2.1") == 0.0
    clock.now += 3600
    assert [logins.failed("192.0.2.1") > 0 for _ in range(7)] == [False] * 6 + [True]


def test_an_ipv6_host_cannot_walk_through_its_own_network():
    logins = FailedLogins(1, clock=Clock())
    assert logins.failed("2001:db8:0:1::1") == 0.0
    assert logins.failed("2001:db8:0:1:ffff::2") > 0
    assert logins.failed("2001:db8:0:2::1") == 0.0


def test_zero_is_no_limit():
    logins = FailedLogins(0, clock=Clock())
    assert [logins.failed("192.0.2.1") for _ in range(100)] == [0.0] * 100
    assert len(logins) == 0


def test_d07_the_map_of_addresses_is_bounded_and_forgets_the_quietest():
    clock = Clock()
    logins = FailedLogins(1, clock=clock, capacity=100)
    for number in range(100_000):
        logins.failed(f"peer-{number}")
        if number % 50 == 0:
            logins.failed("persistent")
    assert len(logins) == 100
    assert logins.failed("persistent") > 0
