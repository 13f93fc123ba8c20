"""One recipe for each value of what a recipe is varied over: its `seeds`, the keys of its `vary`, and their grid."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import combinations, product
from math import prod
from typing import Any, NamedTuple

from unlearnkit.recipe.explain import Complaint
from unlearnkit.recipe.problem import Loc, dotted, shown
from unlearnkit.recipe.recipe import Recipe
from unlearnkit.recipe.sections import placed
from unlearnkit.recipe.source import PATH, STEP, step_into

MOST = 1000
"""Runs of one recipe."""
FIXED = {
    "name": "all runs of a recipe have its name; it cannot be varied",
    "seeds": "vary `seed`, or give `seeds` beside `vary`",
    "vary": "what is varied cannot be varied; write the grid out",
}
"""Keys that cannot be varied, and what to do instead."""
LONGEST = 120
"""Characters of the name of a run's folder."""

Wrong = Callable[[dict[str, Any]], Iterable[Complaint]]
"""From a whole recipe as plain data to what is wrong with it."""


class Child(NamedTuple):
    """One run of several."""

    name: str
    """Of its folder: the keys and values that tell it from the others."""
    varied: dict[str, Any]
    """Its values, by key."""
    recipe: Recipe
    resolved: dict[str, Any]


def axes(recipe: Recipe) -> dict[str, list[Any]]:
    """Return what a recipe is varied over, the slowest first: the seed, as little of two seeds is alike."""
    over: dict[str, list[Any]] = dict(recipe.vary or {}) | ({"seed": list(recipe.seeds)} if recipe.seeds else {})
    return {key: over[key] for key in sorted(over, key=lambda key: key != "seed")}


def children(recipe: Recipe, resolved: Mapping[str, Any]) -> list[Child]:
    """Return the runs that a recipe asks for, none where it is one itself; `resolved` is the whole of it.

    Where the seed is varied all of them see the same images.
    """
    found, over = list[Child](), axes(recipe)
    for varied in _grid(over) if over else ():
        data = _whole(resolved, varied)
        if "seed" in over and data["data"]["seed"] is None:
            data["data"]["seed"] = recipe.seed
        its = placed(type(recipe).model_validate_json(json.dumps(data)), recipe.folder)
        found.append(Child(_name(varied), varied, its, its.model_dump(mode="json")))
    return found


def complaints(recipe: Recipe, resolved: Mapping[str, Any], wrong: Wrong) -> list[Complaint]:
    """Return why a recipe cannot be varied as it asks, each at the key or value of `vary` that it is about."""
    over = axes(recipe)
    if found := list(_misplaced(recipe)) or list(_repeated(recipe)):
        return found
    if (count := prod(map(len, over.values()))) > MOST:
        return [Complaint(("vary",), f"{count:,} runs, and no more than {MOST:,} can be asked for; give fewer values")]
    found = [one for varied in _grid(over) for one in _refused(recipe, resolved, varied, wrong)]
    return list({(one.loc, one.message): one for one in found}.values())


def told(varied: Mapping[str, Any]) -> str:
    """Return keys and values as people read them."""
    return ", ".join(f"{key} = {said(value)}" for key, value in varied.items())


def said(value: Any) -> str:
    """Return a value of a recipe in one line: a section by its kind and what it has beside."""
    if isinstance(value, dict):
        rest = told({key: part for key, part in value.items() if key != "kind"})
        return f"{value.get('kind', '')} {rest}".strip()
    return value if isinstance(value, str) else json.dumps(value)


def _grid(over: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield each combination of values, the last key fastest."""
    return (dict(zip(over, values, strict=True)) for values in product(*over.values()))


def _whole(resolved: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe of a run as plain data; raise `LookupError` naming the first key that there cannot be."""
    data: dict[str, Any] = deepcopy({**resolved, "vary": None, "seeds": None})
    for key, value in varied.items():
        inside: Any = {"": data}
        last: Any = ""
        for step in STEP.finditer(key):
            if inside[last] is None:
                inside[last] = [] if step[1] else {}
            inside, last = inside[last], step_into(inside[last], step)
            if last is None:
                raise LookupError(key)
        inside[last] = value
    return data


def _way(key: str) -> Loc:
    return tuple(int(step[1]) if step[1] else step[0] for step in STEP.finditer(key))


def _misplaced(recipe: Recipe) -> Iterator[Complaint]:
    """Yield what is wrong with the keys alone."""
    keys = list(recipe.vary or {})
    for key in keys:
        if not PATH.fullmatch(key):
            yield Complaint(("vary", key), "expected a key such as training.steps or compare[0].alpha", "key")
        elif key in FIXED:
            yield Complaint(("vary", key), FIXED[key], "key")
    if recipe.seeds and "seed" in keys:
        yield Complaint(("vary", "seed"), "give `seeds` or vary `seed`, not both; remove one", "key")
    for one, other in combinations(sorted(keys, key=len), 2):
        if _way(other)[: len(_way(one))] == _way(one):
            within = f"it is a part of {shown(one)}, which is varied too; vary one of them"
            yield Complaint(("vary", other), within, "key")


def _repeated(recipe: Recipe) -> Iterator[Complaint]:
    for key, values in (recipe.vary or {}).items():
        for place, value in enumerate(values):
            earlier = next(at for at, other in enumerate(values) if _alike(value, other))
            if earlier != place:
                yield Complaint(("vary", key, place), f"{shown(value)} is already entry [{earlier}]; remove one")


def _alike(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _refused(
    recipe: Recipe, resolved: Mapping[str, Any], varied: Mapping[str, Any], wrong: Wrong
) -> Iterator[Complaint]:
    """Yield what is wrong with one run, at the value that is nearest to it."""
    try:
        found = wrong(_whole(resolved, varied))
    except LookupError as error:
        nowhere = "there is no such place in this recipe; write it out, then vary it"
        yield Complaint(("vary", *error.args), nowhere, "key")
        return
    for one in found:
        key = max(varied, key=lambda key: _common(_way(key), one.loc))
        given = (recipe.vary or {}).get(key)
        at: Loc = ("seeds",) if given is None else ("vary", key)
        way = _way(key)
        unknown = one.about == "key" and one.loc == way
        at = at if given is None or unknown else (*at, next(p for p, v in enumerate(given) if _alike(v, varied[key])))
        others = {other: value for other, value in varied.items() if other != key}
        alone = one in wrong(_whole(resolved, {key: varied[key]}))
        beside = f"together with {told(others)}: " if others and not alone else ""
        place = "" if one.loc == way else f"{dotted(one.loc)}: "
        within = one.loc[: len(way)] == way and (one.about != "key" or one.meant is not None)
        advice = "" if within else f"; to change what goes with it, vary {dotted(way[:1])} as a whole"
        yield Complaint(at, f"{beside}{place}{one.message}{advice}", "key" if unknown else "value")


def _common(one: Loc, other: Loc) -> int:
    """Return how many steps two ways have in common at their begin."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _name(varied: Mapping[str, Any]) -> str:
    whole = "--".join(f"{_slug(key)}-{_short(value)}" for key, value in varied.items())
    return whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 9]}-{_hash(varied)}"


def _short(value: Any) -> str:
    """Return a value as a part of a file's name, with a hash of it where another value could be called the same."""
    text = said(value)
    short = _slug(text)[:40]
    alone = isinstance(value, str) != _is_json(text) and not isinstance(value, dict)  # null is not "null"
    return short if alone and short == text and "--" not in text else f"{short[:24]}-{_hash(value)}"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _slug(text: str) -> str:
    return re.sub("[^A-Za-z0-9._-]+", "-", text)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
