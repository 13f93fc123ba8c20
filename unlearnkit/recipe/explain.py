"""Pydantic's complaints in plain words, each at the key or value of the recipe that it is about."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from unlearnkit.recipe.assemble import Lacking
from unlearnkit.recipe.problem import MAX_NAME, Loc, describe, dotted, shown
from unlearnkit.recipe.sections import SORTS
from unlearnkit.recipe.source import NUMBER

SHAPES = {
    **dict.fromkeys(("string_type", "path_type"), "a text"),
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type"), "a mapping"), "float_type": "a number",
    "finite_number": "a finite number", "bool_type": "true or false", "none_required": "nothing",
}  # fmt: skip
LIMITS = {
    "greater_than": "a number above {}", "greater_than_equal": "a number of at least {}",
    "less_than": "a number below {}", "less_than_equal": "a number of at most {}", "multiple_of": "a multiple of {}",
    "string_too_short": "a text of at least {} characters", "string_too_long": "a text of at most {} characters",
}  # fmt: skip
PATTERNS = {
    r"^[a-z0-9][a-z0-9-]{0,63}$": "1 to 64 lower-case letters, digits and hyphens, the first one no hyphen",
    r"^(auto|cpu|cuda(:\d+)?)$": "auto, cpu, cuda, or a numbered device such as cuda:1",
    r"^(f1|f2|[^/]+/[^/]+|(forget|retain)/(train|validation)/(truth|original)/[^/]+)$":
        "AUDIT/FIGURE such as membership/auc, SET/SPLIT/AGAINST/METRIC such as forget/validation/truth/psnr, f1 or f2",
}  # fmt: skip
"""The patterns of the core's recipe in words."""


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a part of a recipe."""

    loc: Loc
    message: str
    about: Literal["value", "key", "missing key", "kind"] = "value"
    meant: str | None = None
    """The key or kind that was probably meant by an unknown one."""
    plugin: bool = False
    """Whether a plugin that failed to load may be the reason."""


@dataclass(frozen=True)
class Spot:
    """Where a complaint of pydantic points to, without the kinds and labels that it puts between the keys."""

    loc: Loc
    members: list[Any]
    """What may stand here: the annotation without `None`, or the members of its union."""
    union: Loc | None
    """Where a union without kinds was entered, whose members all complain about one mistake."""


def explain(
    errors: Iterable[ErrorDetails], recipe: type[BaseModel], data: object, broken: Sequence[Lacking]
) -> list[Complaint]:
    """Return what pydantic's `errors` about `data` mean; `broken` plugins may be why a kind is unknown."""
    complaints: list[Complaint] = []
    unions: dict[Loc, list[tuple[ErrorDetails, Spot]]] = {}
    for error in errors:
        spot = _spot(recipe, error["loc"])
        if spot.union is None:
            complaints.append(_explained(error, spot, recipe, data, broken))
        else:
            unions.setdefault(spot.union, []).append((error, spot))
    for loc, alternatives in unions.items():
        inner = [(error, spot) for error, spot in alternatives if spot.loc != loc or not _shape(error)]
        complaints += [_explained(error, spot, recipe, data, broken) for error, spot in inner]
        if not inner:
            complaints.append(_misfit(loc, value_at(data, loc), [_shape(error) for error, _ in alternatives]))
    return complaints


