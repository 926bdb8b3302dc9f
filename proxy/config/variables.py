"""`${VAR}` and `${VAR:-default}` in text: replaced once, never parsed again, never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

# `$$` is a dollar sign. A default ends at the first `}`. A dollar sign before anything else is itself.
_REFERENCE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\{))")


class Substituted(msgspec.Struct, frozen=True):
    """Text with its references replaced; `unset` names variables without value and default."""

    text: str
    unset: tuple[str, ...] = ()
    values: tuple[str, ...] = ()  # those that came from the environment


def substitute(text: str, environment: Mapping[str, str]) -> Substituted:
    """Replace every reference. A variable that is empty counts as unset. Raises `ValueError` for a broken one."""
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
