"""`${VAR}` and `${VAR:-default}` in text. Values are inserted after parsing, once, and never shown in messages."""

import re
from collections.abc import Mapping

import msgspec

# `$$` is a dollar sign. A default ends at the first `}`. Any other dollar sign stays as it is.
_REFERENCE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")


class Substituted(msgspec.Struct, frozen=True):
    """Text with its references replaced. `unset` names the variables that have neither a value nor a default."""

    text: str
    unset: tuple[str, ...] = ()
    values: tuple[str, ...] = ()  # that came from the environment


def substitute(text: str, environment: Mapping[str, str]) -> Substituted:
    """Replace every reference. An empty variable counts as unset. Raises `ValueError` for a broken reference."""
    if "$" not in text:
        return Substituted(text)
    unset: list[str] = []
    values: list[str] = []

    def value(reference: re.Match[str]) -> str:
        dollar, name, default, broken = reference.groups()
        if dollar:
            return "$"
        if broken:
            raise ValueError(
                "`${` starts a variable, written ${NAME} or ${NAME:-default}; for these two characters write $${"
            )
        if found := environment.get(name, ""):
            values.append(found)
            return found
        if default is None:
            unset.append(name)
        return default or ""

    replaced = _REFERENCE.sub(value, text)
    return Substituted(replaced, tuple(dict.fromkeys(unset)), tuple(values))