def value_at(data: object, loc: Loc) -> Any:
    """Return what stands at `loc` of plain data, None for nothing."""
    for step in loc:
        if isinstance(data, list):
            data = data[step] if isinstance(step, int) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def guess(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that a misspelt word probably means."""
    if len(word) > MAX_NAME:
        return None
    return next(iter(get_close_matches(word.lower(), list(candidates), n=1, cutoff=0.65)), None)


def overrides(name: str, value: str | None, recipe: type[BaseModel]) -> list[str]:
    """Return what sets the highest fields of a recipe that are called `name`, or that are lists of such, to `value`."""
    level: list[tuple[Loc, list[Any]]] = [((), [recipe])]
    while level := [((*loc, key), _members(f.annotation)) for loc, m in level for key, f in _fields(m).items()]:
        leaves = [(loc, members) for loc, members in level if not _fields(members)]
        for ends in (
            [(name,), (name, "kind")],
            [(f"{name}s",), *((f"{name}s", loc[-1]) for loc, m in leaves if not _listed(m))],
        ):
            if found := [f"{dotted(loc)}={_written(value, m)}" for loc, m in leaves if {loc[-1:], loc[-2:]} & {*ends}]:
                return found
    return []


def _written(value: str | None, members: list[Any]) -> str:
    if get_origin(members[0]) is list:
        return f"[{{kind: {value or '...'}}}]" if _listed(members) else f"[{value or '...'}]"
    return str(value != "false").lower() if members == [bool] else value or "VALUE"


def _listed(members: list[Any]) -> bool:
    """Tell whether a field is a list of sections."""
    return get_origin(members[0]) is list and bool(_fields(_members(get_args(members[0])[0])))


def _spot(recipe: type[BaseModel], loc: Loc) -> Spot:
    members: list[Any] = [recipe]
    clean: Loc = ()
    union: Loc | None = None
    for step in loc:
        if len(members) > 1:
            union = clean if union is None and not all(map(_kinds, members)) else union
            members = [member for member in members if step in (*_kinds(member), getattr(member, "__name__", None))]
            continue
        one = members[0] if members else None
        clean = (*clean, step)
        members = []
        if isinstance(one, type) and issubclass(one, BaseModel):
            members = _members(one.model_fields[step].annotation) if step in one.model_fields else []
        elif arguments := get_args(one):
            fixed = get_origin(one) is tuple and ... not in arguments
            members = _members(arguments[int(step) if fixed else get_origin(one) is dict])
    return Spot(clean, members, union)


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for part in get_args(annotation) if part is not NoneType for member in _members(part)]
    return [annotation]


def _fields(members: list[Any]) -> dict[str, FieldInfo]:
    return {name: info for member in members for name, info in getattr(member, "model_fields", {}).items()}


def _kinds(member: Any) -> tuple[str, ...]:
    fields = _fields([member])
    return get_args(fields["kind"].annotation) if "kind" in fields else ()


def _shape(error: ErrorDetails) -> str:
    """Return what sort of value was expected, empty where the complaint is not about that."""
    if error["type"] in ("literal_error", "enum"):
        return str(error["ctx"]["expected"])
    return SHAPES.get(error["type"], "")


def _misfit(loc: Loc, value: object, expected: Sequence[str]) -> Complaint:
    words = " or ".join(dict.fromkeys(expected))
    advice = ""
    if value is None:
        advice = "; give one or remove it"
    elif isinstance(value, str) and "number" in words and NUMBER.fullmatch(value):
        advice = "; remove the quotes"
    elif isinstance(value, str) and (meant := guess(value, re.findall("'([^']*)'", words))):
        advice = f"; did you mean {shown(meant)}?"
    elif isinstance(value, bool | int | float) and "a text" in words:
        advice = "; put it in quotes"
    return Complaint(loc, f"expected {words}, got {describe(value)}{advice}")


def _explained(
    error: ErrorDetails, spot: Spot, recipe: type[BaseModel], data: object, broken: Sequence[Lacking]
) -> Complaint:
    loc, value = spot.loc, value_at(data, spot.loc)
    context = error.get("ctx", {})
    limit = str(next(iter(context.values()), "")).removesuffix(".0")
    around, holders = value_at(data, loc[:-1]), _spot(recipe, error["loc"][:-1]).members
    match error["type"]:
        case "missing" | "literal_error" if loc[-1] == "kind":
            return _about_kind(loc[:-1], around, holders, broken)
        case "union_tag_not_found" | "union_tag_invalid" | "no_kind":
            return _about_kind(loc, value, spot.members, broken)
        case "dict_type" | "model_type" if any(map(_kinds, spot.members)):
            return _about_kind(loc, value, spot.members, broken)
        case "extra_forbidden":
            return _unknown_key(loc, around, holders)
        case "missing" if isinstance(around, list):
            return Complaint(loc[:-1], f"expected {len(get_args(holders[0]))} entries, got {len(around)}")
        case "missing":
            field = _fields(holders).get(str(loc[-1]))
            said = (field and field.description) or ""
            return Complaint(loc, f"missing; add it here. {said}".rstrip(), "missing key")
        case "too_short":
            return Complaint(loc, f"expected at least {context['min_length']} entries, got {context['actual_length']}")
        case "too_long":
            return Complaint(loc, f"expected at most {context['max_length']} entries, got {context['actual_length']}")
        case "string_pattern_mismatch":
            return _misfit(loc, value, [PATTERNS.get(limit, f"a text that matches {limit}")])
        case "value_error" | "assertion_error":
            return Complaint(loc, " ".join(str(context["error"]).split()))
        case sort if sort in LIMITS:
            return _misfit(loc, value, [LIMITS[sort].format(limit)])
        case _:
            return _misfit(loc, value, [_shape(error)]) if _shape(error) else Complaint(loc, error["msg"])


def _unknown_key(loc: Loc, around: dict[str, Any], members: list[Any]) -> Complaint:
    keys = list(_fields(members))
    word = str(loc[-1])
    meant = guess(word, (key for key in keys if key not in around)) or guess(word, keys)
    known = f"the keys here are {', '.join(keys)}" if keys else "remove it"
    advice = f"did you mean {shown(meant)}?" if meant else known
    return Complaint(loc, f"unknown key; {advice}", "key", meant)


def _about_kind(loc: Loc, section: object, members: list[Any], broken: Sequence[Lacking]) -> Complaint:
    """Say what is wrong with the kind of the section at `loc`, which is one of `members`."""
    kinds = sorted(kind for member in members for kind in _kinds(member))
    known = f"the kinds are {', '.join(kinds)}" if kinds else "no plugin brings one"
    if not isinstance(section, dict):
        return Complaint(loc, f"expected a mapping with a kind, got {describe(section)}; {known}")
    if "kind" not in section:
        for key in section:
            if key not in _fields(members) and guess(key, ["kind"]):
                return Complaint((*loc, key), "unknown key; did you mean 'kind'?", "key", "kind")
        return Complaint((*loc, "kind"), f"missing; {known}", "missing key")
    if not isinstance(kind := section["kind"], str):
        return Complaint((*loc, "kind"), f"expected a kind, got {describe(kind)}; {known}", "kind")
    meant = guess(kind, kinds)
    message = f"unknown kind {shown(kind)}; " + (f"did you mean {shown(meant)}? ({known})" if meant else known)
    bases = tuple(sort.section for sort in SORTS)
    blamed = broken if all(issubclass(member, bases) for member in members) else ()
    for plugin in blamed:
        message += f" (the plugin '{plugin.name}' of package {plugin.package} failed to load: run `unlearnkit plugins`)"
    return Complaint((*loc, "kind"), message, "kind", meant, bool(blamed))
