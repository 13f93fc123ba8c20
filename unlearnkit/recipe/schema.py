"""The JSON Schema of a recipe with every plugin's sections, in draft-07, which is what editors read."""

import json
from typing import Any

from pydantic import TypeAdapter

DRAFT = "http://json-schema.org/draft-07/schema#"
PLAIN = ("default", "const", "enum", "examples")
"""Keywords whose value is data, in which nothing is to be converted."""


def schema(shape: type[Any]) -> dict[str, Any]:
    """Return the draft-07 schema of an assembled recipe, or of any other shape that pydantic knows."""
    return {"$schema": DRAFT, **_draft7(TypeAdapter(shape).json_schema(ref_template="#/definitions/{model}"))}


def text(shape: type[Any]) -> str:
    """Return the schema as the text of a file, the same for the same sections."""
    return json.dumps(schema(shape), indent=2, ensure_ascii=False) + "\n"


def _draft7(node: Any) -> Any:
    if isinstance(node, list):
        return [_draft7(part) for part in node]
    if not isinstance(node, dict):
        return node
    made: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword in ("$defs", "properties"):
            named = {name: _draft7(part) for name, part in value.items()}
            made["definitions" if keyword == "$defs" else keyword] = named
        elif keyword == "prefixItems":
            made |= {"items": _draft7(value), "additionalItems": False}
        elif keyword != "discriminator":
            made[keyword] = value if keyword in PLAIN else _draft7(value)
    if "const" in made.get("properties", {}).get("kind", {}):
        made["required"] = ["kind", *(name for name in made.get("required", ()) if name != "kind")]
    if "$ref" in made and len(made) > 1:  # draft-07 ignores what stands beside a reference
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made
