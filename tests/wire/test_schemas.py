"""JSON Schemas in the forms that targets take."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Unsupported
from proxy.wire.schemas import inlined, is_closed, of_arguments, openapi

TEXT = {"type": "string"}


def test_R2_alternatives_at_the_top_become_one_object() -> None:
    schema = {
        "properties": {"c": TEXT},
        "required": ["c"],
        "anyOf": [
            {"properties": {"a": TEXT, "c": {}}, "required": ["a", "c"]},
            {"properties": {"b": TEXT}, "required": ["b", "c"]},
        ],
    }
    told = of_arguments(schema)
    assert told["type"] == "object"
    assert told["properties"] == {"c": TEXT, "a": TEXT, "b": TEXT}
    assert told["required"] == ["c"]
    assert "anyOf" not in told
    assert '"required":["a","c"]' in told["description"]  # the model reads what the schema no longer says


def test_R2_all_parts_of_a_whole_become_one_object() -> None:
    branches = [{"properties": {"a": TEXT}, "required": ["a"]}, {"$ref": "#/$defs/B"}]
    told = of_arguments({"allOf": branches, "$defs": {"B": {"properties": {"b": TEXT}, "required": ["b"]}}})
    assert (told["properties"], told["required"]) == ({"a": TEXT, "b": TEXT}, ["a", "b"])
    assert "description" not in told


def test_a_schema_that_every_target_takes_is_left_as_it_is() -> None:
    schema = {"type": "object", "properties": {"a": {"anyOf": [TEXT, {"type": "null"}]}}}
    assert of_arguments(schema) is schema


def test_R2_references_are_written_out_and_one_that_refers_to_itself_ends() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Tree", "description": "d"}}}
    told = inlined({"$defs": {"Tree": tree}, "$ref": "#/$defs/Tree"})
    assert told["properties"]["child"]["description"] == "d"
    assert told["properties"]["child"]["type"] == "object"
    assert "$ref" not in str(told)
    assert inlined({"$ref": "https://example.com/x.json"}) == {}


def test_R2_what_openapi_has_no_word_for_becomes_part_of_the_description() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "a": {"const": "x"},
            "b": {"type": ["string", "null"]},
            "c": {"type": "integer", "enum": [1, 2], "description": "one or two"},
            "d": {"oneOf": [TEXT, {"type": "null"}]},
            "e": {"type": "number", "exclusiveMinimum": 0},
            "f": {"type": "array", "items": {"type": ["string", "integer"]}},
            "g": True,
        },
    }
    assert openapi(schema)["properties"] == {
        "a": {"enum": ["x"]},
        "b": {"type": "string", "nullable": True},
        "c": {"type": "integer", "description": "one or two (enum: [1,2])"},
        "d": {"anyOf": [TEXT], "nullable": True},
        "e": {"type": "number", "description": "exclusiveMinimum: 0"},
        "f": {"type": "array", "items": {"anyOf": [TEXT, {"type": "integer"}]}},
        "g": {},
    }


def test_strict_schemas_are_closed_and_require_all_that_they_name() -> None:
    closed = {"type": "object", "properties": {"a": TEXT}, "required": ["a"], "additionalProperties": False}
    assert is_closed(closed)
    assert not is_closed({**closed, "required": []})
    assert not is_closed({**closed, "properties": {"a": {"type": "object", "properties": {}}}})


def test_A8_references_that_stand_for_millions_of_schemas_are_refused() -> None:
    names = "abcdefgh"
    definitions = {
        name: {"properties": {str(n): {"$ref": f"#/$defs/{after}"} for n in range(20)}}
        for name, after in pairwise(names)
    }
    with pytest.raises(Unsupported, match="too large"):
        inlined({"$defs": definitions | {"h": {}}, "$ref": "#/$defs/a"})
    cycle = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}
    assert inlined({"$defs": cycle, "$ref": "#/$defs/a"}) == {}


def test_R2_a_list_says_what_it_holds() -> None:
    assert openapi({"type": "array", "items": {}}) == {"type": "array", "items": {"type": "string"}}


def test_A8_references_that_nest_deeper_than_a_request_may_are_refused() -> None:
    names = "abcde"
    definitions: dict[str, object] = {"e": {}}
    for name, after in pairwise(names):
        inner: dict[str, object] = {"$ref": f"#/$defs/{after}"}
        for _ in range(50):
            inner = {"items": inner}
        definitions[name] = inner
    with pytest.raises(Unsupported):
        inlined({"$defs": definitions, "$ref": "#/$defs/a"})


WORDS = ["type", "properties", "required", "anyOf", "oneOf", "allOf", "items", "prefixItems", "enum", "const"]
WORDS += ["$ref", "$defs", "definitions", "description", "nullable", "minimum", "additionalProperties", "not"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "null", "#/$defs/a", "#", "x", "#//~1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*WORDS, "a"]), inner, max_size=4),
    max_leaves=12,
)


@given(schema=st.dictionaries(st.sampled_from(WORDS), ANYTHING, max_size=5))
def test_A6_a_schema_that_is_none_is_no_fault_of_ours(schema: dict[str, object]) -> None:
    told = of_arguments(schema)
    assert told["type"] == "object"
    is_closed(told)
    with contextlib.suppress(Unsupported):
        openapi(inlined(told))


def test_R2_a_tuple_of_an_older_draft_and_a_map_have_words_in_openapi() -> None:
    pair = openapi({"type": "array", "items": [TEXT, {"const": "x"}]})
    assert pair == {"type": "array", "prefixItems": [TEXT, {"enum": ["x"]}]}
    told = openapi({"type": "object", "additionalProperties": TEXT})
    assert told == {"type": "object", "description": 'additionalProperties: {"type":"string"}'}
