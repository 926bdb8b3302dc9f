"""JSON Schemas for answers, in the dialect that Anthropic takes.

https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs: every object says `additionalProperties: false`,
and bounds of numbers, texts and lists are refused. A bound becomes part of the description, which the model reads.
"""

from collections.abc import Mapping
from typing import Any

_BOUNDS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
_OF_SCHEMAS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with every object closed, and with bounds as words."""
    fields = {name: value for name, value in schema.items() if name not in _BOUNDS}
    bounds = [f"{name}: {schema[name]}" for name in _BOUNDS if name in schema]
    if (count := schema.get("minItems")) not in (None, 0, 1):
        bounds.append(f"minItems: {count}")
        del fields["minItems"]
    if bounds:
        words = ", ".join(bounds)
        before = schema.get("description")
        fields["description"] = f"{before} ({words})" if isinstance(before, str) and before else words
    for name in _OF_SCHEMAS:
        if isinstance(inner := fields.get(name), Mapping):
            fields[name] = {key: closed(one) if isinstance(one, Mapping) else one for key, one in inner.items()}
    for name in _LISTS:
        if isinstance(inner := fields.get(name), list):
            fields[name] = [closed(one) if isinstance(one, Mapping) else one for one in inner]
    if isinstance(inner := fields.get("items"), Mapping):
        fields["items"] = closed(inner)
    kind = fields.get("type")
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in fields:
        fields["additionalProperties"] = False
    return fields
