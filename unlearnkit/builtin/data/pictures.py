"""Images that Pillow can open."""

import io
import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.Image import Transpose as Turn
from torch import Tensor

from unlearnkit.contracts import Images, Item, Size, sides
from unlearnkit.contracts.sizes import told
from unlearnkit.data import memo
from unlearnkit.errors import Exit, UserError, first_line

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm",
))  # fmt: skip

SPLITS: Mapping[str, str | None] = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
    "dev": "validation", "test": None, "testing": None,
}  # fmt: skip
"""What names of splits mean, in small letters; images of a test split are left out beside others for validation."""

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of images by Pillow's names."""
BITS, PHOTOMETRIC, ORIENTATION, SAMPLES = 258, 262, 274, 339
"""Tags of TIFF and EXIF."""
SIGNED = 2
"""What the tag of samples says of numbers with signs, which Pillow reads as without where they have 8 bits."""
TURNS = dict(enumerate(
    (Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM, Turn.TRANSPOSE, Turn.ROTATE_270, Turn.TRANSVERSE,
     Turn.ROTATE_90), 2,
))  # fmt: skip
"""How an image is turned upright, by the value of the EXIF tag."""

UNLABELLED = "all"
"""The class of all images where a source has none."""

Direction = Literal["left-to-right", "right-to-left"]
"""Which half of a picture is the input, and which its target."""


