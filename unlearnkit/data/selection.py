"""Which images of a source a selection means."""

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from difflib import get_close_matches
from operator import eq
from pathlib import Path

import torch

from unlearnkit.contracts import Images, Item
from unlearnkit.data.lists import SHOWN, nfc, read_text, refuse_lines, slashed
from unlearnkit.data.seeding import seeded
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.data import Selection


def select(
    name: str, source: Images, selection: Selection, keys: Set[str] | None, seed: int, forgotten: Sequence[Item] = ()
) -> list[Item]:
    """Return the images of a source that fit every criterion of a selection and are not `forgotten`.

    `keys` are those that its list has; None where it has no list.
    Raise `UserError` for a name that the source does not have, a class of `classes` or a key of `files` that is
    forgotten, too few classes to draw from, and a selection of nothing.
    """
    place = f"data.{name}"
    taken = {item.key for item in forgotten}
    items: Sequence[Item] = source.items
    if selection.classes is not None:
        there = {label: nfc(label) for label in {item.label for item in source.items}}
        if unknown := [label for label in selection.classes if nfc(label) not in set(there.values())]:
            raise no_images(name, unknown[0], source)
        wanted = set(map(nfc, selection.classes))
        items = [item for item in items if there[item.label] in wanted]
    if keys is not None:
        if both := sorted(keys & taken):
            advice = "remove them from one of the two"
            raise UserError(f"{place}.files: {_some(both)} also in the forget set; {advice}", Exit.RECIPE)
        items = [item for item in items if item.key in keys]
    for column, value in (selection.where or {}).items():
        values = _values(source, column, [value] if isinstance(value, str) else value, f"{place}.where")
        items = [item for item in items if item.columns.get(column) in values]
    if selection.draw is not None:
        drawn = _drawn(name, items, selection.draw, {item.label for item in forgotten}, seed)
        items = [item for item in items if item.label in drawn]
    left = [item for item in items if item.key not in taken]
    gone = {nfc(label) for label in {item.label for item in items} - {item.label for item in left}}
    if shared := sorted(label for label in selection.classes or () if nfc(label) in gone):
        raise UserError(f"data: {shared} is in the forget set and in the retain set", Exit.RECIPE)
    if not left:
        why = "all of them are in the forget set" if items else "no image fits every criterion"
        raise UserError(f"{place}: nothing is selected, for {why}; select other images", Exit.RECIPE)
    if selection.fraction is not None:
        left = shuffled(left, seed, "fraction", name)[: max(1, round(selection.fraction * len(left)))]
    return left


def _drawn(name: str, items: Iterable[Item], count: int, without: Set[str], seed: int) -> frozenset[str]:
    """Return so many classes of `items`, drawn from the seed; a smaller draw lies within a larger one."""
    labels = sorted({item.label for item in items} - without)
    if count > len(labels):
        others = " without images in the forget set" if without else ""
        found = f"{count} classes are asked for, but there are {len(labels)}{others} to draw from"
        raise UserError(f"data.{name}.draw: {found}; lower the number", Exit.RECIPE)
    order = torch.randperm(len(labels), generator=seeded(seed, "draw", name)).tolist()
    return frozenset(labels[row] for row in order[:count])


def shuffled(items: Iterable[Item], *purpose: object) -> list[Item]:
    """Return images in an order drawn from `purpose`, whatever order they come in."""
    listed = sorted(items, key=lambda item: item.key)
    return [listed[place] for place in torch.randperm(len(listed), generator=seeded(*purpose)).tolist()]


def listed(path: Path, place: str, source: Images) -> frozenset[str]:
    """Return the keys that a text file lists, one a line, or a JSON array of them; a backslash is read as `/`."""
    content = read_text(path, place)
    lines = enumerate(io.StringIO(content, newline=None), 1)  # other separators of lines may stand in names
    told: Iterable[tuple[str, str]] = ((f"line {number}", line.removesuffix("\n")) for number, line in lines)
    if content.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):  # a name may begin so too
            told = [(f"entry {number}", str(key)) for number, key in enumerate(json.loads(content), 1)]
    keys, found, problems = {item.key for item in source.items}, set[str](), list[tuple[str, str]]()
    alike, named = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for where, written in told:
        # A name may have blanks, quotes or commas at its ends.
        whole = (one for one in (written, written.strip(), written.strip("\"',; \t")) if one in keys)
        key = next(whole, written.strip("\"',; \t"))
        if key in keys or not key:
            found |= {key} - {""}
            continue
        if not alike:  # where there are millions, this takes a while
            for known in sorted(keys):
                alike[slashed(known)].append(known)
                named[_parts(known)[0]].append(known)
        if (meant := slashed(key)) in alike:
            found.update(alike[meant])
            continue
        parts = _parts(meant)
        near = max(named.get(parts[0], ()), key=lambda known: sum(map(eq, _parts(known), parts)), default=None)
        hint = f"did you mean '{near}'?" if near else f"a key of this source is '{min(keys, default='')}'"
        problems.append((where, f"the source has no image '{key}'; {hint}"))
    refuse_lines(path, problems)
    if not found:
        raise UserError(f"{place}: {path} lists no image; give one a line", Exit.RECIPE)
    return frozenset(found)


def _parts(key: str) -> tuple[str, ...]:
    """Return the parts of a key as hints compare them: in small letters, the last one first."""
    return tuple(reversed(slashed(key).casefold().split("/")))


def _values(source: Images, column: str, wanted: Sequence[str], place: str) -> frozenset[str]:
    """Return the `wanted` values of a column if the source has all of them."""
    columns = {name for item in source.items for name in item.columns}
    if not columns:
        raise UserError(f"{place}: this source has no columns; a manifest has", Exit.RECIPE)
    if column not in columns:
        raise UserError(f"{place}: unknown column '{column}'; {_hint(column, columns)}", Exit.RECIPE)
    values = {item.columns[column] for item in source.items if column in item.columns}
    for value in wanted:
        if nfc(value) not in map(nfc, values):
            raise UserError(f"{place}.{column}: no image has the value '{value}'; {_hint(value, values)}", Exit.RECIPE)
    return frozenset(value for value in values if nfc(value) in map(nfc, wanted))


def named(label: str, source: Images, place: str) -> str:
    """Return the class of a source that a recipe means: one of its labels, or the only one that is called so too."""
    if label in source.labels or not (found := source.called(label)):
        return label
    if len(found) > 1:
        raise UserError(f"{place}: '{label}' is a name of {' and of '.join(found)}; give one of these", Exit.RECIPE)
    return found[0]


def own_names(labels: Iterable[str], source: Images, place: str) -> list[str]:
    """Return the source's own names of classes, each once, however their letters are composed."""
    known = {nfc(label): label for label in source.labels}
    found = (named(label, source, place) for label in labels)
    return [*dict.fromkeys(label if label in source.labels else known.get(nfc(label), label) for label in found)]


def no_images(name: str, label: str, source: Images) -> UserError:
    """Return the error of a class that has no images, or that is none."""
    if label in source.labels:
        return UserError(f"data.{name}: class '{label}' has no images; add some or leave the class out", Exit.RECIPE)
    return UserError(f"data.{name}: unknown class '{label}'; {_hint(label, source.labels)}", Exit.RECIPE)


def _hint(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = get_close_matches(word, names, 1)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"did you mean '{close[0]}'? The source has: {listed}" if close else f"the source has: {listed}"


def _some(keys: Sequence[str]) -> str:
    """Return the first keys of many, and how many more there are."""
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    return f"{shown} and {len(keys) - 3} more are" if len(keys) > 3 else f"{shown} {'is' if len(keys) == 1 else 'are'}"
