"""The code of the built-in data sources."""

import io
import json
import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from unlearnkit.contracts import Images, Item
from unlearnkit.errors import Exit, UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
SPLITS = frozenset({"train", "validation"})


def item(key: PurePosixPath) -> Item:
    """Return the item of `class/file` or `split/class/file`."""
    split = key.parts[0] if len(key.parts) > 2 and key.parts[0] in SPLITS else None
    return Item(str(key), key.parts[1] if split else key.parts[0], split)


class _Files(Images):
    """Images that are files with a name and bytes."""

    @abstractmethod
    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""

    def read(self, item: Item, size: int) -> Tensor:
        """Return the central square as uint8 [3, size, size], scaled down with a Lanczos filter."""
        try:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(self.bytes_of(item)))).convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).split("<")[0].strip()
            raise UserError(
                f"{self.place(item)}: not a readable image ({reason}); mend or remove it", Exit.RECIPE
            ) from None
        if min(image.size) < size:
            raise UserError(
                f"{self.place(item)}: {image.width} x {image.height} px, but the model works on {size} px; "
                f"remove the image or use a model of a smaller size",
                Exit.RECIPE,
            )
        fitted = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()

    @abstractmethod
    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""


class Archive(_Files):
    """A shipped zip of `split/class/file`, with its licence in `source.json` beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # All at once, because a zip handle is not safe to share between the decoding threads.
        with zipfile.ZipFile(path) as archive:
            self._bytes = {name: archive.read(name) for name in archive.namelist()}
        self.items = [item(PurePosixPath(name)) for name in sorted(self._bytes)]
        self.labels = frozenset(found.label for found in self.items)

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return self._bytes[item.key]

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return f"{self.path.parent.name}:{item.key}"

    def describe(self) -> Mapping[str, object]:
        """Return name, licence and attribution."""
        facts: dict[str, object] = json.loads((self.path.parent / "source.json").read_text(encoding="utf-8"))
        return facts


class Folder(_Files):
    """Folders of images below `root`, one a class."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise UserError(f"data.source.root: there is no folder {root}", Exit.RECIPE)
        classes = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        if {path.name for path in classes} >= SPLITS:
            classes = [path for split in sorted(SPLITS) for path in (root / split).iterdir() if path.is_dir()]
        self.labels = frozenset(path.name for path in classes)
        files = [path for folder in classes for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
        self.items = sorted(
            (item(PurePosixPath(path.relative_to(root))) for path in files), key=lambda found: found.key
        )
        if not self.labels:
            raise UserError(f"data.source.root: {root} has no folders; it needs one a class", Exit.RECIPE)

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return (self.root / item.key).read_bytes()

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.root / item.key)

    def describe(self) -> Mapping[str, object]:
        """Return the folder's name; its licence is the user's to know."""
        return {"name": self.root.name}
