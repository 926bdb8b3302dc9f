"""The config for what was found: it passes `check`, and a request goes where a person would expect."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.backends.base import kind, own_models
from proxy.config.load import load_config
from proxy.detect.compose import Found, compose, summary
from proxy.detect.servers import Place, Server
from proxy.detect.vendors import vendors, with_key
from proxy.request import ChatRequest
from proxy.routing.router import Router

OLLAMA = Server(
    Place("ollama", "http://127.0.0.1:11434/v1", "ollama"), ("nomic-embed-text:latest", "llama3.2:latest", "qwen2.5:7b")
)
LM_STUDIO = Server(Place("lmstudio", "http://127.0.0.1:1234/v1", "lmstudio"), ("qwen2.5:7b", "openai/gpt-oss-20b"))
LOCAL = Server(Place("local", "http://127.0.0.1:9/v1", variable="LOCAL_BASE_URL"), ("m",))
SECRET = "sk-a-secret-that-is-long-enough"


def loaded(found, env=None):
    if env is None:
        env = dict.fromkeys((vendor.variable for vendor in found.vendors), SECRET) | {"LOCAL_BASE_URL": "http://h/v1"}
    text = compose(found)
    config = load_config("found.yaml", content=text.encode(), settings_for=lambda name: kind(name).settings, env=env)
    assert config.warnings == ()
    return config


def goes_to(found, model, env=None):
    config = loaded(found, env)
    router = Router(config.settings.routes, own_models(config.backends), config.off, config.settings.server)
    plan = router.plan(ChatRequest(id="x", contract="chat", dialect="", path="/chat", model=model, messages=[]))
    return ", ".join(map(str, plan.targets))


def keys(*names):
    return with_key(dict.fromkeys(names, SECRET))


def test_nothing_found_is_the_echo():
    assert goes_to(Found(), None) == "echo/echo"
    assert goes_to(Found(), "gpt-4o") == "echo/echo"


def test_every_model_is_reached_by_its_name_and_with_the_name_of_its_server():
    found = Found([OLLAMA, LM_STUDIO], keys("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY"))
    expected = {
        "llama3.2": "ollama/llama3.2",
        "llama3.2:latest": "ollama/llama3.2:latest",
        "qwen2.5:7b": "ollama/qwen2.5:7b",
        "lmstudio/qwen2.5:7b": "lmstudio/qwen2.5:7b",
        "openai/gpt-oss-20b": "lmstudio/openai/gpt-oss-20b",
        "ollama/pulled-later": "ollama/pulled-later",
        "gpt-5": "openai/gpt-5",
        "openai/my-fine-tune": "openai/my-fine-tune",
        "claude-opus-4-5": "anthropic/claude-opus-4-5",
        "groq/llama-3.3-70b-versatile": "groq/llama-3.3-70b-versatile",
        "echo": "echo/echo",
    }
    assert {model: goes_to(found, model) for model in expected} == expected


def test_what_is_on_this_machine_is_the_default_and_no_embedding_model():
    found = Found([OLLAMA], keys("OPENAI_API_KEY", "OPENROUTER_API_KEY"))
    assert goes_to(found, None) == goes_to(found, "unheard-of") == "ollama/llama3.2:latest"


def test_a_server_without_models_is_no_default():
    found = Found([OLLAMA._replace(models=())], keys("OPENAI_API_KEY"))
    assert goes_to(found, None) == "openai/gpt-4o-mini"
    assert goes_to(found, "ollama/llama3.2") == "ollama/llama3.2"


def test_a_vendor_with_models_of_many_makers_is_asked_for_any_name():
    found = Found([], keys("GROQ_API_KEY"))
    assert goes_to(found, "openai/gpt-oss-120b") == "groq/openai/gpt-oss-120b"
    assert goes_to(found, None) == "groq/llama-3.3-70b-versatile"


def test_the_file_holds_no_key_and_works_without_one():
    found = Found([LOCAL], keys("OPENAI_API_KEY", "MISTRAL_API_KEY"))
    assert SECRET not in compose(found)
    assert "${OPENAI_API_KEY}" in compose(found)
    assert loaded(found, env={}).off.keys() == {"local", "openai", "mistral"}
    assert goes_to(found, None, env={}) == "echo/echo"


def test_the_first_line_is_for_editors():
    assert compose(Found()).startswith("# yaml-language-server: $schema=chat-proxy.schema.json\n")


def test_the_summary_says_what_each_is_called():
    said = summary(Found([OLLAMA], keys("OPENAI_API_KEY"))).splitlines()
    models = ["nomic-embed-text,", "llama3.2,", "qwen2.5:7b,", "ollama/…"]
    assert said[0].split() == ["ollama", "http://127.0.0.1:11434/v1", *models]
    assert said[1].split()[:3] == ["openai", "OPENAI_API_KEY", "gpt-*,"]
    assert said[-1].endswith(" ollama/llama3.2:latest")


def test_all_vendors_at_once():
    everyone = vendors()
    assert len(everyone) > 15
    assert len(loaded(Found([], everyone)).backends) == len(everyone) + 1


@given(models=st.lists(st.text(min_size=1, max_size=20).filter(str.isprintable), max_size=8))
@settings(max_examples=20, deadline=None)
def test_names_of_models_are_text_whatever_a_server_calls_them(models):
    """A name such as `${OPENAI_API_KEY}` must not become the key."""
    server = OLLAMA._replace(models=(*models, "${OPENAI_API_KEY}"))
    found = Found([server], keys("OPENAI_API_KEY"))
    config = loaded(found)
    assert SECRET not in repr(config.settings)
    [route] = [route for route in config.settings.routes if route.name == "ollama"]
    assert "${OPENAI_API_KEY}" in route.match.model
    assert {name for name in models if not set("*?") & set(name)} <= {*route.match.model, "echo"}
    assert yaml.safe_load(compose(found))
