import hashlib
import logging

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import SecretStr

from proxy.config.models import AuthSettings, KeySettings
from proxy.errors import ProxyError, RateLimited, Unauthorized
from proxy.policy.keys import KeyRing, new_key, presented_key
from proxy.policy.peers import FailedLogins

KEY = "cp-7Q2k0yXn3mVb8LrTz5WcHsJd1fGaPeUo"
OTHER = "cp-ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ"
PEER = "192.0.2.1"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def auth(*keys: KeySettings) -> AuthSettings:
    return AuthSettings(keys=list(keys))


def ring(per_minute: float = 0, **limits) -> KeyRing:
    web = KeySettings(name="web", sha256=digest(KEY), routes=["default"], models=["gpt-*"])
    return KeyRing(auth(web), FailedLogins(per_minute, **limits))


def sent(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


@pytest.mark.parametrize(
    "headers",
    [
        sent(("Authorization", f"Bearer {KEY}")),
        sent(("authorization", f"bearer   {KEY} ")),
        sent(("X-Api-Key", KEY)),
        sent(("api-key", f" {KEY}\t")),
        sent(("Authorization", f"Bearer {KEY}"), ("x-api-key", KEY)),  # some SDKs send both
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY},
    ],
)
def test_every_header_style_leads_to_the_same_principal(headers):
    principal = ring().identify(headers, PEER)
    assert (principal.name, principal.routes, principal.models) == ("web", ("default",), ("gpt-*",))


