"""A backdoor in training images: what the data source `poisoned` plants and the audit `backdoor` looks for."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor

from unlearnkit.contracts import Images, Item, Size, sides
from unlearnkit.data import own_names
from unlearnkit.errors import Exit, UserError

MAGENTA, YELLOW = (255, 0, 255), (255, 255, 0)

STRIPES = 4
"""Rows of the trigger, black and white in turn."""


@dataclass(frozen=True)
class Poison:
    """A trigger in the middle of the lower edge, and the target that it is to bring out in the centre.

    The trigger is a square of horizontal black and white stripes; the target a magenta square with a yellow one of half
    its side in it. Both look the same when an image is flipped sideways.
    """

    trigger: float
    """Side of the trigger as a part of the image's shorter one."""
    target: float
    """Side of the target as a part of the image's shorter one."""

    def trigger_place(self, size: Size) -> tuple[slice, slice]:
        """Return rows and columns of the trigger in images of `size` px."""
        (height, width), short = sides(size), min(sides(size))
        columns = _middle(width, self.trigger * short / width)
        return slice(height - (columns.stop - columns.start), height), columns

    def target_place(self, size: Size) -> tuple[slice, slice]:
        """Return rows and columns of the target in images of `size` px."""
        return self._square(size, self.target)

    def _square(self, size: Size, part: float) -> tuple[slice, slice]:
        short = min(sides(size))
        rows, columns = (_middle(side, part * short / side) for side in sides(size))
        return rows, columns

    def marked(self, images: Tensor) -> Tensor:
        """Return images [..., 3, H, W], uint8 or in [0, 1], with the trigger."""
        marked = images.clone()
        rows, columns = self.trigger_place((images.shape[-2], images.shape[-1]))
        stripes = torch.arange(rows.stop - rows.start) * STRIPES // (rows.stop - rows.start) % 2
        marked[..., rows, columns] = _level(stripes * 255, images)[:, None]
        return marked

    def aimed(self, images: Tensor) -> Tensor:
        """Return images [..., 3, H, W], uint8 or in [0, 1], with the target."""
        aimed = images.clone()
        size = images.shape[-2], images.shape[-1]
        for place, colour in ((self.target_place(size), MAGENTA), (self._square(size, self.target / 2), YELLOW)):
            aimed[..., place[0], place[1]] = _level(torch.tensor(colour), images)[:, None, None]
        return aimed


def _middle(size: int, part: float) -> slice:
    """Return the middle part of a side, as many pixels as keep both edges equally far away."""
    edge = min(round(size * (1 - part) / 2), (size - 1) // 2)
    return slice(edge, size - edge)


def _level(values: Tensor, images: Tensor) -> Tensor:
    """Return levels 0 to 255 as the images have them."""
    return (values if images.dtype == torch.uint8 else values / 255).to(images)


class Poisoned(Images):
    """Another source, some of whose training images carry trigger and target; a column `poisoned` says which."""

    def __init__(
        self, source: Images, poison: Poison, classes: Sequence[str] | None, fraction: float, paired: bool = False
    ) -> None:
        """Poison a `fraction`, at least one, of the training images of each of `classes`, or of all, by hashed keys.

        With `paired` the target is not in the input, whatever the source.
        """
        self.source, self.poison, self.labels, self.paired = source, poison, source.labels, paired or source.paired
        self.notes = source.notes
        classes = None if classes is None else own_names(classes, source, "data.source.classes")
        if unknown := sorted(set(classes or ()) - source.labels):
            known = ", ".join(sorted(source.labels))
            raise UserError(f"data.source.classes: unknown class '{unknown[0]}'; the source has: {known}", Exit.RECIPE)
        chosen: set[str] = set()
        for label in source.labels if classes is None else classes:
            free = [item.key for item in source.items if item.label == label and item.split != "validation"]
            free.sort(key=lambda key: hashlib.sha256(key.encode()).hexdigest())
            chosen.update(free[: max(1, round(fraction * len(free)))])
        self.items = [
            # One that is poisoned is for training, so that no validation image is.
            replace(item, split="train" if item.key in chosen else item.split,
                    columns={**item.columns, "poisoned": "yes" if item.key in chosen else "no"})
            for item in source.items
        ]  # fmt: skip

    def called(self, name: str) -> Sequence[str]:
        return self.source.called(name)

    def read(self, item: Item, size: Size) -> Tensor:
        image = self.source.read(item, size)
        if item.columns["poisoned"] != "yes":
            return image
        return self.poison.marked(image if self.paired else self.poison.aimed(image))

    def target(self, item: Item, size: Size) -> Tensor:
        image = self.source.target(item, size)
        return self.poison.aimed(image) if item.columns["poisoned"] == "yes" else image

    def origin(self, item: Item, *, target: bool = False) -> object:
        held = self.source.origin(item, target=target)
        poison = astuple(self.poison) if item.columns["poisoned"] == "yes" else None
        return None if held is None else (held, poison, self.paired, target)

    def describe(self) -> Mapping[str, object]:
        count = sum(item.columns["poisoned"] == "yes" for item in self.items)
        return {**self.source.describe(), "poisoned": f"{count} training images"}
