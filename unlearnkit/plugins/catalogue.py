"""What plugins offer, as plain rows for people and programs."""

from difflib import get_close_matches
from typing import Any

from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins.discover import Plugins
from unlearnkit.recipe.sections import SORTS, Section, kind_of


def kinds(plugins: Plugins, sort: str | None = None) -> list[dict[str, str]]:
    """Return every kind with its sort, package and first line of documentation."""
    if sort is not None and sort not in (known := [one.name for one in SORTS]):
        raise UserError(f"'{sort}' is no sort of section; there are: {', '.join(known)}", Exit.USAGE)
    return [
        {"sort": name, "kind": kind_of(cls), "package": package, "summary": (cls.__doc__ or "").strip().split("\n")[0]}
        for name, package, cls in _offered(plugins)
        if sort in (None, name)
    ]


def describe(plugins: Plugins, kind: str) -> list[dict[str, Any]]:
    """Return the sections that answer to a kind, with their fields; raise `UserError` where there is none."""
    found = []
    for sort, package, cls in _offered(plugins):
        if kind_of(cls) == kind:
            summary = " ".join((cls.__doc__ or "").split())
            found.append({"kind": kind, "sort": sort, "package": package, "summary": summary, "fields": fields(cls)})
    if not found:
        close = get_close_matches(kind, [row["kind"] for row in kinds(plugins)], 1)
        hint = f"did you mean '{close[0]}'?" if close else "`unlearnkit list` prints them all"
        raise UserError(f"there is no kind '{kind}'; {hint}", Exit.USAGE)
    return found


def fields(cls: type[Section]) -> list[dict[str, Any]]:
    """Return the fields of a section with type, default and meaning; `kind` is left out."""
    properties = cls.model_json_schema()["properties"]
    return [
        {"name": field, "type": _type(properties[field]), "required": info.is_required(),
         "default": properties[field].get("default"), "description": info.description or ""}
        for field, info in cls.model_fields.items() if field != "kind"
    ]  # fmt: skip


def plugin_rows(plugins: Plugins) -> list[dict[str, Any]]:
    """Return every plugin with its package, version, kinds, and the error that kept it from loading."""
    facts = ("name", "package", "version")
    return [
        {name: getattr(p, name) for name in facts} | {"kinds": [kind_of(cls) for cls in p.sections], "error": p.error}
        for p in plugins.all
    ]


def _offered(plugins: Plugins) -> list[tuple[str, str, type[Section]]]:
    """Return sort, package and class of every section."""
    return [(sort.name, plugins.owner(cls).package, cls) for sort in SORTS for cls in plugins.classes(sort.section)]


def _type(schema: dict[str, Any]) -> str:
    """Return a JSON Schema's type in words."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return "list"
    return str(schema.get("type", schema.get("$ref", "section").rpartition("/")[2]))
