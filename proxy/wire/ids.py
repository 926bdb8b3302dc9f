"""Ids of calls and users, and names of tools, as a target takes them. They depend on the client's alone. No I/O."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b, sha256

from proxy.wire.vocabulary import WORD, IdForm, NameForm

_BASE62 = WORD.rstrip("_-")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def id_for(id_: str, form: IdForm, used: set[str]) -> str:
    """The id itself where it can stay, else one made from it."""
    count = 0
    found = id_
    while found in used or not form.takes(found):
        found = _made(f"{count}\0{id_}", form)
        count += 1
    used.add(found)
    return found


def user_for(user: str, longest: int) -> str:
    """Who asks; its digest where it has more characters than the target takes."""
    return user if len(user) <= longest else sha256(user.encode()).hexdigest()


def fitted(ids: Iterable[str], form: IdForm) -> Mapping[str, str]:
    """The ids that a target does not take, each with the one that is sent instead."""
    known = list(ids)
    used = {id_ for id_ in known if form.takes(id_)}
    return {id_: id_for(id_, form, used) for id_ in known if id_ not in used}


def _made(seed: str, form: IdForm) -> str:
    alphabet = "".join(one for one in _BASE62 if one in form.characters) or form.characters or _BASE62
    return _drawn(seed, alphabet, min(form.longest, max(form.shortest, 24)))


def _drawn(seed: str, alphabet: str, length: int) -> str:
    """Characters of `alphabet` that depend on `seed` alone."""
    digest = int.from_bytes(blake2b(seed.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    characters = ""
    while len(characters) < length:
        digest, index = divmod(digest, len(alphabet))
        characters += alphabet[index]
    return characters


def names_for(names: Iterable[str], form: NameForm) -> Mapping[str, str]:
    """The names that a target does not take, each with the one that is sent instead.

    The new name begins like the old one and ends in a digest of it, so it depends on no other name. Answers to
    the client have the old one.
    """
    return {name: _short(name, form) for name in names if not form.takes(name)}


def _short(name: str, form: NameForm) -> str:
    allowed = form.characters or WORD
    fill = "_" if "_" in allowed else allowed[0]
    digest = _drawn(name, "".join(one for one in _BASE32 if one in allowed) or allowed, 8)
    cleaned = "".join(character if character in allowed else fill for character in name)
    if form.starts and cleaned[:1] not in form.starts:
        cleaned = f"{'t' if 't' in form.starts else form.starts[0]}{fill}{cleaned}"
    return f"{cleaned[: form.longest - len(digest) - 1]}{fill}{digest}"
