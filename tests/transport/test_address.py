"""URLs taken apart, and which of them are reached through a forward proxy."""

from __future__ import annotations

import pytest

from proxy.errors import InternalError, UpstreamConnect
from proxy.transport.address import Origin, Ways, parse


@pytest.mark.parametrize(
    ("url", "origin", "target", "host"),
    [
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434", "/v1", "127.0.0.1:11434"),
        ("https://API.OpenAI.com/v1/x?a=b&c#frag", "https://api.openai.com", "/v1/x?a=b&c", "api.openai.com"),
        ("https://h:443", "https://h", "/", "h"),
        ("http://h:80?q", "http://h", "/?q", "h"),
        ("http://[::1]:8000/x", "http://[::1]:8000", "/x", "[::1]:8000"),
        ("http://münchen.example/%C3%BC", "http://xn--mnchen-3ya.example", "/%C3%BC", "xn--mnchen-3ya.example"),
    ],
)
def test_a_url_is_taken_apart(url, origin, target, host):
    address = parse(url)
    assert (str(address.origin), address.target, address.origin.authority) == (origin, target, host)


def test_user_information_becomes_a_credential_and_shows_nowhere():
    address = parse("https://me:s%40cret@host/x")
    assert address.authorization == "Basic bWU6c0BjcmV0"
    assert "cret" not in f"{address!r} {address.origin}"


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a b",
        "http://h/a\r\nX: y",
        "http://h/a\tb",
        "http://h/\0",
        "http://h/\x7f",
        "http://h/ü",
        "http://h/x?k=sk-secret y",
        "http://h:99999/",
        "http://h:x/",
        "http://a b/",
        "http:///x",
        "ftp://h/",
        "h/x",
        "",
    ],
)
def test_a_url_that_could_change_the_request_line_is_refused_without_quoting_it(url):
    with pytest.raises(InternalError) as caught:
        parse(url)
    assert "secret" not in str(caught.value)


PROXIES = {"http": "http://proxy:3128", "https": "http://user:pass@proxy:3128", "no": "localhost,.internal,10.0.0.1:81"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://far.example", "http://proxy:3128"),
        ("https://far.example", "http://proxy:3128"),
        ("http://localhost:11434", None),
        ("https://vllm.internal", None),
        ("http://10.0.0.1:81", None),
        ("http://10.0.0.1:82", "http://proxy:3128"),
    ],
)
def test_proxies_and_exceptions_follow_the_environment(url, expected):
    via = Ways(PROXIES).to(parse(url).origin).via
    assert (str(via.origin) if via else None) == expected
    assert "pass" not in repr(via)


def test_the_environment_is_read_by_default(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:8888")
    ways = Ways()
    assert str(ways.to(Origin("https", "far", 443)).via.origin) == "http://proxy.example:8888"
    assert ways.to(Origin("http", "far", 80)).via is None


@pytest.mark.parametrize("value", ["socks5://u:secret@p:1", "https://u:secret@p", "http://u:secret@:99999", "http://"])
def test_a_proxy_that_cannot_be_used_is_said_so_by_variable(value):
    with pytest.raises(UpstreamConnect, match="HTTPS_PROXY") as caught:
        Ways({"https": value}).to(Origin("https", "far", 443))
    assert "secret" not in str(caught.value)
