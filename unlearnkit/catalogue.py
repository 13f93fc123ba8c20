"""What plugins offer, as plain rows for people and programs."""

from difflib import get_close_matches
from typing import Any

from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins, kind_of
from unlearnkit.recipe.sections import (
    AuditSection,
    DataSection,
    ExtractorSection,
    LossSection,
    MethodSection,
    MetricSection,
    ModelSection,
    MultiplierSection,
    PsiSection,
    Section,
    TaskSection,
)

SORTS: dict[str, type[Section]] = {
    "models": ModelSection,
    "data": DataSection,
    "tasks": TaskSection,
    "losses": LossSection,
    "controls": PsiSection,
    "multipliers": MultiplierSection,
    "methods": MethodSection,
    "metrics": MetricSection,
    "audits": AuditSection,
    "extractors": ExtractorSection,
}


def kinds(plugins: Plugins, sort: str | None = None) -> list[dict[str, str]]:
    """Return every kind with its sort, package and first line of documentation."""
    if sort is not None and sort not in SORTS:
        raise UserError(f"'{sort}' is no sort of section; there are: {', '.join(SORTS)}", Exit.USAGE)
    return [
        {
            "sort": name,
            "kind": kind_of(cls),
            "package": plugins.owner(cls).package,
            "summary": (cls.__doc__ or "").strip().partition("\n")[0],
        }
        for name, base in SORTS.items()
        if sort in (None, name)
        for cls in plugins.classes(base)
    ]


def describe(plugins: Plugins, kind: str) -> list[dict[str, Any]]:
    """Return the sections that answer to a kind, with their fields; raise `UserError` where there is none."""
    found = []
    for name, base in SORTS.items():
        for cls in plugins.classes(base):
            if kind_of(cls) == kind:
                summary = " ".join((cls.__doc__ or "").split())
                found.append(
                    {
                        "kind": kind,
                        "sort": name,
                        "package": plugins.owner(cls).package,
                        "summary": summary,
                        "fields": fields(cls),
                    }
                )
    if not found:
        close = get_close_matches(kind, [row["kind"] for row in kinds(plugins)], 1)
        hint = f"did you mean '{close[0]}'?" if close else "`unlearnkit list` prints them all"
        raise UserError(f"there is no kind '{kind}'; {hint}", Exit.USAGE)
    return found


def fields(cls: type[Section]) -> list[dict[str, Any]]:
    """Return the fields of a section with type, default and meaning; `kind` is left out."""
    properties = cls.model_json_schema()["properties"]
    return [
        {
            "name": field,
            "type": _type(properties[field]),
            "required": info.is_required(),
            "default": None if info.is_required() else properties[field].get("default"),
            "description": info.description or "",
        }
        for field, info in cls.model_fields.items()
        if field != "kind"
    ]


def plugin_rows(plugins: Plugins) -> list[dict[str, Any]]:
    """Return every plugin with its package, version, kinds, and the error that kept it from loading."""
    return [
        {
            "name": plugin.name,
            "package": plugin.package,
            "version": plugin.version,
            "kinds": [kind_of(cls) for cls in plugin.sections],
            "error": plugin.error,
        }
        for plugin in plugins.all
    ]


def _type(schema: dict[str, Any]) -> str:
    """Return a JSON Schema's type in words."""
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return "list"
    return str(schema.get("type", schema.get("$ref", "section").rpartition("/")[2]))
