"""The code of the data sources whose images are files: the sample, folders and manifests."""

import csv
import io
import json
import os
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

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

    @abstractmethod
    def open_image(self, item: Item) -> Image.Image:
        """Return an image as it is stored; it may fail with any of Pillow's errors."""

    @abstractmethod
    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""

    def read(self, item: Item, size: int) -> Tensor:
        """Return the central square as uint8 [3, size, size], scaled with a Lanczos filter.

        Raise `UserError` where it cannot be read, or is smaller and not to be enlarged.
        """
        try:
            image = ImageOps.exif_transpose(self.open_image(item)).convert("RGB")
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).split("<")[0].strip()
            raise UserError(
                f"{self.place(item)}: not a readable image ({reason}); mend or remove it", Exit.RECIPE
            ) from None
        if min(image.size) < size and not self.enlarge:
            raise UserError(
                f"{self.place(item)}: {image.width} x {image.height} px, but the model works on {size} px; "
                f"remove the image, set data.source.enlarge, or use a model of a smaller size",
                Exit.RECIPE,
            )
        fitted = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


class Files(Pictures):
    """Images that are files with bytes."""

    @abstractmethod
    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""

    def open_image(self, item: Item) -> Image.Image:
        """Return an image as it is stored."""
        return Image.open(io.BytesIO(self.bytes_of(item)))


class Archive(Files):
    """A shipped zip of `split/class/file`, with its licence in `source.json` beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # All at once, because a zip handle is not safe to share between the decoding threads.
        with zipfile.ZipFile(path) as archive:
            self._bytes = {name: archive.read(name) for name in archive.namelist()}
        self.items = [_in_split(PurePosixPath(name)) for name in sorted(self._bytes)]
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


def _in_split(key: PurePosixPath) -> Item:
    """Return the item of `split/class/file`."""
    return Item(str(key), key.parts[1], SPLITS[key.parts[0]])


class Folder(Files):
    """Folders of images below `root`, one a class; or `train` and `validation` (or `val`), which hold these."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if not root.is_dir():
            raise UserError(f"data.source.root: there is no folder {root}", Exit.RECIPE)
        classes = _folders(root)
        splits = {path.name for path in classes}
        self.fixed = "train" in splits and not splits.isdisjoint(("validation", "val"))
        if self.fixed:
            halves = [path for path in classes if path.name in ("train", "validation", "val")]
            classes = [path for half in halves for path in _folders(half)]
        self.labels = frozenset(path.name for path in classes)
        if not self.labels:
            raise UserError(f"data.source.root: {root} has no folders; it needs one a class", Exit.RECIPE)
        files = [path for folder in classes for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
        self.items = sorted(map(self._item, files), key=lambda found: found.key)

    def _item(self, path: Path) -> Item:
        key = PurePosixPath(path.relative_to(self.root))
        return _in_split(key) if self.fixed else Item(str(key), key.parts[0])

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return (self.root / item.key).read_bytes()

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.root / item.key)

    def describe(self) -> Mapping[str, object]:
        """Return the folder's name; its licence is the user's to know."""
        return {"name": self.root.name}


def _folders(path: Path) -> list[Path]:
    return [found for found in path.iterdir() if found.is_dir() and not found.name.startswith(".")]


def text(value: object) -> str:
    """Return a value of a column as text: what `where` compares with."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Manifest(Files):
    """The images that a CSV or JSONL file lists, one a line, with columns; paths start at its folder."""

    def __init__(self, path: Path, file: str, label: str | None, split: str | None) -> None:
        self.path = path
        rows = list(self._jsonl() if path.suffix.lower() in (".jsonl", ".ndjson") else self._csv())
        label = label or ("label" if any("label" in row for _, row in rows) else None)
        split = split or ("split" if any("split" in row for _, row in rows) else None)
        present = _Names()
        lines: dict[str, int] = {}
        self.items: list[Item] = []
        for line, row in rows:
            key = self._column(line, row, file)
            if key in lines:
                raise self._wrong(line, f"'{key}' is on line {lines[key]} already; remove one of them")
            lines[key] = line
            where = path.parent / key
            if where.name not in present[where.parent]:
                raise self._wrong(line, f"there is no file {where}")
            named = self._column(line, row, label) if label else UNLABELLED
            part = self._column(line, row, split) if split else None
            if part is not None and part not in SPLITS:
                raise self._wrong(line, f"'{part}' is no split; write train, validation or test")
            if part is None or SPLITS[part] is not None:
                columns = {name: value for name, value in row.items() if name != file}
                self.items.append(Item(key, named, None if part is None else SPLITS[part], columns))
        self.items.sort(key=lambda found: found.key)
        self.labels = frozenset(found.label for found in self.items)
        if not self.items:
            raise UserError(f"data.source.path: {path} lists no images", Exit.RECIPE)

    def _read(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8-sig")
        except (FileNotFoundError, IsADirectoryError):
            raise UserError(f"data.source.path: there is no file {self.path}", Exit.RECIPE) from None
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: no UTF-8 text; save it as UTF-8", Exit.RECIPE) from None

    def _csv(self) -> Iterator[tuple[int, dict[str, str]]]:
        reader = csv.DictReader(io.StringIO(self._read(), newline=""), strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise self._wrong(
                        reader.line_num, f"expected {len(reader.fieldnames or ())} columns, as line 1 has"
                    )
                yield reader.line_num, {name: value for name, value in row.items() if value != ""}
        except csv.Error as error:
            raise self._wrong(reader.line_num, f"no CSV ({error})") from None

    def _jsonl(self) -> Iterator[tuple[int, dict[str, str]]]:
        for number, line in enumerate(self._read().split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise self._wrong(number, f"no JSON ({error})") from None
            if not isinstance(row, dict):
                raise self._wrong(number, 'expected an object, such as {"file": "a.png", "label": "cats"}')
            yield number, {name: text(value) for name, value in row.items() if value is not None}

    def _column(self, line: int, row: Mapping[str, str], name: str) -> str:
        if name not in row:
            close = get_close_matches(name, list(row), 1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise self._wrong(line, f"nothing in the column '{name}'; {hint}The line has: {', '.join(row)}")
        return row[name]

    def _wrong(self, line: int, message: str) -> UserError:
        return UserError(f"{self.path} line {line}: {message}", Exit.RECIPE)

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return (self.path.parent / item.key).read_bytes()

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.path.parent / item.key)

    def describe(self) -> Mapping[str, object]:
        """Return the manifest's name."""
        return {"name": self.path.name}


class _Names(dict[Path, frozenset[str]]):
    """The names in each folder asked for: a look at the folder is faster than one at each of its files."""

    def __missing__(self, folder: Path) -> frozenset[str]:
        names = frozenset(entry.name for entry in os.scandir(folder)) if folder.is_dir() else frozenset[str]()
        return self.setdefault(folder, names)
