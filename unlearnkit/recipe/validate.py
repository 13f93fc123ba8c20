"""A recipe's file to a recipe: every mistake in one pass, each at its place."""

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from unlearnkit.errors import Exit
from unlearnkit.recipe import vary
from unlearnkit.recipe.assemble import Offer, assemble
from unlearnkit.recipe.data import Selection
from unlearnkit.recipe.explain import Complaint, explain, value_at
from unlearnkit.recipe.pretraining import PretrainRecipe
from unlearnkit.recipe.problem import MAX_PROBLEMS, Loc, Problem, RecipeError, shown
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import placed
from unlearnkit.recipe.source import Source, read

R = TypeVar("R", bound=BaseModel)
CRITERIA = ("classes", "files", "where", "draw", "fraction")
"""What selects images; a forget set needs one of them."""

_assembled = lru_cache(maxsize=8)(assemble)


@dataclass(frozen=True)
class Loaded:
    """A valid recipe, how it was written, and all of it with every default as plain data."""

    recipe: Recipe | PretrainRecipe
    source: Source
    resolved: dict[str, Any]


def recipe_class(recipe: type[R], offer: Offer) -> type[R]:
    """Return `Recipe` or `PretrainRecipe` with all sections that there are."""
    return _assembled(recipe, tuple(offer.sections))


def load(path: Path | str, offer: Offer, overrides: Sequence[str] = (), folder: Path | None = None) -> Loaded:
    """Read and validate a recipe, or a pretrain recipe if it has that key; raise `RecipeError` with every problem.

    Relative paths in it start at `folder`, the file's own when left out.
    """
    source = read(path, overrides)
    cls: type[Recipe | PretrainRecipe] = PretrainRecipe if "pretrain" in source.data else Recipe
    cls = recipe_class(cls, offer)
    recipe, complaints = _validated(cls, source, offer)
    if isinstance(recipe, Recipe) and recipe.vary and not (complaints or source.problems):
        complaints = vary.complaints(recipe, recipe.model_dump(mode="json"), partial(_wrong, cls, offer))
    if recipe is None or complaints or source.problems:
        lacks_plugin = not source.problems and all(complaint.plugin for complaint in complaints)
        first: dict[tuple[object, ...], Problem] = {}
        for complaint in complaints:
            at = complaint.loc[:-1] if complaint.about == "missing key" else complaint.loc
            problem = source.problem(complaint.loc, complaint.message, at, key=complaint.about == "key")
            first.setdefault((problem.file, problem.line, problem.column, problem.path), problem)
        raise RecipeError([*source.problems, *first.values()], Exit.PLUGIN if lacks_plugin else Exit.RECIPE)
    return Loaded(placed(recipe, folder or source.path.parent), source, recipe.model_dump(mode="json"))


def _wrong(cls: type[BaseModel], offer: Offer, data: dict[str, Any]) -> list[Complaint]:
    """Return what is wrong with a whole recipe as plain data."""
    try:
        cls.model_validate_json(json.dumps(data))
    except ValidationError as error:
        return explain(error.errors(include_url=False)[:MAX_PROBLEMS], cls, data, offer.broken)
    return list(_cross_checks(cls, data))


def _validated(cls: type[R], source: Source, offer: Offer) -> tuple[R | None, list[Complaint]]:
    """Validate, mend what is misspelt and look again, so that a misspelling hides nothing that stands in it."""
    data = deepcopy(source.data)
    written: dict[Loc, str] = {}  # the places of mended keys, and the keys that the file has there
    mended: list[Complaint] = []
    while True:
        recipe, found = None, list[Complaint]()
        try:
            recipe = cls.model_validate_json(json.dumps(data))
        except ValidationError as error:
            found = explain(error.errors(include_url=False)[:MAX_PROBLEMS], cls, data, offer.broken)
        if len(mended) + len(found) >= MAX_PROBLEMS:
            break  # a look for each misspelling would take too long, and nobody reads so many
        now = [_as_written(complaint, written) for complaint in found if _mend(complaint, data, written)]
        if not now:
            break
        mended += now
    found = [_as_written(complaint, written) for complaint in found]
    crossed = [_as_written(complaint, written) for complaint in islice(_cross_checks(cls, data), MAX_PROBLEMS)]
    return recipe, _independent([*mended, *found], crossed, source)


def _mend(complaint: Complaint, data: dict[str, Any], written: dict[Loc, str]) -> bool:
    """Replace a misspelt key or kind by what was meant; return whether there was something to mend."""
    section, meant = value_at(data, complaint.loc[:-1]), complaint.meant
    if meant is None or (complaint.about == "key" and meant in section):
        return False
    if complaint.about == "kind":
        section["kind"] = meant
    else:
        section[meant] = section.pop(complaint.loc[-1])
        written[*complaint.loc[:-1], meant] = str(complaint.loc[-1])
    return True


def _as_written(complaint: Complaint, written: dict[Loc, str]) -> Complaint:
    steps = zip(_prefixes(complaint.loc), complaint.loc, strict=True)
    return replace(complaint, loc=tuple(written.get(loc, step) for loc, step in steps))


