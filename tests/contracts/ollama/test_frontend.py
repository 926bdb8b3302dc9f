"""The Ollama frontend: where it is served, whose a shared request is, and its replies outside a stream."""

import json
import tracemalloc

import msgspec
import pytest

from proxy.contracts.base import Head, Offer, Reply, built_in_frontends
from proxy.contracts.ollama.frontend import FRONTEND, speaks_ollama
from proxy.errors import BadRequest, Draining, NotFound, RequestError, Unauthorized, UpstreamFailed
from proxy.events import Batch, Finish, Start, TextDelta
from proxy.request import Answer
from proxy.server.endpoints import EndpointTable, resolve

BODY = b'{"model":"asked","messages":[{"role":"user","content":"hi"}]}'


def head(path="/ollama/api/chat", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Head(id="r1", method="POST", path=path, query={}, headers=named, models=frozenset({"named:latest"}))


def answered(path, body=b"", *, method="POST", models=("m",), named=()):
    place = EndpointTable([FRONTEND]).find(path)
    assert place is not None
    [served] = place.served(method)
    assert served.endpoint.answer is not None
    asked = Head(id="r1", method=method, path=path, query={}, headers={}, models=named)
    return served.endpoint.answer(body, asked, Offer(list(models), 0))


def test_a_request_keeps_where_it_came_to_and_how_the_config_calls_its_model():
    request = FRONTEND.decode(BODY.replace(b"asked", b"named:latest"), head(x_team="a"))
    assert (request.id, request.contract, request.path) == ("r1", "ollama", "/ollama/api/chat")
    assert (request.headers, request.model) == ({"x-team": "a"}, "named:latest")


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/ollama/api/chat", BODY, "message"),
        ("/api/chat", BODY, "message"),
        ("/ollama/api/generate", b'{"model":"asked","prompt":"hi"}', "response"),
    ],
)
def test_the_path_says_which_form_an_answer_has(path, body, said):
    request = FRONTEND.decode(body, head(path))
    encoder = FRONTEND.encoder(request, head(path))
    assert not isinstance(encoder, Reply)
    first = json.loads(encoder.feed(Batch([Start("", "m"), TextDelta("a"), Finish()])).splitlines()[0])
    assert said in first
    assert said in json.loads(encoder.whole(Answer(text="a")).body)
    assert said in json.loads(encoder.ping())
    assert not encoder.early
    assert encoder.abort_on_fault, "Open WebUI reads no error line"


def test_streams_are_lines_and_tell_proxies_to_keep_their_hands_off():
    encoder = FRONTEND.encoder(FRONTEND.decode(BODY, head()), head())
    assert encoder.headers == {
        "Content-Type": "application/x-ndjson",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }


def test_a_load_request_is_answered_without_a_model():
    for stream, kind, end in ((True, "application/x-ndjson", b"\n"), (False, "application/json", b"}")):
        body = json.dumps({"model": "m", "stream": stream, "keep_alive": 0}).encode()
        for path in ("/ollama/api/chat", "/ollama/api/generate"):
            reply = FRONTEND.encoder(FRONTEND.decode(body, head(path)), head(path))
            assert isinstance(reply, Reply)
            told = json.loads(reply.body)
            assert (reply.status, told["done"], told["done_reason"]) == (200, True, "unload")
            assert reply.headers["Content-Type"] == kind
            assert reply.body.endswith(end)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (BadRequest("x", param="messages"), 400, {}),
        (Unauthorized("x"), 401, {"WWW-Authenticate": "Bearer"}),
        (NotFound("x"), 404, {}),
        (UpstreamFailed("x", status=429, retry_after=1.2), 429, {"Retry-After": "2"}),
        (Draining("x", retry_after=0), 503, {"Retry-After": "0"}),
    ],
)
def test_failures_have_status_headers_and_one_sentence(error, status, headers):
    encoder = FRONTEND.encoder(FRONTEND.decode(BODY, head()), head())
    for reply in (FRONTEND.failure(error, head()), encoder.failure(error)):
        assert (reply.status, reply.body) == (status, b'{"error":"x"}')
        assert reply.headers == {"Content-Type": "application/json", "Cache-Control": "no-store", **headers}


# -- whose is a request at /api/chat?


MESSAGES = '"messages":[{"role":"user","content":"hi","parts":"x","stream":1}]'


@pytest.mark.parametrize(
    ("fields", "claimed"),
    [
        ("", False),
        ('"model":"m"', False),
        ('"stream":false', False),
        ('"model":7,"stream":false', False),
        ('"model":null,"stream":false', False),
        *(
            (f'"model":"m","{name}":null', True)
            for name in ("stream", "options", "keep_alive", "format", "think", "tools", "raw", "images", "template")
        ),
        ('"model":"m","temperature":0.7,"user":"u","metadata":{"stream":true}', False),
    ],
)
def test_a_request_is_ollamas_by_what_it_has_besides_model_and_messages(fields, claimed):
    body = f"{{{fields}{',' if fields else ''}{MESSAGES}}}".encode()
    assert speaks_ollama(head("/api/chat"), body) == (10 if claimed else 0)


