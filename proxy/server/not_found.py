"""What to say where nothing is served."""

from collections.abc import Iterable

from proxy.config.wording import closest
from proxy.errors import NotFound

OTHER_SERVICES = {
    "audio/": "Speech and transcription are",
    "realtime": "Speech in real time is",
    "images/": "Making images is",
    "videos": "Making videos is",
    "moderations": "Moderation is",
    "rerank": "Reranking is",
    "files": "Storing files is",
    "uploads": "Storing files is",
    "batches": "Batches are",
    "fine_tuning/": "Fine-tuning is",
    "assistants": "The Assistants API is",
    "threads": "The Assistants API is",
    "vector_stores": "Storing vectors is",
}
"""What clients ask an OpenAI base URL for besides chats, completions and embeddings, by how the path goes on after `/v1/`."""

COMMON = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/chat")


def not_found(path: str, served: Iterable[str]) -> NotFound:
    """The error for a path at which nothing is served, and what to do instead."""
    shown = path[:200]
    name = path.removeprefix("/v1/").lstrip("/")
    for start, what in OTHER_SERVICES.items():
        if name == start or name.startswith(start.rstrip("/") + "/"):
            return NotFound(
                f"There is nothing at {shown}. {what} not served here: only chats, completions and embeddings are. Give your client "
                "another base URL for it, such as the provider's own.",
                code="not_served",
            )
    paths = [one for one in served if "{" not in one and not one.startswith("/web/")]
    stem = path.rstrip("/")
    within = [one for one in paths if path.count("/") > 1 and f"{one}/".startswith(f"{stem}/")]
    if near := min(within, key=len, default=None) or closest(path, paths):
        return NotFound(f"There is nothing at {shown}. Did you mean {near}?")
    some = [one for one in COMMON if one in paths] or sorted(paths)[:4]
    return NotFound(f"There is nothing at {shown}. Chat is served at {', '.join(some)}; docs/contracts has all paths.")
