"""JSON Schemas in the form that a target takes. No I/O.

What a form has no word for becomes part of the description, which the model reads.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.errors import Unsupported
from proxy.wire.strict_json import MAX_DEPTH

_CHOICES = ("anyOf", "oneOf", "allOf")
_AT_THE_TOP = (*_CHOICES, "not", "enum", "const")
_OPENAPI = frozenset({  # ai.google.dev, API reference: Schema
    "type", "format", "title", "description", "nullable", "enum", "items", "prefixItems", "properties", "required",
    "anyOf", "minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "minimum",
    "maximum", "default", "example", "propertyOrdering",
})  # fmt: skip
_UNSAID = frozenset({"$schema", "$id", "$defs", "definitions", "$comment", "additionalProperties", "examples"})
_OF_ROOTS = frozenset({"$schema", "$id", "$defs", "definitions"})
_DEEPEST = 2
"""How often a schema that holds itself is written out within itself."""
_MOST = 5_000
"""How many values the references of a schema may stand for. To write them takes 10 ms."""


def of_arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments as an object with properties.

    Vendors answer with an error to another type, to none, and to alternatives at the top: "schema must have type
    'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'const'/'not' at the top level". Their properties are put
    together; those that every alternative requires are required.
    """
    if schema.get("type") == "object" and not any(name in schema for name in _AT_THE_TOP):
        return schema
    found = {name: value for name, value in schema.items() if name not in _AT_THE_TOP}
    properties = dict(_mapping(schema.get("properties")))
    required = [*_names(schema)]
    for name in _CHOICES:
        branches = [_mapping(_resolved(one, schema)) for one in _list(schema.get(name))]
        for branch in branches:
            properties |= {key: one for key, one in _mapping(branch.get("properties")).items() if key not in properties}
        together = [{*_names(branch)} for branch in branches]
        if together:
            required += sorted(set.union(*together) if name == "allOf" else set.intersection(*together))
    left = {name: schema[name] for name in _AT_THE_TOP if name in schema and name != "allOf"}
    if left:
        _describe(found, left)
    found |= {"type": "object", "properties": properties}
    return found | ({"required": [*dict.fromkeys(required)]} if required else {})


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with each `$ref` replaced by what it refers to, for targets that follow none.

    Raises `Unsupported` where that gets too large: a few references to references may stand for millions of schemas.
    """
    written: dict[str, Any] = _Inliner(schema).write(schema, ())
    return written


class _Inliner:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _MOST

    def write(self, schema: Any, within: tuple[str, ...], depth: int = 0) -> Any:
        """`within` are the references that led here."""
        self._left -= bool(within)
        if self._left < 0 or depth > MAX_DEPTH:
            raise Unsupported("this target takes no references in schemas, and without them this one is too large")
        depth += 1
        if isinstance(schema, list):
            return [self.write(one, within, depth) for one in schema]
        if not isinstance(schema, Mapping):
            return schema
        reference = schema.get("$ref")
        if isinstance(reference, str):
            beside = {name: one for name, one in schema.items() if name != "$ref"}
            target = _resolved(schema, self._root) if within.count(reference) < _DEEPEST else {}
            return self.write({**_mapping(target), **beside}, (*within, reference), depth)
        return {name: self.write(one, within, depth) for name, one in schema.items() if name not in _OF_ROOTS}


def openapi(schema: Any) -> Any:
    """An inlined schema in the subset that OpenAPI 3.0 has."""
    if not isinstance(schema, Mapping):
        return {} if schema is True else schema
    fields = dict(schema)
    if "const" in fields:
        fields["enum"] = [fields.pop("const")]
    if isinstance(kinds := fields.get("type"), list):
        named = [kind for kind in kinds if isinstance(kind, str) and kind != "null"]
        fields["type"] = named[0] if named else "string"
        if len(named) > 1:
            del fields["type"]
            fields["anyOf"] = [{"type": kind} for kind in named]
        if "null" in kinds:
            fields["nullable"] = True
    if "oneOf" in fields and "anyOf" not in fields:
        fields["anyOf"] = fields.pop("oneOf")
    for one in _list(fields.pop("allOf", None)):
        fields = {**_mapping(one), **fields, "properties": {**_properties(one), **_properties(fields)}}
        fields["required"] = [*dict.fromkeys([*_names(one), *_names(fields)])]
    if isinstance(alternatives := fields.get("anyOf"), list) and {"type": "null"} in alternatives:
        fields["nullable"] = True
        fields["anyOf"] = [one for one in alternatives if one != {"type": "null"}]
    if any(not isinstance(one, str) for one in _list(fields.get("enum"))):  # of texts alone
        _describe(fields, {"enum": fields.pop("enum")})
    if isinstance(fields.get("items"), list):
        fields["prefixItems"] = fields.pop("items")  # of older drafts
    unsaid = {name: fields[name] for name in fields.keys() - _OPENAPI - _UNSAID}
    if rest := _mapping(fields.get("additionalProperties")):
        unsaid["additionalProperties"] = rest
    found = {name: one for name, one in fields.items() if name in _OPENAPI and one not in ([], {})}
    if unsaid:
        _describe(found, unsaid)
    if "properties" in found:
        found["properties"] = {key: openapi(one) for key, one in _mapping(found["properties"]).items()}
    for name in ("anyOf", "prefixItems"):
        if name in found:
            found[name] = [openapi(one) for one in _list(found[name])]
    if "items" in found:
        found["items"] = openapi(found["items"])
    elif found.get("type") == "array" and "prefixItems" not in found:
        found["items"] = {"type": "string"}  # "items: missing field"
    return found


def is_closed(schema: Any) -> bool:
    """Whether every object in the schema is closed, and requires all that it names: OpenAI's `strict` needs that."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if "properties" in schema and isinstance(schema["properties"], Mapping):
        properties = schema["properties"]
        if schema.get("additionalProperties") is not False or {*_names(schema)} != properties.keys():
            return False
        return all(is_closed(one) for one in properties.values())
    return all(is_closed(one) for one in schema.values())


def _describe(fields: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Add what `said` says to the description."""
    words = ", ".join(f"{name}: {msgspec.json.encode(one).decode()}" for name, one in sorted(said.items()))
    before = fields.get("description")
    fields["description"] = f"{before} ({words})" if isinstance(before, str) and before else words


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """What a local `$ref` refers to; the schema itself where it has none."""
    reference = _mapping(schema).get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Any = root if reference.startswith("#") else {}
    for step in reference.removeprefix("#").split("/")[1:]:
        found = _mapping(found).get(step.replace("~1", "/").replace("~0", "~"))
    return found or {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _properties(schema: Any) -> Mapping[str, Any]:
    return _mapping(_mapping(schema).get("properties"))


def _names(schema: Any) -> list[str]:
    names = _mapping(schema).get("required")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
