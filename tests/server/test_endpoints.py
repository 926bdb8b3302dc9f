from __future__ import annotations

from typing import Any, cast

import pytest

from proxy.contracts.base import Endpoint, Frontend, Head
from proxy.errors import BadRequest
from proxy.server.endpoints import EndpointTable, guess_from_head, resolve


class Contract:
    def __init__(self, name: str, *endpoints: Endpoint) -> None:
        self.name, self.endpoints = name, endpoints


def table(*contracts: Contract) -> EndpointTable:
    return EndpointTable(cast("list[Frontend]", list(contracts)))


def head(**query: str) -> Head:
    return Head(id="1", method="POST", path="/chat", query=query, headers={})


def chosen(where: EndpointTable, body: bytes = b"", **query: str) -> str:
    place = where.find("/chat")
    assert place is not None
    return resolve(place.served("POST"), head(**query), body).frontend.name


def strength(*words: bytes) -> Any:
    return lambda _, body: sum(word in body for word in words)


THREE = (
    Contract("plain", Endpoint("POST", "/chat")),
    Contract("apples", Endpoint("POST", "/chat", detects=strength(b"apple", b"pip"))),
    Contract("pears", Endpoint("POST", "/chat", detects=strength(b"pear"))),
)


@pytest.mark.parametrize("order", [THREE, THREE[::-1]])
@pytest.mark.parametrize(
    ("body", "name"), [(b"", "plain"), (b"pear", "pears"), (b"apple pip pear", "apples"), (b"quince", "plain")]
)
def test_the_strongest_claim_gets_a_request_and_the_one_without_a_claim_the_rest(
    order: tuple[Contract, ...], body: bytes, name: str
) -> None:
    assert chosen(table(*order), body) == name


def test_a_query_parameter_names_the_contract() -> None:
    assert chosen(table(*THREE), b"pear", contract="apples") == "apples"
    with pytest.raises(BadRequest, match="plums"):
        chosen(table(*THREE), b"pear", contract="plums")


def test_before_the_body_is_read_the_head_decides_in_which_contract_errors_are_reported() -> None:
    by_head = Contract("berries", Endpoint("POST", "/chat", detects=lambda asked, _: int("x-berry" in asked.headers)))
    place = table(*THREE, by_head).find("/chat")
    assert place is not None
    served = place.served("POST")
    assert guess_from_head(served, head()).frontend.name == "plain"
    assert guess_from_head(served, head(contract="apples")).frontend.name == "apples"
    assert guess_from_head(served, head(contract="plums")).frontend.name == "plain"
    berry = Head(id="1", method="POST", path="/chat", query={}, headers={"x-berry": "1"})
    assert guess_from_head(served, berry).frontend.name == "berries"


def test_two_contracts_cannot_both_take_what_nobody_claims() -> None:
    with pytest.raises(ValueError, match="POST /chat"):
        table(Contract("one", Endpoint("POST", "/chat")), Contract("two", Endpoint("POST", "/chat")))


def test_an_id_may_stand_at_the_end_or_inside_and_hold_slashes() -> None:
    where = table(
        Contract("models", Endpoint("GET", "/v1/models/{id}", "model")),
        Contract("streams", Endpoint("GET", "/api/chat/{id}/stream")),
    )
    for path, tail in [
        ("/v1/models/a", "a"),
        ("/v1/models/openai/gpt-4o%2Fx", "openai/gpt-4o/x"),
        ("/api/chat/7%20/stream", "7 "),
    ]:
        place = where.find(path)
        assert place is not None
        assert place.tail == tail
    for path in ("/v1/models/", "/v1/models", "/api/chat//stream", "/api/chat/stream", "/v1/Models/a", "/v1//models/a"):
        assert where.find(path) is None


def test_where_patterns_overlap_the_longer_counts() -> None:
    where = table(
        Contract("any", Endpoint("GET", "/api/{id}")),
        Contract("stream", Endpoint("GET", "/api/{id}/stream")),
    )
    for path, name in [("/api/7/stream", "stream"), ("/api/7", "any"), ("/api/stream", "any")]:
        place = where.find(path)
        assert place is not None
        assert place.served("GET")[0].frontend.name == name


@pytest.mark.parametrize(
    ("prefix", "path", "meant"),
    [
        ("/o", "/", "/o/"),
        ("/o", "/chat", "/o/chat"),
        ("/o", "/chat/7", "/o/chat/7"),
        ("/o", "/models", "/models"),
        ("/o", "/o/chat", "/o/chat"),
        ("/o", "/nothing", "/nothing"),
        ("/o", "//chat", "//chat"),
        ("", "/chat", "/chat"),
    ],
)
def test_where_a_prefix_goes_without_saying_what_is_under_it_comes_first(prefix: str, path: str, meant: str) -> None:
    where = table(
        Contract("under", Endpoint("POST", "/o/chat"), Endpoint("GET", "/o/"), Endpoint("GET", "/o/chat/{id}")),
        Contract("beside", Endpoint("POST", "/chat"), Endpoint("GET", "/models")),
    )
    assert where.full_path(prefix, path) == meant


def test_a_method_that_is_not_served_is_reported_by_a_contract_of_that_path() -> None:
    place = table(Contract("one", Endpoint("POST", "/chat"))).find("/chat")
    assert place is not None
    assert place.served("DELETE")[0].frontend.name == "one"
