import pytest

from proxy.errors import Forbidden
from proxy.policy.hosts import MOST_REMEMBERED, Hosts


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8080", "[::1]:8080", "192.168.1.7", "localhost", "LOCALHOST:1", "localhost.", "chat.localhost", "proxy:8080",
     "host.docker.internal:8080", "nas.local", "box.lan", "chat.example.com", "Chat.Example.com.:443", None],
)  # fmt: skip
def test_names_that_are_no_page_s_own_are_answered(host):
    hosts = Hosts(["chat.example.com"])
    for _ in range(2):
        hosts.check(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "[::1", "",
     ":80", "evil.example.com", "user@evil.example", "x" * 300 + ".com"],
)  # fmt: skip
def test_names_that_may_be_a_page_s_own_are_refused(host):
    hosts = Hosts(["chat.example.com"])
    with pytest.raises(Forbidden, match=r"server\.allowed_hosts") as caught:
        hosts.check(host)
    assert len(caught.value.message) < 400


def test_few_names_are_remembered():
    hosts = Hosts()
    for number in range(2 * MOST_REMEMBERED):
        hosts.check(f"h{number}")
    assert len(hosts._remembered) == MOST_REMEMBERED
