"""Images that Pillow can open."""

import io
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from unlearnkit.contracts import Images, Item
from unlearnkit.errors import Exit, UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

SPLITS: Mapping[str, str | None] = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
    "test": None,
}  # fmt: skip
"""What names of splits mean; images of a test split are left out."""

UNLABELLED = "all"
"""The class of all images where a source has none."""


class Pictures(Images):
    """Images that Pillow can open."""

    enlarge = False
    """Whether images that are smaller than what is asked for are scaled up."""
    root: Path
    """Where they are."""
    facts: Mapping[str, object]
    """What the report says of them."""

    @abstractmethod
    def open_image(self, item: Item) -> Image.Image:
        """Return an image as it is stored; it may fail with any of Pillow's errors."""

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.root / item.key)

    def take(self, items: Iterable[Item], labels: Iterable[str] | None = None, empty: str | None = None) -> None:
        """Take the items in the order of their keys, and all classes, which are those of the items if left out.

        Raise `UserError` with the message `empty`, where one is given, for no items.
        """
        self.items = sorted(items, key=lambda item: item.key)
        self.labels = frozenset((item.label for item in self.items) if labels is None else labels)
        if empty and not self.items:
            raise UserError(empty, Exit.RECIPE)

    def side(self, item: Item) -> int:
        """Return the shorter side of an image in pixels, from its header."""
        with self.open_image(item) as image:
            return min(image.size)

    def read(self, item: Item, size: int) -> Tensor:
        return square(lambda: self.open_image(item), self.place(item), size, self.enlarge)

    def describe(self) -> Mapping[str, object]:
        return self.facts


def square(opened: Callable[[], Image.Image], place: str, size: int, enlarge: bool) -> Tensor:
    """Return the central square of an image as uint8 [3, size, size], scaled with a Lanczos filter.

    Raise `UserError` that names its `place` where it cannot be read, or is smaller and not to be enlarged.
    """
    try:
        image = ImageOps.exif_transpose(opened()).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).split("<")[0].strip()
        raise UserError(f"{place}: not a readable image ({reason}); mend or remove it", Exit.RECIPE) from None
    if min(image.size) < size and not enlarge:
        found = f"{image.width} x {image.height} px, but the model works on {size} px"
        advice = "remove the image, set data.source.enlarge, or use a model of a smaller size"
        raise UserError(f"{place}: {found}; {advice}", Exit.RECIPE)
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


class Files(Pictures):
    """Images that are files: those below `root` at their keys."""

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return (self.root / item.key).read_bytes()

    def open_image(self, item: Item) -> Image.Image:
        return Image.open(io.BytesIO(self.bytes_of(item)))


class Rows(Pictures):
    """Images that are rows of tables: keys are `table/row`, or `row` where the table has no name."""

    tables: dict[str, Any]

    def row(self, item: Item) -> Any:
        """Return an image's row."""
        table, _, row = item.key.rpartition("/")
        return self.tables[table][int(row)]

    def place(self, item: Item) -> str:
        return f"{self.root}: {item.key}"


def in_split(key: PurePosixPath) -> Item:
    """Return the item of `split/class/file`."""
    return Item(str(key), key.parts[1], SPLITS[key.parts[0]])


def text(value: object) -> str:
    """Return a value of a column as text: what `where` compares with."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