class Pictures(Images):
    """Images that Pillow can open."""

    enlarge = False
    """Whether images that are smaller than what is asked for are scaled up."""
    side_by_side: Direction | None = None
    """Which half of each picture is the target of the other, where they are pairs."""
    root: Path
    """Where they are."""
    facts: Mapping[str, object]
    """What the report says of them."""

    @abstractmethod
    def open_image(self, item: Item) -> Image.Image:
        """Return an image as it is stored; it may fail with any of Pillow's errors."""

    def open_target(self, item: Item) -> Image.Image:
        """Return the target of an image as it is stored, where it is a picture of its own."""
        raise NotImplementedError

    def place(self, item: Item) -> str:
        """Return where an image is, for messages."""
        return str(self.root / item.key)

    def take(self, items: Iterable[Item], labels: Iterable[str] | None = None, empty: str | None = None) -> None:
        """Take the items in the order of their keys, and all classes, which are those of the items if left out.

        Raise `UserError` with the message `empty`, where one is given, for no items, and for names that are no text.
        """
        self.items = sorted(items, key=lambda item: item.key)
        self.labels = frozenset((item.label for item in self.items) if labels is None else labels)
        for name in (*self.labels, *(item.key for item in self.items)):
            try:
                name.encode()
            except UnicodeEncodeError:
                raise UserError(f"data.source: the name {name!a} is no UTF-8; rename it", Exit.RECIPE) from None
        if empty and not self.items:
            raise UserError(empty, Exit.RECIPE)

    def side(self, item: Item) -> int:
        """Return the shorter side of an image in pixels, from its header; raise `UserError` where it has none."""
        width, height = self._shape(item)
        return min(width // 2 if self.side_by_side else width, height)

    def _shape(self, item: Item) -> tuple[int, int]:
        with _readable(self.place(item)), self.open_image(item) as image:
            return image.size

    def read(self, item: Item, size: Size) -> Tensor:
        cut = None if self.side_by_side is None else half_of(self.side_by_side == "left-to-right", self.place(item))
        return square(lambda: self.open_image(item), self.place(item), size, self.enlarge, cut)

    def target(self, item: Item, size: Size) -> Tensor:
        """Return the target of an image; raise `UserError` where its proportions are others: no cut would suit both."""
        place = f"the target of {self.place(item)}"
        if self.side_by_side is not None:
            cut = half_of(self.side_by_side == "right-to-left", self.place(item))
            return square(lambda: self.open_image(item), self.place(item), size, self.enlarge, cut)
        if not self.paired:
            return self.read(item, size)

        def alike(image: Image.Image) -> Image.Image:
            with _readable(self.place(item)), self.open_image(item) as given:
                width, height = turned(given)
            if abs(width * image.height - image.width * height) > max(width, height, *image.size):
                found = f"{image.width} x {image.height} px, but its input is {width} x {height} px"
                raise UserError(f"{place}: {found}; the two of a pair need the same proportions", Exit.RECIPE)
            return image

        return square(lambda: self.open_target(item), place, size, self.enlarge, alike)

    def origin(self, item: Item, *, target: bool = False) -> object:
        held = self.contents(item, target)
        return None if held is None else (held, self.side_by_side, self.enlarge, target)

    def contents(self, item: Item, target: bool) -> tuple[str, ...] | None:
        """Return the hashes of all that an image, or its target, is read from; None where that cannot be read."""
        return None

    def describe(self) -> Mapping[str, object]:
        return self.facts


@contextmanager
def _readable(place: str) -> Iterator[None]:
    """Turn what Pillow raises, which is whatever its decoders stumble over, into one message with the image's place."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        reason = first_line(error).split("<")[0].strip() or type(error).__name__
        raise UserError(f"{place}: not a readable image ({reason}); mend or remove it", Exit.RECIPE) from None


Cut = Callable[[Image.Image], Image.Image]
"""From an upright picture to the part of it that is the image."""


def square(
    open_image: Callable[[], Image.Image], place: str, size: Size, enlarge: bool, cut: Cut | None = None
) -> Tensor:
    """Return the central square of an image as uint8 [3, size, size], scaled with a Lanczos filter.

    `size` may be a height and a width, whose proportions the central part then has; `cut` says what of the picture is
    the image. Raise `UserError` that names its `place` where it cannot be read, or is smaller and not to be enlarged.
    """
    with _readable(place):
        image = upright(open_image()) if cut is None else cut(upright(open_image()))
    height, width = sides(size)
    if (image.height < height or image.width < width) and not enlarge:
        found = f"{image.width} x {image.height} px, but the model works on {told(size)}"
        advice = "remove the image, set data.source.enlarge, or use a model of a smaller size"
        raise UserError(f"{place}: {found}; {advice}", Exit.RECIPE)
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def half_of(left: bool, place: str) -> Cut:
    """Return what cuts a picture to its left or right half; `UserError` names the `place` of one without two."""

    def cut(image: Image.Image) -> Image.Image:
        half, odd = divmod(image.width, 2)
        if odd or not half:
            found = f"{image.width} px wide, which are no two halves side by side"
            raise UserError(f"{place}: {found}; mend the picture, or leave out data.source.side_by_side", Exit.RECIPE)
        return image.crop((0, 0, half, image.height) if left else (half, 0, image.width, image.height))

    return cut


def turned(image: Image.Image) -> tuple[int, int]:
    """Return the width and height that an image has once it is upright."""
    size = image.size
    try:
        across = image.getexif().get(ORIENTATION, 1) in range(5, 9)
        if image.format == "TIFF":  # whose size is upright already where Pillow is new
            tags = getattr(image, "tag_v2", {})
            size = tags.get(256, image.width), tags.get(257, image.height)
    except Exception:  # as `upright` takes them
        across = False
    return (size[1], size[0]) if across else size


def upright(image: Image.Image) -> Image.Image:
    """Return an image as RGB without transparency, upright where its EXIF data can be read; `ValueError` for no RGB."""
    image.load()  # in some formats they stand behind the pixels
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # they are bytes that anything may have written
        turn = None
    image.info.pop("transparency", None)  # Pillow warns of what it cannot keep, and it is not kept
    scaled = image.mode[0] in "IF" or SIGNED in getattr(image, "tag_v2", {}).get(SAMPLES, ())
    image = (_scaled(image) if scaled else image).convert("RGB")
    return image if turn is None else image.transpose(turn)


def _scaled(image: Image.Image) -> Image.Image:
    """Return a grey image of more than 8 bits a pixel with 8; raise `ValueError` where its white is not known."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS, (16,))[0]
    white = 1 if image.mode == "F" else 2**bits - 1
    grey = np.asarray(image, np.float64) / white
    unknown = bool(tags) and (image.mode == "I" or SIGNED in tags.get(SAMPLES, ()))
    if unknown or not (grey.min() >= 0 and grey.max() <= 1):
        found = "decimal numbers outside 0 to 1" if image.mode == "F" else "32 bits or signs"
        raise ValueError(f"grey of {found}, whose black and white nobody says: save it with 8 or 16 bits")
    if tags.get(PHOTOMETRIC) == 0:  # white is zero, which Pillow minds with 8 bits alone
        grey = 1 - grey
    return Image.fromarray((grey * 255).round().astype(np.uint8))


def hidden(name: str) -> bool:
    """Tell whether a file or folder is none of the images: hidden, or what macOS puts into archives."""
    return (name.startswith(".") and name not in (".", "..")) or name == "__MACOSX"


def opened(file: BinaryIO | Path) -> Image.Image:
    """Return a picture in one of the formats that are pictures alone: Pillow would run a PostScript file."""
    return Image.open(file, formats=FORMATS)


class Files(Pictures):
    """Images that are files: those below `root` at their keys."""

    def bytes_of(self, item: Item) -> bytes:
        """Return an image's file."""
        return (self.root / item.key).read_bytes()

    def size_of(self, item: Item) -> int:
        """Return the length of an image's file."""
        return (self.root / item.key).stat().st_size

    def hash_of(self, item: Item) -> str:
        """Return the SHA-256 of an image's file, which is read where it is not as it was when it was read last."""
        return memo.content(self.root / item.key, lambda: self.bytes_of(item))

    def fingerprint(self, item: Item, *, whole: bool) -> str | int | None:
        try:
            return self.hash_of(item) if whole else self.size_of(item)
        except OSError:  # told where it is decoded
            return None

    def contents(self, item: Item, target: bool) -> tuple[str, ...] | None:
        try:
            return (self.hash_of(item),)
        except OSError:
            return None

    def open_image(self, item: Item) -> Image.Image:
        return opened(io.BytesIO(self.bytes_of(item)))


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


def halves(place: str, names: Collection[str]) -> dict[str, str | None]:
    """Return which splits are used, as what; raise `UserError` that starts with `place` for others than these."""
    if len(names) == 1:
        return dict.fromkeys(names)  # the seed splits it
    train, validation, test = (
        [name for name in names if SPLITS.get(name.lower(), "") == kind] for kind in ("train", "validation", None)
    )
    held = validation or test
    if len(train) != 1 or len(held) != 1:
        found = f"{place} has the splits {', '.join(sorted(names))}"
        raise UserError(f"{found}; expected one for train and one for validation (or test)", Exit.RECIPE)
    return {train[0]: "train", held[0]: "validation"}


def text(value: object) -> str:
    """Return a value of a column as text: what `where` compares with."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
