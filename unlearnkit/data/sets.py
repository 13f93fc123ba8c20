"""The two sets and their training and validation images, drawn from the seed."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from unlearnkit.contracts import Images, Item
from unlearnkit.data.lists import SHOWN, nfc
from unlearnkit.data.selection import listed, no_images, own_names, select, shuffled
from unlearnkit.disk import expanded
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.data import Data, PerClass, Selection
from unlearnkit.recipe.pretraining import Source
from unlearnkit.recipe.sections import DataSection

VALIDATION_PART = 4
"""One image in so many is kept for validation where neither the source nor the recipe says how many."""


@dataclass(frozen=True)
class Chosen:
    """The images of one set: what is trained on and what never is."""

    name: str
    classes: Sequence[str]
    source: Images
    train: Sequence[Item]
    validation: Sequence[Item]
    notes: Sequence[str] = ()
    """What a reader of its figures must know: images that were left out or set aside."""


def sections(data: Data) -> tuple[DataSection, DataSection]:
    """Return the source of the forget set and that of the retain set."""
    return data.forget.source or data.source, data.retain.source or data.source


def split(data: Data, base: Path, seed: int, sources: Sequence[Images] | None = None) -> tuple[Chosen, Chosen]:
    """Return the forget set and the retain set of a recipe, which share no image, under whatever name.

    Relative paths start at `base`; `sources` are the two of `sections` where they are open already. Raise `UserError`
    where a source is not there, or a selection names what it does not have, or leaves nothing.
    """
    seed = seed if data.seed is None else data.seed
    if sources is None:
        ours, theirs = sections(data)
        opened = ours.open(base)
        sources = opened, opened if theirs == ours else theirs.open(base)
    if sources[0].paired != sources[1].paired:
        advice = "give both pairs, or neither"
        raise UserError(f"data: one of the two sources has pairs and the other has none; {advice}", Exit.RECIPE)
    sought = {"forget": _named("forget", data.forget, sources[0]), "retain": _named("retain", data.retain, sources[1])}
    data = data.model_copy(update=sought)
    request = _keys("forget", data.forget, sources[0], base)
    selected = select("forget", sources[0], data.forget, request, seed)
    forgotten = selected if sources[0] is sources[1] else ()
    rest = select("retain", sources[1], data.retain, _keys("retain", data.retain, sources[1], base), seed, forgotten)

    def chosen(name: str, source: Images, selection: Selection, items: Sequence[Item], whole: bool = False) -> Chosen:
        present = {item.label for item in items}
        wanted = map(nfc, selection.classes or ())
        classes = [label for name in wanted for label in sorted(present) if nfc(label) == name] or sorted(present)
        count = selection.per_class or (PerClass() if whole else data.per_class)
        return choose(name, source, classes, count, seed, items, whole)

    forget = chosen("forget", sources[0], data.forget, selected, data.forget.files is not None)
    notes = [*sources[0].notes]
    if request is not None and (aside := sorted(request - {item.key for item in forget.train})):
        why = "they are validation images of their source, or `data.forget` leaves them out for other criteria"
        many = f"{len(aside)} of {len(request)} are not trained on, such as '{aside[0]}', for {why}"
        notes.insert(0, f"data.forget.files: {many}")
    forget, more = replace(forget, notes=tuple(notes)), [note for note in sources[1].notes if note not in notes]
    found = copies(sources[0], selected, sources[1])
    left_out: dict[Item, None] = {}
    while True:
        # Drawn first, so that no file is read that is not used, and again without what is a copy.
        retain = chosen("retain", sources[1], data.retain, rest)
        if not (twice := found([*retain.train, *retain.validation])):
            return forget, replace(retain, notes=[*told([*left_out]), *more])
        left_out |= dict.fromkeys(twice)
        if not (rest := [item for item in rest if item not in left_out]):
            raise UserError(f"data.retain: nothing is left. {told([*left_out])[0]}", Exit.RECIPE)


def _named(name: str, selection: Selection, source: Images) -> Selection:
    """Return a selection with the source's own names of its classes."""
    if selection.classes is None:
        return selection
    return selection.model_copy(update={"classes": own_names(selection.classes, source, f"data.{name}.classes")})


def _keys(name: str, selection: Selection, source: Images, base: Path) -> frozenset[str] | None:
    """Return the keys that the list of a selection has; None where it has no list."""
    if selection.files is None:
        return None
    return listed(expanded(base, selection.files), f"data.{name}.files", source)


