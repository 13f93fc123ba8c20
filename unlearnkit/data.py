"""The split, the images in memory, and the batches: each a pure function of the seed and of where the run is."""

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnkit.contracts import Images, Item, Statistics
from unlearnkit.errors import Exit, UserError
from unlearnkit.recipe.recipe import Data, PerClass

VALIDATION_PART = 4
"""One image in so many is kept for validation where neither the source nor the recipe says how many."""


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


@dataclass(frozen=True)
class Chosen:
    """The images of one set: what is trained on and what never is."""

    name: str
    classes: Sequence[str]
    source: Images
    train: Sequence[Item]
    validation: Sequence[Item]


def choose(name: str, source: Images, classes: Sequence[str], per_class: PerClass, seed: int) -> Chosen:
    """Draw the images of each class from the seed; raise `UserError` where a class is unknown or too small."""
    train: list[Item] = []
    validation: list[Item] = []
    for label in classes:
        items = sorted((item for item in source.items if item.label == label), key=lambda item: item.key)
        if not items:
            raise _no_images(name, label, source)
        order = torch.randperm(len(items), generator=seeded(seed, "split", label)).tolist()
        items = [items[place] for place in order]
        if items[0].split is None:
            cut = per_class.validation if per_class.validation is not None else len(items) // VALIDATION_PART
            halves = items[cut:], items[:cut]
        else:
            halves = tuple([item for item in items if item.split == part] for part in ("train", "validation"))  # type: ignore[assignment]
        for part, half, wanted, into in (
            ("training", halves[0], per_class.train, train),
            ("validation", halves[1], per_class.validation, validation),
        ):
            if len(half) < (wanted or 0) or (part == "training" and not half):
                raise UserError(
                    f"data.per_class: class '{label}' of the {name} set has {len(half)} {part} images, but "
                    f"{wanted or 1} are asked for; lower the number or choose another class",
                    Exit.RECIPE,
                )
            into.extend(half[:wanted])
    return Chosen(name, tuple(classes), source, train, validation)


def _no_images(name: str, label: str, source: Images) -> UserError:
    from difflib import get_close_matches

    if label in source.labels:
        return UserError(f"data.{name}: class '{label}' has no images; add some or leave the class out", Exit.RECIPE)
    known = sorted(source.labels)
    close = get_close_matches(label, known, 1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return UserError(f"data.{name}: unknown class '{label}'; {hint}The source has: {listed}", Exit.RECIPE)


def split(data: Data, base: Path, seed: int) -> tuple[Chosen, Chosen]:
    """Return the forget set and the retain set of a recipe; relative paths start at `base`."""
    sources: dict[object, Images] = {}

    def opened(section: object) -> Images:
        if section not in sources:
            sources[section] = section.open(base)  # type: ignore[attr-defined]
        return sources[section]

    forget_source, retain_source = opened(data.forget.source or data.source), opened(data.retain.source or data.source)
    forget = choose("forget", forget_source, data.forget.classes, data.per_class, seed)
    retain = choose("retain", retain_source, data.retain.classes, data.per_class, seed)
    if forget_source is retain_source and (shared := set(forget.classes) & set(retain.classes)):
        raise UserError(f"data: {sorted(shared)} is in the forget set and in the retain set", Exit.RECIPE)
    return forget, retain


def decode(source: Images, items: Sequence[Item], size: int) -> Tensor:
    """Return the images as uint8 [N, 3, size, size], decoded by threads, in the order of `items`."""
    if not items:
        return torch.empty(0, 3, size, size, dtype=torch.uint8)
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda item: source.read(item, size), items)))


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.float() / 255


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


def colour_statistics(images: Tensor) -> Statistics:
    """Return mean [3] and covariance [3, 3] of the pixel colours of uint8 images [N, 3, H, W]."""
    pixels = to_float(images).permute(1, 0, 2, 3).flatten(1).double()
    return Statistics(pixels.mean(1).float(), torch.cov(pixels).float())


def digest(images: Tensor) -> str:
    """Return the SHA-256 of decoded images."""
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()
