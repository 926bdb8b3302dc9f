"""What somebody may have meant who wrote what there is not."""

from __future__ import annotations

from collections.abc import Collection


def closest(name: str, known: Collection[str]) -> str | None:
    """The one of `known` that is most like `name`, if any is like it; only its first 64 characters are looked at."""
    from difflib import get_close_matches  # noqa: PLC0415 - nearly nobody is ever wrong, and it takes 0.2 MB

    near = get_close_matches(name[:64], known, n=1, cutoff=0.6)
    return near[0] if near else None
