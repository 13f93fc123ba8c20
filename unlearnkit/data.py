"""The sets, their split and their batches: each a pure function of the seed and of where the run is."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import Images, Item
from unlearnkit.errors import Exit, UserError
from unlearnkit.pixels import Pixels, colour_statistics, decode, digest, to_float
from unlearnkit.recipe.recipe import Data, PerClass, Selection
from unlearnkit.recipe.sections import DataSection

__all__ = [
    "Chosen", "Pixels", "augment", "batch_index", "choose", "colour_statistics", "decode", "digest", "in_memory",
    "load", "sections", "seeded", "select", "split", "to_float",
]  # fmt: skip

VALIDATION_PART = 4
"""One image in so many is kept for validation where neither the source nor the recipe says how many."""

SHOWN = 20
"""Names listed of many that there are."""


def seeded(*purpose: object) -> torch.Generator:
    """Return a CPU generator whose seed is a hash of `purpose`, such as (seed, phase, step, "noise")."""
    digest = hashlib.sha256(repr(purpose).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=4)
def _permutation(count: int, *purpose: object) -> Tensor:
    return torch.randperm(count, generator=seeded(*purpose))


def batch_index(step: int, count: int, size: int, *purpose: object) -> Tensor:
    """Return the rows of batch `step`, `size` out of `count`: epochs follow one another without a gap."""
    size = min(size, count)
    places = range(step * size, (step + 1) * size)
    rows = [_permutation(count, *purpose, place // count)[place % count] for place in places]
    return torch.stack(rows)


def augment(images: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Return images [B, 3, S, S] randomly cropped to a part of their area, resized back and flipped."""
    size = images.shape[-1]
    result = []
    for image in images:
        area, flip = torch.rand(2, generator=generator).tolist()
        side = min(size, max(1, round(size * math.sqrt(smallest + (1 - smallest) * area))))
        top, left = torch.randint(0, size - side + 1, (2,), generator=generator).tolist()
        crop = image[None, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, size=size, mode="bilinear", antialias=True, align_corners=False)[0]
        result.append(crop.flip(2) if flip < 0.5 else crop)
    return torch.stack(result)


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
    return (
        _chosen("forget", sources[0], data.forget, data.per_class, forget, seed),
        _chosen("retain", sources[1], data.retain, data.per_class, retain, seed),
    )


def _chosen(
    name: str, source: Images, selection: Selection, per_class: PerClass, items: Sequence[Item], seed: int
) -> Chosen:
    present = {item.label for item in items}
    classes = [label for label in selection.classes or sorted(present) if label in present]
    return choose(name, source, classes, selection.per_class or per_class, seed, items)


def choose(
    name: str,
    source: Images,
    classes: Sequence[str],
    per_class: PerClass,
    seed: int,
    items: Iterable[Item] | None = None,
) -> Chosen:
    """Draw the training and the validation images of each class from the seed, out of `items` or of all images.

    Raise `UserError` where a class is unknown or too small.
    """
    found, every = _by_label(source.items if items is None else items), Counter(item.label for item in source.items)
    train: list[Item] = []
    validation: list[Item] = []
    for label in classes:
        if label not in found:
            raise _no_images(name, label, source)
        mine = _shuffled(found[label], seed, "split", label)
        free = [item for item in mine if item.split is None]
        given = sum(item.split == "validation" for item in mine)
        cut = len(free) // VALIDATION_PART if per_class.validation is None else max(0, per_class.validation - given)
        aside = {item.key for item in free[:cut]}
        held = [item.split == "validation" or item.key in aside for item in mine]
        halves = [[item for item, out in zip(mine, held, strict=True) if out == half] for half in (False, True)]
        # Single images of a class may all be validation images, where the source says which are.
        partly = not free and len(mine) < every[label]
        for part, half, wanted, into in (
            ("training", halves[0], per_class.train, train),
            ("validation", halves[1], per_class.validation, validation),
        ):
            if len(half) < (wanted or 0) or (part == "training" and not half and not partly):
                raise UserError(
                    f"data.per_class: class '{label}' of the {name} set has {len(half)} {part} images, but "
                    f"{wanted or 1} are asked for; lower the number or choose another class",
                    Exit.RECIPE,
                )
            into.extend(half[:wanted])
    if not train:
        raise UserError(f"data: all images selected for the {name} set are validation images", Exit.RECIPE)
    return Chosen(name, tuple(classes), source, train, validation)


def select(
    name: str, source: Images, selection: Selection, base: Path, seed: int, forgotten: Sequence[Item] = ()
) -> list[Item]:
    """Return the images of a source that fit every criterion of a selection and are not `forgotten`.

    Raise `UserError` for a name that the source does not have, a class of `classes` or a key of `files` that is
    forgotten, too few classes to draw from, and a selection of nothing.
    """
    place = f"data.{name}"
    taken = {item.key for item in forgotten}
    items: Iterable[Item] = source.items
    if selection.classes is not None:
        wanted, there = frozenset(selection.classes), {item.label for item in source.items}
        if unknown := [label for label in selection.classes if label not in there]:
            raise _no_images(name, unknown[0], source)
        items = [item for item in items if item.label in wanted]
    if selection.files is not None:
        listed = _listed(base / Path(selection.files).expanduser(), f"{place}.files", source)
        if both := sorted(listed & taken):
            raise UserError(
                f"{place}.files: {_some(both)} also in the forget set; remove them from one of the two", Exit.RECIPE
            )
        items = [item for item in items if item.key in listed]
    for column, value in (selection.where or {}).items():
        values = _values(source, column, [value] if isinstance(value, str) else value, f"{place}.where")
        items = [item for item in items if item.columns.get(column) in values]
    items = list(items)
    if selection.draw is not None:
        drawn = _drawn(name, items, selection.draw, {item.label for item in forgotten}, seed)
        items = [item for item in items if item.label in drawn]
    left = [item for item in items if item.key not in taken]
    gone = {item.label for item in items} - {item.label for item in left}
    if shared := sorted(gone.intersection(selection.classes or ())):
        raise UserError(f"data: {shared} is in the forget set and in the retain set", Exit.RECIPE)
    if not left:
        why = "all of them are in the forget set" if items else "no image fits every criterion"
        raise UserError(f"{place}: nothing is selected, for {why}; select other images", Exit.RECIPE)
    if selection.fraction is not None:
        left = _shuffled(left, seed, "fraction", name)[: max(1, round(selection.fraction * len(left)))]
    return left


