"""What people are told, word for word, where the words are most of the help.

All other tests of errors assert the class or code and the place, so a sentence can be improved in one place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.backends.base import kind
from proxy.config.load import load_config
from proxy.errors import ConfigErrors, ProxyError, UpstreamConnect
from proxy.request import ChatRequest, Message, Text
from proxy.routing.principal import Principal
from proxy.transport import HttpTransport, Request
from tests.routing.test_router import route, router

CONFIG = "backends: {echo: {kind: echo}}\nroutes: [{name: default, to: echo}]\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("routes:", "route:"), "2:1: unknown key `route`; did you mean `routes`?"),
        (("to: echo", "to: ecko"), "2:30: route `default`: no backend `ecko`; did you mean `echo`?"),
        (("kind: echo", "kind: ecko"), "1:25: backend `echo`: no such kind; did you mean `echo`?"),
    ],
)
def test_a_config_error(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.replace(*change))
    with pytest.raises(ConfigErrors) as caught:
        load_config(file, settings_for=lambda name: kind(name).settings)
    assert f"{file}:{said}" in [str(error) for error in caught.value.errors]


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest(id="q", contract="chat", dialect="chat", messages=(Message("user", (Text("hi"),)),), **fields)


def test_a_request_without_a_model() -> None:
    rules = router(route(to="a"))
    assert told(lambda: rules.plan(asked())) == "This route (`r`) needs a model: name one in `model`."


def test_a_request_that_no_rule_takes() -> None:
    rules = router(route("near", match={"model": "y"}))
    said = told(lambda: rules.plan(asked(model="x")))
    assert said == "No route takes model `x`. The closest is `near`, which wants model y and got x."


def test_a_key_that_may_not_use_the_model() -> None:
    said = told(lambda: router(route()).plan(asked(model="x"), Principal("k", models=("z",))))
    assert said == "This key may not use the model `x` here. `GET /v1/models` lists those it may."


def told(what: Any) -> str:
    with pytest.raises(ProxyError) as caught:
        what()
    return caught.value.message


async def test_a_host_that_is_unknown() -> None:
    transport = HttpTransport()
    with pytest.raises(UpstreamConnect) as caught:
        await transport.open(Request(method="POST", url="http://nowhere.invalid:8/v1", headers={}))
    said = "cannot look up the host nowhere.invalid of http://nowhere.invalid:8: is it spelled right?"
    assert caught.value.message == said
    await transport.aclose()
