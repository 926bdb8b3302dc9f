"""The Responses frontend: where it is served, its replies outside a stream, and what its page tells Codex."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from openai.types.responses import Response

from proxy.cli import main
from proxy.contracts.base import Head, Offer
from proxy.contracts.openai.frontend import FRONTEND as OPENAI
from proxy.contracts.responses.frontend import FRONTEND
from proxy.errors import BadRequest, Draining, NotFound, Unauthorized, UpstreamFailed
from proxy.events import Batch, Finish, Start, TextDelta
from proxy.request import Answer
from tests.support.responses_reader import read_responses

PAGE = Path(__file__).parents[3] / "docs/clients/agents.md"
HEAD = Head(id="r1", method="POST", path="/v1/responses", query={}, headers={"x-team": "a"})
BODY = b'{"model":"asked","input":"hi","stream":true}'


def encoder():
    return FRONTEND.encoder(FRONTEND.decode(BODY, HEAD), HEAD)


def test_it_is_served_with_and_without_the_version():
    chat = {endpoint.path for endpoint in FRONTEND.endpoints if endpoint.action == "chat"}
    assert chat == {"/v1/responses", "/responses"}


def test_a_request_keeps_where_it_came_to():
    request = FRONTEND.decode(BODY, HEAD)
    assert (request.id, request.contract, request.path) == ("r1", "responses", "/v1/responses")
    assert request.headers == {"x-team": "a"}


def test_an_answer_and_its_items_bear_the_requests_id():
    reader = read_responses(encoder().feed(Batch([Start("theirs", ""), TextDelta("a"), Finish()])))
    assert (reader.response["id"], reader.response["model"]) == ("resp_r1", "asked")
    assert reader.response["output"][0]["id"] == "msg_r1_0"


def test_streams_and_pings_are_as_in_the_openai_contract():
    assert encoder().headers == OPENAI.encoder(FRONTEND.decode(BODY, HEAD), HEAD).headers
    assert encoder().ping() == b": ping\n\n"
    assert not encoder().early
    assert not encoder().abort_on_fault


def test_a_whole_answer_is_a_response_object():
    reply = encoder().whole(Answer(text="hi", model="m"))
    assert reply.status == 200
    assert reply.headers == {"Content-Type": "application/json", "Cache-Control": "no-store"}
    assert Response.model_validate_json(reply.body).output_text == "hi"


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("x", param="input"),
        Unauthorized("x"),
        UpstreamFailed("x", status=429, retry_after=1.2),
        Draining("x"),
    ],
)
def test_failures_before_the_stream_are_those_of_the_openai_contract(error):
    assert encoder().failure(error) == FRONTEND.failure(error, HEAD) == OPENAI.failure(error, HEAD)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_there_is_no_kept_response_to_fetch_delete_or_cancel(method):
    [endpoint] = [one for one in FRONTEND.endpoints if (one.method, one.path) == (method, "/v1/responses/{id}")]
    with pytest.raises(NotFound) as refused:
        endpoint.answer(b"", HEAD, Offer([], 0))
    assert (refused.value.status, refused.value.param) == (404, "response_id")


def test_explain_tells_where_a_request_of_the_contract_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(
        "backends: {echo: {kind: echo}}\n"
        "routes: [{name: codex, match: {contract: responses}, to: echo/a}, {name: default, to: echo}]\n"
    )
    for body, arguments in ((None, []), ('{"model": "m", "input": "hi", "max_output_tokens": 9}', ["-"])):
        ran = CliRunner().invoke(main, ["explain", "--path", "/v1/responses", *arguments], input=body)
        assert ran.exit_code == 0
        assert re.search(r"^contract +responses$", ran.stdout, re.MULTILINE)
        assert re.search(r"^route +codex$", ran.stdout, re.MULTILINE)
    assert "max_completion_tokens 9" in ran.stdout


def test_the_page_shows_codex_settings_that_lead_here():
    [shown] = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    settings = tomllib.loads(shown)
    provider = settings["model_providers"][settings["model_provider"]]
    assert provider["wire_api"] == "responses"
    path = provider["base_url"].removeprefix("http://localhost:8080") + "/responses"
    assert ("POST", path, "chat") in {(one.method, one.path, one.action) for one in FRONTEND.endpoints}
