"""`${VAR}` in text: replaced once, never parsed as YAML, never shown."""

from __future__ import annotations

import pytest

from proxy.config.source import parse


def read(text, **env):
    return parse(text.encode(), file="f.yaml", environment=env)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "va"),
        ("x${A}y${A}z", "xvayvaz"),
        ("${A:-other}", "va"),
        ("${NONE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${NONE:-}", ""),
        ("${NONE:-a:b - c}", "a:b - c"),
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("$$${A}", "$va"),
        ("$A $5 100$", "$A $5 100$"),
    ],
)
def test_references_are_replaced(text, value):
    document = read(f"k: '{text}'", A="va", EMPTY="")
    assert document.data == {"k": value}
    assert not document.unset


def test_a_value_is_never_parsed_again():
    document = read("k: ${A}\nl: '${B}'", A="{x: [1, !!python/object:os.system {}]}", B="${A}")
    assert document.data == {"k": "{x: [1, !!python/object:os.system {}]}", "l": "${A}"}
    assert read("k: ${A}", A="true").data == {"k": "true"}


def test_unset_variables_are_noted_by_place():
    document = read("k: [a, '${X}${Y}${X}${Z:-}']", Y="")
    assert document.unset == {("k", 1): ("X", "Y")}


def test_keys_are_not_replaced():
    assert read("'${A}': 1", A="x").data == {"${A}": 1}
