"""What is said where nothing is served."""

from __future__ import annotations

import re

import pytest

from proxy.server.not_found import not_found

SERVED = (
    "/chat",
    "/chat/completions",
    "/healthz",
    "/web/chat.js",
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/models/{id}",
    "/v1/responses",
    "/v1/models",
)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/audio/speech",
        "/v1/audio/transcriptions",
        "/v1/images/generations",
        "/v1/moderations",
        "/v1/files/file-1/content",
        "/v1/realtime",
        "/v1/assistants",
        "/v1/threads",
        "/v1/batches",
    ],
)
def test_N10_other_services_of_the_same_base_url_are_told_what_to_do(path: str) -> None:
    error = not_found(path, SERVED)
    assert (error.status, error.code) == (404, "not_served")
    assert path in error.message
    assert "base URL" in error.message


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/chat/completion", ["/v1/chat/completions"]),
        ("/v1/chat", ["/v1/chat/completions"]),
        ("/health", ["/healthz"]),
        ("/web/chat", ["/chat"]),
        ("/chat/", ["/chat"]),
        ("/v1/responses/", ["/v1/responses"]),
        ("/v1/mesages", ["/v1/messages"]),
        ("/xyz", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/chat"]),
    ],
)
def test_N10_other_paths_get_the_closest_or_a_short_list(path: str, named: list[str]) -> None:
    error = not_found(path, SERVED)
    assert error.code == "not_found"
    assert re.findall(r"(?<!\w)/[\w/]+", error.message) == [path, *named]


def test_N10_a_long_path_is_not_repeated_whole() -> None:
    assert len(not_found("/" + "x" * 5000, SERVED).message) < 500
