"""One address for several processes, and nobody else's."""

from __future__ import annotations

import errno
import socket

import pytest

from proxy.server.sockets import addresses, bind, join, reserve


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_free_port_is_settled_and_kept_and_many_may_listen_on_it() -> None:
    (held,) = reserve("127.0.0.1", 0)
    (address,) = addresses([held])
    assert address[1][1] > 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tuple(address[1]))
    listening = [join(address) for _ in range(3)]
    for one in listening:
        one.listen()
    socket.create_connection(tuple(address[1])).close()
    for one in (held, *listening):
        one.close()


@pytest.mark.skipif(not ipv6(), reason="no IPv6 here")
def test_a_name_of_several_addresses_has_one_port_on_all() -> None:
    reserved = reserve("localhost", 0)
    assert len({place[1] for _, place in addresses(reserved)}) == 1
    for one in reserved:
        one.close()


@pytest.mark.parametrize("shared", [True, False])
def test_what_somebody_listens_on_is_taken_even_if_they_would_share(shared: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match=r"127\.0\.0\.1:\d+") as raised:
            reserve("127.0.0.1", other.getsockname()[1])
    assert raised.value.errno == errno.EADDRINUSE


def test_a_port_that_was_used_a_moment_ago_is_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as before:
        port = before.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = before.accept()
            accepted.close()  # we close first: TIME_WAIT is ours
    for one in reserve("127.0.0.1", port):
        one.close()


def test_an_address_that_is_not_ours_is_no_address() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:0") as raised:
        reserve("192.0.2.1", 0)
    assert raised.value.errno == errno.EADDRNOTAVAIL


def test_a_bad_host_is_reported() -> None:
    with pytest.raises(socket.gaierror, match="no such host"):
        reserve("no such host", 0)


def test_an_ipv6_address_in_brackets_is_told_how_to_write_it():
    with pytest.raises(OSError, match="without brackets"):
        bind("[::1]", 0)