def _independent(found: list[Complaint], crossed: list[Complaint], source: Source) -> list[Complaint]:
    """Return the complaints that don't just follow from another mistake."""
    unknown = {complaint.loc for complaint in found if complaint.about == "key" and complaint.meant is None}
    kinds = {complaint.loc[:-1]: complaint for complaint in found if complaint.about == "kind"}
    unread = {above for loc in source.broken for above in _prefixes(loc)}

    def follows(complaint: Complaint) -> bool:
        merged = complaint.about == "missing key" and (*complaint.loc[:-1], "<<") in source.broken
        if merged or not source.broken.isdisjoint(_prefixes(complaint.loc)):
            return True
        kind = next((kinds[above] for above in _prefixes(complaint.loc) if above in kinds), complaint)
        # with another kind the section may well have other keys
        return kind is not complaint and (kind.meant is None or (complaint.about != "value" and not complaint.meant))

    sure = (c for c in crossed if c.loc not in unread and unknown.isdisjoint(_prefixes(c.loc)))
    return [complaint for complaint in (*found, *sure) if not follows(complaint)]


def _prefixes(loc: Loc) -> Iterator[Loc]:
    return (loc[:length] for length in range(1, len(loc) + 1))


def _cross_checks(cls: type[BaseModel], data: dict[str, Any]) -> Iterator[Complaint]:
    """Check what no single value shows, on plain data that may have any other mistake."""
    sets: list[Loc] = [("data", "classes"), ("data", "forget", "classes"), ("data", "retain", "classes")]
    for loc in (*sets, ("epsilons", "fractions"), ("epsilons", "values"), ("seeds",)):
        yield from _repeated(data, loc)
    yield from _criteria(data)
    yield from _overlap(data)
    yield from _alternatives(data, ("training",), ("steps", "epochs"))
    yield from _alternatives(data, ("epsilons",), ("fractions", "values"))
    yield from _idle(cls, data)
    given = data.get("epsilons")
    if isinstance(given, dict) and given.keys() <= {"fractions", "values"} and all(v is None for v in given.values()):
        yield Complaint(("epsilons",), "give fractions or values, or leave the section out for five fractions")


def _idle(cls: type[BaseModel], data: dict[str, Any]) -> Iterator[Complaint]:
    """Check that what is said of single ε is said of a run that solves some."""
    sweep = data.get("sweep") or {}
    curved = issubclass(cls, Recipe) and isinstance(sweep, dict) and sweep.get("kind", "curve") == "curve"
    targets = _list_at(data, ("epsilons", "targets"))
    if not curved or any(isinstance(one, dict) and one.get("polish") for one in (sweep, *targets)):
        return
    usual = cast("type[BaseModel]", cls.model_fields["control"].annotation)().model_dump(mode="json")
    for name in ("epsilon", "multiplier"):
        stated = value_at(data, ("control", name))
        if isinstance(stated, dict) and not stated.items() <= usual[name].items():
            message = "a curve does not use it: add `sweep: {kind: independent}`, which solves each ε, or remove it"
            yield Complaint(("control", name), message)


def _list_at(data: dict[str, Any], loc: Loc) -> list[Any]:
    return value if isinstance(value := value_at(data, loc), list) else []


def _repeated(data: dict[str, Any], loc: Loc) -> Iterator[Complaint]:
    first: dict[tuple[bool, object], int] = {}
    for index, entry in enumerate(_list_at(data, loc)):
        if isinstance(entry, str | int | float):
            earlier = first.setdefault((isinstance(entry, str), entry), index)
            if earlier != index:
                yield Complaint((*loc, index), f"{shown(entry)} is already entry [{earlier}]; remove one")


def _criteria(data: dict[str, Any]) -> Iterator[Complaint]:
    for name in ("forget", "retain"):
        classes, draw = (value_at(data, ("data", name, field)) for field in ("classes", "draw"))
        if isinstance(classes, list) and isinstance(draw, int) and draw > len(classes):
            yield Complaint(("data", name, "draw"), f"there are {len(classes)} classes to draw from; lower the number")
    forget = value_at(data, ("data", "forget"))
    if not isinstance(forget, dict) or not forget.keys() <= Selection.model_fields.keys():
        return  # a misspelt criterion is complaint enough
    if all(forget.get(name) is None for name in CRITERIA):
        message = f"give at least one of {', '.join(CRITERIA[:-1])} and {CRITERIA[-1]}: what is to be forgotten"
        yield Complaint(("data", "forget"), message)


def _overlap(data: dict[str, Any]) -> Iterator[Complaint]:
    # Where single images of a class are forgotten, the rest of it may be retained; where classes are drawn, others.
    partly = (("forget", name) for name in CRITERIA if name != "classes")
    if any(value_at(data, ("data", *loc)) is not None for loc in (*partly, ("retain", "draw"))):
        return
    common = value_at(data, ("data", "source"))
    one, other = (value_at(data, ("data", part, "source")) or common for part in ("forget", "retain"))
    forget, retain = (_list_at(data, ("data", part, "classes")) for part in ("forget", "retain"))
    left = {name for name in forget if isinstance(name, str)} if one == other else set()
    for index, name in enumerate(retain):
        if isinstance(name, str) and name in left:
            left.remove(name)
            message = f"{shown(name)} is also in data.forget.classes; remove it from one of them"
            yield Complaint(("data", "retain", "classes", index), message)


def _alternatives(data: dict[str, Any], loc: Loc, keys: tuple[str, str]) -> Iterator[Complaint]:
    section = value_at(data, loc)
    given = [key for key in section if key in keys and section[key] is not None] if isinstance(section, dict) else []
    if len(given) > 1:
        message = f"give {keys[0]} or {keys[1]}, not both; remove one, or set it to null"
        yield Complaint((*loc, given[1]), message, "key")
