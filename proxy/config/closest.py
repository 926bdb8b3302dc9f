"""The known name that is most like an unknown one."""

from collections.abc import Collection


def closest(name: str, known: Collection[str]) -> str | None:
    """The most similar of `known`, or None if none is similar. Compares the first 64 characters, in either case."""
    from difflib import get_close_matches  # noqa: PLC0415 - 0.2 MB, needed only after a mistake

    spelled = {one.lower(): one for one in known}
    near = get_close_matches(name[:64].lower(), spelled, n=1, cutoff=0.6)
    return spelled[near[0]] if near else None
