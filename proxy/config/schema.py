"""JSON Schema of a config file, for editors: the settings, with a row type for each registered backend kind."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from proxy.config.models import Settings

_REFERENCE = "#/$defs/{model}"


def json_schema(kinds: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The schema of a file whose backends are of these `kinds`."""
    schema = Settings.model_json_schema(ref_template=_REFERENCE)
    definitions: dict[str, Any] = schema["$defs"]
    rows = []
    for kind, model in sorted(kinds.items()):
        row = model.model_json_schema(ref_template=_REFERENCE)
        definitions |= row.pop("$defs", {})
        row["properties"]["kind"] = {"const": kind, "description": row["properties"]["kind"].get("description", "")}
        row["title"] = f"Backend of kind {kind}"
        definitions[f"backend-{kind}"] = row
        rows.append({"$ref": f"#/$defs/backend-{kind}"})
    schema["properties"]["backends"]["additionalProperties"] = {"oneOf": rows}
    _describe_auth(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "chat-proxy config",
        "required": ["backends", "routes"],
    }


def _describe_auth(schema: dict[str, Any]) -> None:
    """In the file `auth` is the word `off`, which editors with YAML 1.1 read as false, or a mapping with `keys`."""
    keys = schema["$defs"]["AuthSettings"]
    keys["properties"].pop("off")
    keys["required"] = ["keys"]
    auth = schema["properties"]["auth"]
    schema["properties"]["auth"] = {
        "description": auth["description"],
        "anyOf": [{"enum": ["off", False]}, {"$ref": "#/$defs/AuthSettings"}],
    }