def copies(forget: Images, forgotten: Iterable[Item], source: Images) -> Callable[[Sequence[Item]], list[Item]]:
    """Return what finds the images of a source whose files are those of forgotten ones, byte for byte."""
    sized = defaultdict[object, list[Item]](list)  # no file is read without one of its length on the other side
    for item in forgotten:
        sized[forget.fingerprint(item, whole=False)].append(item)
    for none in (None, 0):  # an empty file is told where it is decoded
        sized.pop(none, None)

    @cache
    def hashes(size: object) -> set[object]:
        return {mark for item in sized[size] if (mark := forget.fingerprint(item, whole=True)) is not None}

    def found(items: Sequence[Item]) -> list[Item]:
        sizes = ((item, source.fingerprint(item, whole=False)) for item in items)
        near = ((item, size) for item, size in sizes if size in sized)
        return [item for item, size in near if source.fingerprint(item, whole=True) in hashes(size)]

    return found


def unsplit(data: Source, base: Path, seed: int) -> Chosen:
    """Return the images that a pretraining recipe trains on; raise `UserError` as `choose`, or where none are there."""
    return trained_on(data.source.open(base), data.classes, data.per_class, seed)


def trained_on(source: Images, classes: Sequence[str] | None, count: PerClass, seed: int) -> Chosen:
    """Return the images of some classes of a source, or of all, that a model is trained on; raise as `unsplit`."""
    names = own_names(classes, source, "data.classes") if classes else sorted(source.labels)
    return choose("training", source, names, count, seed)


def few(part: Chosen, count: int) -> Chosen:
    """Return a set with about so many training and validation images, at least one of each class."""

    def some(items: Sequence[Item]) -> list[Item]:
        seen, most = Counter[str](), max(1, count // max(1, len(part.classes)))
        return [item for item in items if (seen.update([item.label]) or seen[item.label]) <= most]

    return replace(part, train=some(part.train), validation=some(part.validation))


def told(left_out: Sequence[Item]) -> list[str]:
    """Return the note that so many copies are left out of the retain set, where there are any."""
    return _left_out("retain", "images are copies of forget images", left_out)


def told_twice(name: str, left_out: Sequence[Item]) -> list[str]:
    """Return the note that so many of a set's validation images are trained on as others, where there are any."""
    return _left_out(name, "validation images are copies of its training images", left_out)


def _left_out(name: str, what: str, items: Sequence[Item]) -> list[str]:
    return [f"data.{name}: {len(items)} of its {what} and left out, such as '{items[0].key}'"] if items else []


def resembling(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the note that retain images are nearly forget images, by the keys of both, where there are any."""
    listed = ", ".join(f"'{ours}' (like '{theirs}')" for ours, theirs in pairs[:SHOWN])
    more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    found = f"{len(pairs)} of its images are nearly forget images (perceptual hash), such as {listed}{more}"
    return [f"data.retain: {found}; look at them, and list them to forget or leave them out"] if pairs else []


def choose(
    name: str, source: Images, classes: Sequence[str], count: PerClass, seed: int, items: Sequence[Item] | None = None,
    whole: bool = False,
) -> Chosen:  # fmt: skip
    """Draw the images of each class out of `items` or all, none of a `whole` set for validation if nobody says so.

    Raise `UserError` where a class is unknown or too small.
    """
    every, found = Counter(item.label for item in source.items), defaultdict[str, list[Item]](list)
    for item in source.items if items is None else items:
        found[item.label].append(item)
    train, validation = list[Item](), list[Item]()
    for label in classes:
        if label not in found:
            raise no_images(name, label, source)
        mine = shuffled(found[label], seed, "split", label)
        free = [item for item in mine if item.split is None]
        given = {item.key for item in mine if item.split == "validation"}
        part = len(free) // VALIDATION_PART
        cut = part * (not whole) if count.validation is None else max(0, count.validation - len(given))
        cut = min(cut, part) if count.at_most else cut
        aside = given | {item.key for item in free[:cut]}
        halves = [[item for item in mine if (item.key in aside) == held] for held in (False, True)]
        # Single images of a class may all be validation images, where the source says which are.
        partly = not free and len(mine) < every[label]
        both = (("training", halves[0], count.train, train), ("validation", halves[1], count.validation, validation))
        for which, half, wanted, into in both:
            short = len(half) < (wanted or 0) and not count.at_most
            if short or (which == "training" and not half and not partly):
                few = f"the {name} set has {len(half)} {which} images, but {wanted or 1} are asked for"
                advice = "lower the number, add `at_most: true` or choose another class"
                raise UserError(f"data.per_class: class '{label}' of {few}; {advice}", Exit.RECIPE)
            into.extend(half[:wanted])
    if not train:
        raise UserError(f"data: all images selected for the {name} set are validation images", Exit.RECIPE)
    return Chosen(name, tuple(classes), source, train, validation)