def _drawn(name: str, items: Iterable[Item], count: int, without: Set[str], seed: int) -> frozenset[str]:
    """Return so many classes of `items`, drawn from the seed; a smaller draw lies within a larger one."""
    labels = sorted({item.label for item in items} - without)
    if count > len(labels):
        others = " without images in the forget set" if without else ""
        raise UserError(
            f"data.{name}.draw: {count} classes are asked for, but there are {len(labels)}{others} to draw from; "
            f"lower the number",
            Exit.RECIPE,
        )
    order = torch.randperm(len(labels), generator=seeded(seed, "draw", name)).tolist()
    return frozenset(labels[row] for row in order[:count])


def _shuffled(items: Iterable[Item], *purpose: object) -> list[Item]:
    """Return images in an order drawn from `purpose`, whatever order they come in."""
    listed = sorted(items, key=lambda item: item.key)
    return [listed[place] for place in torch.randperm(len(listed), generator=seeded(*purpose)).tolist()]


def _by_label(items: Iterable[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(item.label, []).append(item)
    return found


def _listed(path: Path, place: str, source: Images) -> frozenset[str]:
    """Return the keys that a text file lists, one a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{place}: there is no file {path}", Exit.RECIPE) from None
    except UnicodeDecodeError:
        raise UserError(f"{place}: {path} is no UTF-8 text; give a list of keys, one a line", Exit.RECIPE) from None
    keys = {item.key for item in source.items}
    found = set()
    for number, line in enumerate(lines, 1):
        if not (written := line.strip()):
            continue
        key = written if written in keys else str(PurePosixPath(written))
        if key not in keys:
            # By its last part, which finds a path that starts elsewhere, and is fast where there are millions.
            alike = sorted(known for known in keys if PurePosixPath(known).name == PurePosixPath(key).name)
            hint = f"did you mean '{alike[0]}'?" if alike else f"a key of this source is '{min(keys, default='')}'"
            raise UserError(f"{path} line {number}: the source has no image '{written}'; {hint}", Exit.RECIPE)
        found.add(key)
    return frozenset(found)


def _values(source: Images, column: str, wanted: Sequence[str], place: str) -> frozenset[str]:
    """Return the `wanted` values of a column if the source has all of them."""
    columns = {name for item in source.items for name in item.columns}
    if not columns:
        raise UserError(f"{place}: this source has no columns; a manifest has", Exit.RECIPE)
    if column not in columns:
        raise UserError(f"{place}: unknown column '{column}'; {_hint(column, columns)}", Exit.RECIPE)
    values = {item.columns[column] for item in source.items if column in item.columns}
    for value in wanted:
        if value not in values:
            raise UserError(f"{place}.{column}: no image has the value '{value}'; {_hint(value, values)}", Exit.RECIPE)
    return frozenset(wanted)


def _no_images(name: str, label: str, source: Images) -> UserError:
    if label in source.labels:
        return UserError(f"data.{name}: class '{label}' has no images; add some or leave the class out", Exit.RECIPE)
    return UserError(f"data.{name}: unknown class '{label}'; {_hint(label, source.labels)}", Exit.RECIPE)


def _hint(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = get_close_matches(word, names, 1)
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return (f"did you mean '{close[0]}'? " if close else "") + f"The source has: {listed}"


def _some(keys: Sequence[str]) -> str:
    """Return the first keys of many, and how many more there are."""
    shown = ", ".join(f"'{key}'" for key in keys[:3])
    return f"{shown} and {len(keys) - 3} more are" if len(keys) > 3 else f"{shown} {'is' if len(keys) == 1 else 'are'}"


def in_memory(sizes: Sequence[int], room: int) -> list[bool]:
    """Return which of several sets, by their bytes, are held in so much memory: each all or nothing, small ones first.

    `room` is in bytes.
    """
    held = [False] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place]):
        held[place] = sizes[place] <= room
        room -= sizes[place] * held[place]
    return held


def load(chosen: Mapping[str, Chosen], size: int, data: Data, device: torch.device) -> dict[str, dict[str, Pixels]]:
    """Return the images of each set by split, the training images on `device`.

    What `data.memory_mib` does not hold is decoded for each batch, to the same bytes.
    """
    halves = [(name, half, getattr(part, half)) for name, part in chosen.items() for half in ("train", "validation")]
    held = in_memory([len(items) * 3 * size**2 for _, _, items in halves], data.memory_mib * 2**20)
    found: dict[str, dict[str, Pixels]] = {name: {} for name in chosen}
    for (name, half, items), fits in zip(halves, held, strict=True):
        place = device if half == "train" else torch.device("cpu")
        found[name][half] = Pixels(chosen[name].source, items, size, place, None if fits else data.workers)
    return found
