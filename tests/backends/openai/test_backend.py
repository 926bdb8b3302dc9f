"""Kind `openai`: the SDK says where to go and as whom; nothing of it is on the way of the bytes."""

import asyncio
import subprocess
import sys

import pytest
from pydantic import ValidationError

from proxy.backends.base import Resources
from proxy.backends.http import Identity
from proxy.backends.openai.backend import OpenAIBackend, OpenAISettings
from proxy.errors import ConfigError, Unsupported
from proxy.events import Finish, Start, TextDelta
from proxy.routing.plan import Target
from proxy.testing.script import openai_stream
from tests.support.wire import backend, batches, chat, events

CANARY = "sk-canary-1234567890abcdef"
AZURE = {"endpoint": "https://example.openai.azure.com/", "api_version": "2024-10-21"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID",
                 "OPENAI_CUSTOM_HEADERS", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


async def identity(**row):
    far = OpenAIBackend("far", OpenAISettings.model_validate({"kind": "openai", **row}), resources=Resources(None))
    await far.open()
    return far._identity


async def test_it_answers_over_our_own_transport(upstream):
    upstream.play(openai_stream(["a"]))
    row = {"kind": "openai", "api_key": CANARY, "base_url": upstream.url, "organization": "org", "project": "proj",
           "headers": {"X-Team": "t"}, "query": {"v": "1"}}  # fmt: skip
    async with backend(row) as far:
        assert await events(far) == [Start("chatcmpl-scripted", "scripted-1"), TextDelta("a"), Finish()]
    seen = upstream.requests[0]
    assert seen.path == "/v1/chat/completions?v=1"
    assert seen.headers["authorization"] == f"Bearer {CANARY}"
    assert seen.headers["openai-organization"] == "org"
    assert seen.headers["openai-project"] == "proj"
    assert seen.headers["x-team"] == "t"
    assert seen.headers["accept"] == "text/event-stream"
    assert seen.headers["user-agent"].startswith("chat-proxy/")
    assert not [name for name in seen.headers if "stainless" in name]


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [("o3", "low", True), ("gpt-5.2", "medium", True), ("gpt-4o-mini", "low", False), ("gpt-4o-mini", "none", False)],
)
async def test_a_hint_of_how_much_to_think_goes_to_models_that_take_it(upstream, model, effort, sent):
    upstream.play(openai_stream(["a"]))
    asked = chat(params={"reasoning_effort": effort, "top_k": 1}, hints=frozenset({"reasoning_effort", "top_k"}))
    async with backend({"kind": "openai", "api_key": CANARY, "base_url": upstream.url}) as far:
        await batches(far, asked, model)
    assert ("reasoning_effort" in upstream.requests[0].json()) is sent
    assert "top_k" not in upstream.requests[0].json()


async def test_by_default_it_is_openai():
    found = await identity(api_key=CANARY)
    assert found.url == "https://api.openai.com/v1/chat/completions"
    assert found.headers.keys() == {"authorization", "user-agent"}
    assert found.secrets == (CANARY,)


async def test_what_the_config_leaves_out_the_sdks_variables_say(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://x.test/v9")
    found = await identity()
    assert found.url == "https://x.test/v9/chat/completions"
    assert found.headers["authorization"] == f"Bearer {CANARY}"
    assert found.secrets == (CANARY,)


async def test_azure_with_a_deployment():
    found = await identity(api_key=CANARY, azure={**AZURE, "deployment": "dep"})
    assert found.address("m") == (
        "https://example.openai.azure.com/openai/deployments/dep/chat/completions?api-version=2024-10-21"
    )
    assert found.headers["api-key"] == CANARY
    assert "authorization" not in found.headers
    assert found.secrets == (CANARY,)


async def test_azure_without_one_takes_the_model_for_it():
    found = await identity(azure={**AZURE, "ad_token": CANARY}, query={"x": "1"})
    assert found.address("gpt-4.1_x") == (
        "https://example.openai.azure.com/openai/deployments/gpt-4.1_x/chat/completions?x=1&api-version=2024-10-21"
    )
    assert found.headers["authorization"] == f"Bearer {CANARY}"
    assert "api-key" not in found.headers


@pytest.mark.parametrize(
    "model",
    [
        "..",
        ".",
        "...",
        "",
        "a/b",
        "../x",
        "a\\b",
        "%2e%2e",
        "%252e",
        "..%2f",
        "%5c",
        "a?b",
        "a#b",
        "a;b",
        "a\nb",
        "a b",
        "é",
        "x" * 257,
    ],
)
async def test_A7_a_model_never_changes_the_path_at_azure(model):
    found = await identity(api_key=CANARY, azure=AZURE)
    with pytest.raises(Unsupported) as caught:
        found.address(model)
    assert caught.value.status == 400
    assert caught.value.param == "model"


@pytest.mark.parametrize("deployment", ["..", "a/b", "a\r\nb", "%2e%2e", "x?y", ".hidden"])
def test_A7_a_deployment_is_one_step_of_the_path(deployment):
    with pytest.raises(ValidationError, match="deployment"):
        OpenAISettings.model_validate(
            {"kind": "openai", "api_key": CANARY, "azure": {**AZURE, "deployment": deployment}}
        )


@pytest.mark.parametrize(
    "row",
    [
        {"base_url": "https://x.test/v1\r\nX: y"},
        {"base_url": "https://x.test/\tv1"},
        {"base_url": "https://x.test/v 1"},
        {"base_url": "https://x.test\\v1"},
        {"base_url": "https://x.test/v1\n"},
        {"azure": {**AZURE, "endpoint": "https://x.test\r\n/"}},
        {"organization": "a\r\nb: c"},
        {"project": "a\nb"},
        {"headers": {"x": "a\r\nb"}},
        {"headers": {"x\r\ny": "a"}},
    ],
)
def test_A9_line_breaks_in_a_row_are_refused_at_check(row):
    with pytest.raises(ValidationError):
        OpenAISettings.model_validate({"kind": "openai", "api_key": CANARY, **row})


async def test_azure_deployments_are_found_where_the_sdk_itself_would_find_them():
    """The SDK builds a request's path in private, so ours is held to what it sends."""
    import openai

    httpx = pytest.importorskip("httpx")  # what SDK 2 is built on

    sent = []

    def answer(request):
        sent.append(str(request.url))
        return httpx.Response(400, json={})

    for deployment in ("dep", None):
        client = openai.AsyncAzureOpenAI(
            azure_endpoint=AZURE["endpoint"], api_version=AZURE["api_version"], azure_deployment=deployment,
            api_key=CANARY, http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer)),
        )  # fmt: skip
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="gpt-4", messages=[])
        await client.close()
        azure = AZURE | ({"deployment": deployment} if deployment else {})
        assert (await identity(api_key=CANARY, azure=azure)).address("gpt-4") == sent[-1]