REFUSED = {
    "none": sent(),
    "empty": sent(("Authorization", "")),
    "scheme only": sent(("Authorization", "Bearer")),
    "scheme and blank": sent(("Authorization", "Bearer ")),
    "no scheme": sent(("Authorization", KEY)),
    "basic": sent(("Authorization", "Basic dXNlcjpwYXNz")),
    "basic beside a good key": sent(("Authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", KEY)),
    "twice the same": sent(("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")),
    "twice, one wrong": sent(("x-api-key", OTHER), ("x-api-key", KEY)),
    "joined by a proxy": sent(("Authorization", f"Bearer {KEY}, Bearer {KEY}")),
    "two styles, two keys": sent(("Authorization", f"Bearer {KEY}"), ("x-api-key", OTHER)),
    "two styles, wrong one first": sent(("Authorization", f"Bearer {OTHER}"), ("x-api-key", KEY)),
    "empty beside a good key": sent(("x-api-key", ""), ("api-key", KEY)),
    "huge": sent(("Authorization", "Bearer " + "k" * 5000)),
    "huge blanks": sent(("x-api-key", " " * 5000 + KEY)),
    "non-ASCII": sent(("Authorization", "Bearer schlüssel")),
    "raw bytes": sent(("Authorization", "Bearer \udcff\udcfe")),
    "NUL": sent(("x-api-key", f"{KEY}\0")),
    "line break": sent(("x-api-key", f"{KEY}\r\n")),
    "blank inside": sent(("x-api-key", f"{KEY} {KEY}")),
    "prefix": sent(("x-api-key", KEY[:-1])),
    "longer": sent(("x-api-key", KEY + "x")),
    "case": sent(("x-api-key", KEY.lower())),
    "digest instead of the key": sent(("x-api-key", digest(KEY))),
    "SQL": sent(("x-api-key", "'OR/**/1=1--")),
    "Redis": sent(("x-api-key", "*\\r\\n$4\\r\\nKEYS*{web}?[a-z]")),
    "glob": sent(("x-api-key", "*")),
    "template": sent(("x-api-key", "${jndi:ldap://x}{{7*7}}")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_g01_anything_but_one_known_key_is_a_401_that_repeats_nothing(case, caplog):
    headers = REFUSED[case]
    with caplog.at_level(logging.DEBUG), pytest.raises(Unauthorized) as refused:
        ring().identify(headers, PEER)
    assert refused.value.status == 401
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}
    told = refused.value.message + caplog.text
    for value in headers.values():
        for piece in value.split():
            assert piece in {"Bearer", "Basic"} or len(piece) < 3 or piece not in told


def test_g02_a_ring_holds_no_key_in_any_readable_form():
    ring_ = KeyRing(auth(KeySettings(name="ci", key=SecretStr(KEY))))
    assert ring_.identify({"x-api-key": KEY}, PEER).name == "ci"
    seen: list[object] = [vars(ring_)]
    texts = []
    while seen:
        thing = seen.pop()
        texts.append(repr(thing))
        if isinstance(thing, dict):
            seen += [*thing, *thing.values()]
        elif isinstance(thing, tuple | list):
            seen += thing
    assert KEY not in "".join(texts)


def test_g02_keys_with_a_common_prefix_are_different_people():
    twin = KEY[:20] + "x" * (len(KEY) - 20)
    ring_ = KeyRing(auth(KeySettings(name="one", sha256=digest(KEY)), KeySettings(name="two", sha256=digest(twin))))
    assert ring_.identify({"x-api-key": KEY}, PEER).name == "one"
    assert ring_.identify({"x-api-key": twin}, PEER).name == "two"


def test_without_auth_everybody_is_anonymous_whatever_they_send():
    for open_ in (KeyRing(None), KeyRing(AuthSettings(off=True))):
        assert (
            open_.identify(sent(("Authorization", "Bearer anything"), ("authorization", "x")), PEER).name == "anonymous"
        )
        assert open_.identify({}, PEER).name == "anonymous"


def test_auth_whose_keys_are_all_off_lets_nobody_in():
    closed = KeyRing(auth(KeySettings(name="ci", key=SecretStr(""))))
    for headers in ({}, {"x-api-key": ""}, {"authorization": "Bearer "}, {"x-api-key": "x"}):
        with pytest.raises(Unauthorized):
            closed.identify(headers, PEER)


def test_g09_a_peer_that_keeps_failing_is_told_to_wait_and_a_good_key_is_not():
    now = 0.0
    ring_ = ring(3, clock=lambda: now)
    wrong, right = {"x-api-key": OTHER}, {"x-api-key": KEY}
    for _ in range(3):
        with pytest.raises(Unauthorized):
            ring_.identify(wrong, PEER)
    with pytest.raises(RateLimited) as limited:
        ring_.identify(wrong, PEER)
    assert limited.value.status == 429
    assert limited.value.retry_after == 20.0
    assert ring_.identify(right, PEER).name == "web"
    with pytest.raises(Unauthorized):
        ring_.identify(wrong, "192.0.2.2")  # another address has its own limit
    with pytest.raises(Unauthorized):
        ring_.identify({}, PEER)  # asking without a key is no guess
    now = 20.0
    with pytest.raises(Unauthorized):
        ring_.identify(wrong, PEER)


def test_malformed_keys_count_as_failures_too():
    ring_ = ring(1)
    malformed = sent(("x-api-key", "a"), ("x-api-key", "b"))
    with pytest.raises(Unauthorized):
        ring_.identify(malformed, PEER)
    with pytest.raises(RateLimited):
        ring_.identify(malformed, PEER)


def test_a_failed_login_shows_no_chain_with_the_key_in_it():
    with pytest.raises(ProxyError) as refused:
        ring().identify({"x-api-key": OTHER}, PEER)
    assert refused.value.__cause__ is None
    assert OTHER not in repr(refused.value)


def test_a_new_key_opens_a_ring_made_of_its_digest():
    key, digest_ = new_key()
    assert key.startswith("cp-")
    assert len(key) >= 40
    assert new_key()[0] != key
    settings = auth(KeySettings(name="new", sha256=digest_))
    assert KeyRing(settings).identify({"authorization": f"Bearer {key}"}, PEER).name == "new"


def test_presented_key_reads_plain_mappings_and_multi_mappings_alike():
    assert presented_key({"api-key": KEY}) == presented_key(sent(("Api-Key", KEY))) == KEY.encode()
