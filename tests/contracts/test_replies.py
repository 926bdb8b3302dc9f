"""What the replies of many contracts have in common."""

import pytest

from proxy.contracts.ag_ui import frontend as ag_ui
from proxy.contracts.ai_sdk import frontend as ai_sdk
from proxy.contracts.ai_sdk import text_frontend as ai_text
from proxy.contracts.chat import frontend as chat
from proxy.contracts.replies import JSON, error_headers, sdk_error_headers
from proxy.contracts.responses import frontend as responses
from proxy.errors import Draining, NotFound, Unauthorized, UpstreamAuth, UpstreamError


@pytest.mark.parametrize("module", [ag_ui, ai_sdk, ai_text, chat, responses], ids=lambda module: module.__name__)
def test_most_contracts_have_no_list_of_models(module):
    for ask in (lambda: module.FRONTEND.models(["m"], 5), lambda: module.FRONTEND.model("m", ["m"], 5)):
        with pytest.raises(NotFound) as raised:
            ask()
        assert raised.value.status == 404


def test_an_error_says_when_to_ask_again():
    assert error_headers(Draining("stopping", retry_after=1.2)) == {**JSON, "Retry-After": "2"}
    assert error_headers(Draining("stopping", retry_after=-1))["Retry-After"] == "0"
    assert sdk_error_headers(Draining("stopping", retry_after=1.2)) == {
        **JSON,
        "Retry-After": "2",
        "Retry-After-Ms": "1200",
        "X-Should-Retry": "true",
    }


def test_C4_sdks_are_told_whether_to_retry_whatever_the_status():
    assert sdk_error_headers(UpstreamAuth("wrong key"))["X-Should-Retry"] == "false"
    assert sdk_error_headers(UpstreamError("broken"))["X-Should-Retry"] == "true"
    assert sdk_error_headers(NotFound("nothing"))["X-Should-Retry"] == "false"


def test_an_error_brings_headers_of_its_own():
    assert error_headers(Unauthorized("no key"), {"A": "b"}) == {"A": "b", "WWW-Authenticate": "Bearer"}
