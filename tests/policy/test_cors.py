import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.models import CorsSettings
from proxy.errors import ConfigError
from proxy.policy.cors import EXPOSED, Cors

APP = "http://localhost:3000"
PACKAGE = Path(__file__).parents[2] / "proxy"


def cors(*origins: str, credentials: bool = False) -> Cors:
    return Cors(CorsSettings(origins=list(origins), credentials=credentials))


def preflight(origin: str = APP, wanted: str = "", **more: str) -> dict[str, str]:
    headers = {"origin": origin, "access-control-request-method": "POST", **more}
    return headers | ({"access-control-request-headers": wanted} if wanted else {})


def test_h07_there_are_no_cors_headers_by_default():
    for off in (Cors(), Cors(None), cors()):
        assert off.headers(APP) == {}
        assert off.preflight(preflight()) is None


def test_an_allowed_origin_is_echoed_and_may_read_our_headers():
    assert cors(APP).headers(APP) == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Expose-Headers": EXPOSED,
        "Vary": "Origin",
    }
    for name in ("x-request-id", "request-id", "retry-after"):
        assert name in EXPOSED.split(", ")


def test_an_allowed_page_may_read_every_header_that_only_our_answers_have():
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    ours = {name.lower() for name in re.findall(r'"((?:X-Chat|X-Stream|X-Vercel|Stream)-[\w-]+)"', sources)}
    assert {"x-stream-id", "x-chat-cost", "stream-next-offset"} <= ours <= {*EXPOSED.split(", ")}


@pytest.mark.parametrize("origin", [None, "http://localhost:3001", "https://localhost:3000", "null", "", "*"])
def test_other_origins_get_nothing_but_a_word_to_caches(origin):
    assert cors(APP).headers(origin) == {"Vary": "Origin"}


def test_a_preflight_echoes_the_headers_the_openai_sdk_asks_for():
    wanted = "authorization,content-type,x-stainless-arch,x-stainless-lang,X-Stainless-OS"
    answer = cors(APP).preflight(preflight(wanted=wanted))
    assert answer == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": "authorization, content-type, x-stainless-arch, x-stainless-lang, x-stainless-os",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin, Access-Control-Request-Headers",
    }


def test_a_preflight_without_a_method_or_from_elsewhere_is_none():
    assert cors(APP).preflight({"origin": APP}) is None
    assert cors(APP).preflight(preflight("https://evil.example")) is None
    assert cors(APP).preflight({"access-control-request-method": "POST"}) is None


@pytest.mark.parametrize("wanted", ["a b", "x\r\nset-cookie: a", "x,,y", "é", "x:y", "a" * 5000, "x,", '"x"'])
def test_header_names_that_are_none_are_not_echoed(wanted):
    answer = cors(APP).preflight(preflight(wanted=wanted))
    assert answer is not None
    assert "Access-Control-Allow-Headers" not in answer


def test_private_network_access_is_not_granted():
    answer = cors("*").preflight(preflight(**{"access-control-request-private-network": "true"}))
    assert answer is not None
    assert not any("private" in name.lower() for name in answer)


def test_h07_a_star_is_never_sent_and_never_goes_with_credentials():
    anyone = cors("*")
    assert anyone.headers(APP)["Access-Control-Allow-Origin"] == APP
    assert "Access-Control-Allow-Credentials" not in anyone.headers(APP)
    assert cors(APP, credentials=True).headers(APP)["Access-Control-Allow-Credentials"] == "true"
    with pytest.raises(ConfigError):
        Cors(CorsSettings.model_construct(origins=["*"], credentials=True))


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("https://*.example.com", "https://app.example.com"),
        ("https://*.example.com", "https://a.b-c.example.com"),
        ("https://*.example.com:8443", "https://app.example.com:8443"),
        ("https://*.example.com:443", "https://app.example.com"),
        ("http://localhost:*", "http://localhost:5173"),
        ("http://*.localhost:3000", "http://app.localhost:3000"),
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_origins_that_match(pattern, origin):
    assert cors(pattern).headers(origin)["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    ("pattern", "origin"),
    [
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://evil-example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://a..example.com"),
        ("https://*.example.com", "https://app.example.com.evil.net"),
        ("https://*.example.com", "https://evil.net/.example.com"),
        ("https://*.example.com", "https://evil.net#.example.com"),
        ("https://*.example.com", "https://evil.net:1@x.example.com"),
        ("https://*.example.com", "https://evil.net\\.example.com"),
        ("https://*.example.com", "http://app.example.com"),
        ("https://*.example.com", "https://app.example.com:8443"),
        ("https://*.example.com", "https://app.example.com\r\nset-cookie: x.example.com"),
        ("http://localhost:*", "http://localhost"),
        ("http://localhost:*", "http://localhost:"),
        ("http://localhost:*", "http://localhost:80a"),
        ("http://localhost:*", "http://localhost:1.evil.net"),
        ("http://localhost:*", "http://localhost.evil.net:80"),
        ("https://app.example.com", "https://app.example.com.evil.net"),
        ("https://app.example.com", "https://APP.example.com"),
        ("*", "https://a\r\nx"),
        ("*", "https://" + "a" * 5000),
        ("*", "https://é.example"),
    ],
)
def test_origins_that_only_look_alike_do_not_match(pattern, origin):
    assert "Access-Control-Allow-Origin" not in cors(pattern).headers(origin)


@pytest.mark.parametrize(
    "pattern", ["https://*", "https://example.*", "https://*example.com", "https://*.*.example.com", "https://*."]
)
def test_vague_patterns_are_config_errors_that_say_what_works(pattern):
    with pytest.raises(ConfigError, match=r"https://\*\.example\.com"):
        cors(pattern)


@given(st.text(max_size=600))
def test_only_subdomains_match_a_subdomain_pattern(origin):
    granted = cors("https://*.example.com").headers("https://" + origin)
    if "Access-Control-Allow-Origin" in granted:
        assert origin.endswith(".example.com")
        assert not set(origin) & set("/:@?#\\ \r\n")
