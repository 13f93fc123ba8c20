"""The two sets and their training and validation images, drawn from the seed."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearnkit.contracts import Images, Item
from unlearnkit.data.selection import no_images, select, shuffled
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.data import Data, PerClass, Selection
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


def sections(data: Data) -> tuple[DataSection, DataSection]:
    """Return the source of the forget set and that of the retain set."""
    return data.forget.source or data.source, data.retain.source or data.source


def split(data: Data, base: Path, seed: int, sources: Sequence[Images] | None = None) -> tuple[Chosen, Chosen]:
    """Return the forget set and the retain set of a recipe, which share no image of a source.

    Relative paths start at `base`; `sources` are the two of `sections` where they are open already. Raise `UserError`
    where a source is not there, or a selection names what it does not have, or leaves nothing.
    """
    seed = seed if data.seed is None else data.seed
    if sources is None:
        ours, theirs = sections(data)
        opened = ours.open(base)
        sources = opened, opened if theirs == ours else theirs.open(base)
    forget = select("forget", sources[0], data.forget, base, seed)
    forgotten = forget if sources[0] is sources[1] else ()
    retain = select("retain", sources[1], data.retain, base, seed, forgotten)

    def chosen(name: str, source: Images, selection: Selection, items: Sequence[Item]) -> Chosen:
        present = {item.label for item in items}
        classes = [label for label in selection.classes or sorted(present) if label in present]
        return choose(name, source, classes, selection.per_class or data.per_class, seed, items)

    return chosen("forget", sources[0], data.forget, forget), chosen("retain", sources[1], data.retain, retain)


def choose(
    name: str, source: Images, classes: Sequence[str], count: PerClass, seed: int, items: Sequence[Item] | None = None
) -> Chosen:
    """Draw the images of each class out of `items` or all; raise `UserError` where one is unknown or too small."""
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
        cut = len(free) // VALIDATION_PART if count.validation is None else max(0, count.validation - len(given))
        aside = given | {item.key for item in free[:cut]}
        halves = [[item for item in mine if (item.key in aside) == held] for held in (False, True)]
        # Single images of a class may all be validation images, where the source says which are.
        partly = not free and len(mine) < every[label]
        both = (("training", halves[0], count.train, train), ("validation", halves[1], count.validation, validation))
        for part, half, wanted, into in both:
            if len(half) < (wanted or 0) or (part == "training" and not half and not partly):
                few = f"the {name} set has {len(half)} {part} images, but {wanted or 1} are asked for"
                advice = "lower the number or choose another class"
                raise UserError(f"data.per_class: class '{label}' of {few}; {advice}", Exit.RECIPE)
            into.extend(half[:wanted])
    if not train:
        raise UserError(f"data: all images selected for the {name} set are validation images", Exit.RECIPE)
    return Chosen(name, tuple(classes), source, train, validation)
