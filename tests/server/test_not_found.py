"""What is said where nothing is served."""

from __future__ import annotations

import pytest

from proxy.server.not_found import not_found

SERVED = (
    "/chat",
    "/healthz",
    "/web/chat.js",
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/models/{id}",
    "/v1/responses",
    "/v1/models",
)


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/v1/audio/speech", "Speech and transcription are"),
        ("/v1/audio/transcriptions", "Speech and transcription are"),
        ("/v1/images/generations", "Making images is"),
        ("/v1/moderations", "Moderation is"),
        ("/v1/files/file-1/content", "Storing files is"),
        ("/v1/realtime", "Speech in real time is"),
    ],
)
def test_N10_other_services_of_the_same_base_url_are_named_with_what_to_do(path: str, what: str) -> None:
    error = not_found(path, SERVED)
    assert (error.status, error.code) == (404, "not_served")
    assert f"{what} not served here" in error.message
    assert "another base URL" in error.message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/chat/completion", "Did you mean /v1/chat/completions?"),
        ("/v1/chat", "Did you mean /v1/chat/completions?"),
        ("/health", "Did you mean /healthz?"),
        ("/web/chat", "Did you mean /chat?"),
        ("/v1/mesages", "Did you mean /v1/messages?"),
        (
            "/xyz",
            "Chat is served at /v1/chat/completions, /v1/responses, /v1/messages, /chat; docs/contracts has all paths.",
        ),
    ],
)
def test_N10_other_paths_get_the_closest_or_a_short_list(path: str, message: str) -> None:
    error = not_found(path, SERVED)
    assert error.code == "not_found"
    assert error.message == f"There is nothing at {path}. {message}"


def test_N10_a_long_path_is_not_repeated_whole() -> None:
    assert len(not_found("/" + "x" * 5000, SERVED).message) < 500