async def test_without_any_key_it_says_where_to_put_one(monkeypatch):
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        await identity()
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")  # enough for the SDK, of no use for chat
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        await identity()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"azure": AZURE}, "api_key"),
        ({"azure": {**AZURE, "ad_token": "x" * 9}, "api_key": "y" * 9}, "one of them"),
        ({"azure": AZURE, "api_key": "y" * 9, "base_url": "https://x.test"}, "not both"),
        ({"api_key": ""}, "empty"),
        ({"api_key": "a\nb"}, "line break"),
        ({"api_key": "k" * 9, "base_url": "x"}, "https://"),
        ({"api_keys": "k"}, "api_keys"),
    ],
)
def test_a_row_that_cannot_work_is_refused_with_what_to_do(row, words):
    with pytest.raises(ValidationError) as caught:
        OpenAISettings.model_validate({"kind": "openai", **row})
    assert words in str(caught.value)


async def test_I01_no_repr_shows_a_secret():
    settings = OpenAISettings.model_validate({"kind": "openai", "api_key": CANARY, "azure": {**AZURE}})
    far = OpenAIBackend("far", settings, resources=Resources(None))
    await far.open()
    for thing in (settings, far, far._identity, far._clean):
        assert CANARY not in repr(thing)


async def test_I01_what_the_sdk_refuses_shows_no_secret_of_the_row(monkeypatch):
    import openai

    def refuse(**given):
        raise openai.OpenAIError(f"none of {given}")

    monkeypatch.setattr(openai, "AsyncAzureOpenAI", refuse)
    azure = {**AZURE, "ad_token": CANARY + "-token"}
    with pytest.raises(ConfigError, match="refuses these settings: none of") as caught:
        await identity(azure=azure, headers={"X-Team": "of-the-header"}, query={"code": "of-the-query"})
    assert not [word for word in (CANARY, "of-the-header", "of-the-query") if word in str(caught.value)]


def test_the_sdk_is_not_imported_before_a_backend_is_opened():
    code = (
        "import sys, proxy.backends.openai.backend, proxy.backends.openai.compatible; sys.exit('openai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_opening_does_not_hold_up_the_loop(monkeypatch):
    import threading

    from proxy.backends.openai import backend as driver

    made_in = []
    original = driver._client
    monkeypatch.setattr(driver, "_client", lambda *a: (made_in.append(threading.current_thread()), original(*a))[1])
    await asyncio.wait_for(identity(api_key=CANARY), 60)
    assert made_in[0] is not threading.main_thread()


def test_every_setting_is_described():
    for name, field in OpenAISettings.model_fields.items():
        assert field.description, name


def asked(url, model="gpt-5", *, dialect="anthropic-messages", **params):
    """What a client of another dialect's request becomes on its way to `url`."""
    far = OpenAIBackend("far", OpenAISettings(kind="openai", api_key=CANARY), resources=Resources(None))
    far.identify(Identity(url, {}))
    request = chat(dialect=dialect, params=params, hints=frozenset({"reasoning_effort", "top_k"}))
    body = far._fields(request, Target("far", model))
    return {name: body[name] for name in body.keys() - {"messages", "model", "stream", "stream_options"}}


OPENAI = "https://api.openai.com/v1/chat/completions"


def test_the_length_of_an_answer_has_the_name_that_all_of_openais_models_take():
    assert asked(OPENAI, max_tokens=5) == {"max_completion_tokens": 5}
    assert asked(OPENAI, max_tokens=5, dialect="chat") == {"max_completion_tokens": 5}
    assert asked(OPENAI, max_tokens=5, dialect="openai-chat") == {"max_tokens": 5}  # the client's own word
    assert asked("http://127.0.0.1:8000/v1/chat/completions", max_tokens=5) == {"max_completion_tokens": 5}
    assert asked("http://127.0.0.1:8000/v1/chat/completions", "gpt-4o", max_tokens=5) == {"max_tokens": 5}


@pytest.mark.parametrize(
    ("model", "takes"),
    [("gpt-5", True), ("o3-mini", True), ("gpt-4o-mini", False), ("gpt-4.1", False), ("gpt-3.5-turbo", False)],
)
def test_a_wish_to_think_goes_to_models_that_can(model, takes):
    assert asked(OPENAI, model, reasoning_effort="low", top_k=4) == ({"reasoning_effort": "low"} if takes else {})