def test_a_client_of_ollamas_is_known_by_its_name():
    assert speaks_ollama(head("/api/chat", user_agent="ollama-python/0.6.3 (x86_64 linux)"), BODY) == 10
    assert speaks_ollama(head("/api/chat", user_agent="Mozilla/5.0 ollama"), BODY) == 0
    assert speaks_ollama(head("/api/chat", user_agent="ollama-python/0.6.3"), b'{"messages":[]}') == 0


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b'"x"', b"{", b'{"model":"m"', b"\xff", b'{"a":' * 100_000, b"[" * 100_000]
)
def test_a_claim_never_raises(body):
    assert speaks_ollama(head("/api/chat", user_agent="ollama"), body) == 0


def test_a_claim_makes_nothing_of_what_it_passes_over():
    body = b'{"model":"m","messages":[%b],"stream":true}' % b",".join([b'{"role":"user","content":"hi"}'] * 600_000)
    tracemalloc.start()
    try:
        assert speaks_ollama(head("/api/chat"), body) == 10
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


UI = b'{"id":"c","messages":[{"id":"1","role":"user","parts":[{"type":"text","text":"hi"}]}],"trigger":"submit-message"%b}'
OLLAMA_HEADER = {"user-agent": "ollama-js/0.6.4 (x64 linux Node.js/v24)"}


@pytest.mark.parametrize(
    ("body", "headers", "contract"),
    [
        (b'{"messages":[{"role":"user","content":"hi"}]}', {}, "chat"),
        (b'{"messages":[{"role":"user","content":"hi"}],"stream":true,"tools":[]}', {}, "chat"),
        (UI % b"", {}, "ai-sdk"),
        (UI % b',"model":"m","tools":{},"stream":true', {}, "ai-sdk"),
        (UI % b',"model":"m"', OLLAMA_HEADER, "ai-sdk"),
        (UI.replace(b'"trigger":"submit-message"%b', b'"model":"m","think":true'), {}, "ai-sdk"),
        (
            UI.replace(b"submit-message", b"x").replace(b'"parts"', b'"content"') % b',"model":"m","think":true',
            {},
            "ollama",
        ),
        (b'{"model":"m","messages":[],"keep_alive":0}', {}, "ollama"),
        (BODY, OLLAMA_HEADER, "ollama"),
        (BODY, {}, "chat"),
        (BODY, {"user-agent": "ollama-python/0.6.3"}, "ollama"),
        (BODY.replace(b"{", b'{"stream":false,', 1), {}, "ollama"),
        (b"no json", {}, "chat"),
    ],
)
def test_the_chat_contract_keeps_what_is_not_clearly_anothers(body, headers, contract):
    served = EndpointTable(built_in_frontends()).find("/api/chat")
    assert served is not None
    asked = msgspec.structs.replace(head("/api/chat"), headers=headers)
    assert resolve(served.served("POST"), asked, body).frontend.name == contract
    named = msgspec.structs.replace(asked, query={"contract": "ollama"})
    assert resolve(served.served("POST"), named, body).frontend.name == "ollama"


# -- what it answers by itself


def test_it_says_that_it_runs():
    for path in ("/ollama", "/ollama/"):
        reply = answered(path, method="GET")
        assert (reply.status, reply.body) == (200, b"Ollama is running")
        assert reply.headers == {"Content-Type": "text/plain; charset=utf-8"}


def test_it_tells_a_version_and_that_nothing_is_loaded_here():
    version = json.loads(answered("/ollama/api/version", method="GET").body)["version"]
    assert [part.isdigit() for part in version.split(".")] == [True] * 3
    assert json.loads(answered("/ollama/api/ps", method="GET").body) == {"models": []}


def test_models_are_listed():
    assert [row["name"] for row in json.loads(FRONTEND.models(["m", "n:1"], 0).body)["models"]] == ["m:latest", "n:1"]


@pytest.mark.parametrize(
    ("asked", "models", "named"),
    [
        ("m", ["m"], ()),
        ("m:latest", ["m"], ()),
        ("m:latest", ["m:latest"], ("m:latest",)),
        ("m:latest", ["m:latest"], ()),  # its upstream lists it so
        ("m", ["m:latest"], ()),
        ("a/b", ["a/b"], ()),
    ],
)
def test_a_model_that_is_offered_is_shown(asked, models, named):
    reply = answered("/ollama/api/show", json.dumps({"model": asked}).encode(), models=models, named=named)
    assert (reply.status, json.loads(reply.body)["model_info"]["general.basename"]) == (200, models[0])


def test_a_model_that_is_not_offered_is_not_found():
    with pytest.raises(NotFound, match=r"^model 'nope:latest' not found$"):
        answered("/ollama/api/show", b'{"model":"nope:latest"}')
    with pytest.raises(NotFound) as refused:
        answered("/ollama/api/show", b'{"model":"%b"}' % (b"x" * 9999))
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("method", "name"), [("POST", "pull"), ("POST", "push"), ("POST", "create"), ("POST", "copy"), ("DELETE", "delete")]
)
def test_what_is_not_served_says_why(method, name):
    with pytest.raises(RequestError, match="config") as refused:
        answered(f"/ollama/api/{name}", b'{"model":"m"}', method=method)
    assert refused.value.status == 501


def test_what_does_not_exist_is_not_found():
    for path in ("/ollama/api/unheard-of", "/ollama/api/blobs/sha256:0", "/ollama/api/pull/"):
        with pytest.raises(NotFound, match="/ollama/api/"):
            answered(path, method="GET")
