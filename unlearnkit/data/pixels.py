"""Decoded images as uint8 [N, 3, S, S]: held in memory, or decoded for each batch, to the same bytes."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import tee
from typing import NamedTuple, cast

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features
from torch import Tensor

from unlearnkit.contracts import Images, Item, Size, sides
from unlearnkit.data import memo
from unlearnkit.data.decoding import Decoders, Found, Order, Rows, decode
from unlearnkit.data.likeness import alike, perceptual
from unlearnkit.data.lists import refuse
from unlearnkit.data.sets import Chosen, resembling, told, told_twice
from unlearnkit.device import send
from unlearnkit.disk import MIB
from unlearnkit.errors import Exit, UserError
from unlearnkit.packages import version
from unlearnkit.recipe.data import Data

CHUNK = 128
"""Images of one pass over a whole set."""
CODECS = ("libjpeg_turbo", "zlib", "libtiff", "webp", "jpg_2000")
"""Pillow's libraries that decode."""


class Targets(Images):
    """The targets of a source's pairs, as images of their own."""

    def __init__(self, source: Images) -> None:
        self.source, self.items, self.labels = source, source.items, source.labels

    def read(self, item: Item, size: Size) -> Tensor:
        """Return the target of an image."""
        return self.source.target(item, size)

    def origin(self, item: Item, *, target: bool = True) -> object:
        """Return the origin of the target of an image."""
        return self.source.origin(item, target=target)

    def describe(self) -> Mapping[str, object]:
        """Return the facts of the source."""
        return self.source.describe()


class Mark(NamedTuple):
    """What tells an image from others."""

    pixels: bytes
    """The SHA-256 of its pixels."""
    like: bytes
    """Its perceptual hash."""


class Pixels:
    """The images of a set, in the order of `items`; `pixels[rows]` is uint8 [B, 3, S, S] on `device`.

    Where the source has pairs these are the inputs, `size` is that of the targets, which are `scale` times as large.
    With `workers` None each is decoded once, when it is asked for, and held on the device. Otherwise a batch is decoded
    whenever it is asked for, or ahead of time by so many processes where `expect` announced it, to the same bytes.
    Images that cannot be read raise one `UserError`.
    """

    def __init__(
        self, source: Images, items: Sequence[Item], size: Size, device: torch.device, workers: int | None = None,
        scale: int = 1,
    ) -> None:  # fmt: skip
        self.targets = Pixels(Targets(source), items, size, device, workers) if source.paired else None
        size = shrunk(size, scale) if source.paired else size
        self.source, self.items, self.size, self.device, self.workers = source, items, size, device, workers or 0
        self.held: Tensor | None = None
        if workers is None:
            self.held = torch.empty(len(items), 3, *sides(size), dtype=torch.uint8, device=device)
        self._left = {*range(len(items))}
        self._orders: list[Order] = []
        self._decoders: Decoders | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images of `rows` [B] as uint8 [B, 3, S, S] on the device."""
        if self.held is not None:
            self.hold(rows)
            return self.held[send(rows, self.held.device)]
        wanted = tuple(rows.tolist())
        found = self._announced(wanted)
        if found is not None:
            return send(torch.from_numpy(found), self.device)
        return send(decode(self.source, [self.items[row] for row in wanted], self.size), self.device)

    def hold(self, rows: Tensor) -> None:
        """Decode at once what of `rows` is to be held and is not yet; raise `UserError` where it is another by now."""
        if self.held is None or not self._left:
            return
        for part in _parts(row for row in dict.fromkeys(rows.tolist()) if row in self._left):
            found = decode(self.source, [self.items[row] for row in part.tolist()], self.size)
            self._refuse_changed(part, found)
            self.held[send(part, self.held.device)] = send(found, self.held.device)
            self._left.difference_update(part.tolist())

    def _refuse_changed(self, rows: Tensor, images: Tensor) -> None:
        """Refuse images that are not those that were looked at."""
        marks = self.__dict__.get("marks") or {}
        for row, image in zip(rows.tolist() if marks else (), images, strict=False):
            if _sha256(image.numpy()) != marks[row].pixels:
                found = f"'{self.items[row].key}' was changed while it is in use"
                raise UserError(f"data: {found}; put it back as it was, or run the recipe again", Exit.FOLDER)

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the images of `rows` and, where the source has pairs, their targets."""
        return self[rows], None if self.targets is None else self.targets[rows]

    def _announced(self, wanted: Rows) -> Found:
        """Return a batch that was announced and could be read, None for any other."""
        future = next(filter(None, (order.take(wanted) for order in reversed(self._orders))), None)
        try:
            return None if future is None else future.result()
        except (EOFError, OSError):  # such as by a signal to all of a job, whose last step is still to be saved
            warnings.warn("the processes that decode images have ended; going on without them", stacklevel=3)
            return None

    @contextmanager
    def expect(self, batches: Iterable[Tensor]) -> Iterator[None]:
        """Decode `batches` (rows, in the order they will be asked for; it may go on for ever) ahead inside the block.

        A batch outside that order is decoded when it is asked for. Blocks may be nested, such as a look at the whole
        set amid training. The processes live as long as the outermost block.
        """
        ours, theirs = (batches, ()) if self.targets is None else tee(batches)
        with nullcontext() if self.targets is None else self.targets.expect(theirs), self._expect(ours):
            yield

    @contextmanager
    def _expect(self, batches: Iterable[Tensor]) -> Iterator[None]:
        if self.held is not None or not self.workers:
            yield
            return
        if self._decoders is None:
            self._decoders = Decoders(self.workers, self.source, self.items, self.size)
        order = Order(batches, self._decoders)
        self._orders.append(order)
        try:
            order.fill()
            yield
        finally:
            self._orders.remove(order)
            order.cancel()
            if not self._orders:
                self._decoders.close()
                self._decoders = None

    def chunks(self, size: int = CHUNK) -> Iterator[Tensor]:
        """Yield all images in order, on the device, `size` at a time."""
        rows = torch.arange(len(self)).split(size) if len(self) else ()
        with self.expect(rows):
            for part in rows:
                yield self[part]

    def looks(self) -> Iterator[tuple[Item, bytes, bytes]]:
        """Return each item with the SHA-256 of its pixels and its perceptual hash, and once more with its target's."""
        yield from ((item, *mark) for item, mark in zip(self.items, self.marks, strict=True))
        if self.targets is not None:
            yield from self.targets.looks()

    @property
    def whole(self) -> list[tuple[bytes, ...]]:
        """The hash of each image's pixels, with that of its target's."""
        each = [self.marks] if self.targets is None else [self.marks, self.targets.marks]
        return [tuple(mark.pixels for mark in marks) for marks in zip(*each, strict=True)]

    @property
    def digest(self) -> str:
        """The hash of the images, in their order, and of their targets: the SHA-256 of those of their pixels."""
        hashed = hashlib.sha256(b"".join(mark.pixels for mark in self.marks))
        if self.targets is not None:
            hashed.update(self.targets.digest.encode())
        return hashed.hexdigest()

    @cached_property
    def marks(self) -> list[Mark]:
        """What tells each image from others, and no image is decoded for that this machine has seen before.

        Raise one `UserError` of all that cannot be read, with their targets.
        """
        origins, problems = [self._origin(item) for item in self.items], list[UserError]()
        known = [None if origin is None else memo.recall(*origin) for origin in origins]
        found = {row: Mark(mark[:32], mark[32:]) for row, mark in enumerate(known) if mark is not None}
        parts = _parts(row for row, mark in enumerate(known) if mark is None)
        with self.expect(parts):
            for part in parts:
                try:
                    images = self[part].cpu().numpy()
                except UserError as error:
                    problems.append(error)
                    continue
                for row, image in zip(part.tolist(), images, strict=True):
                    found[row] = Mark(_sha256(image), perceptual(image))
                    if (origin := origins[row]) is not None and self._origin(self.items[row]) == origin:
                        memo.remember(b"".join(found[row]), *origin)
        if self.targets is not None:
            try:
                _ = self.targets.marks
            except UserError as error:
                problems.append(error)
        memo.flush()
        refuse(problems)
        return [found[row] for row in range(len(self))]

    def _origin(self, item: Item) -> tuple[object, ...] | None:
        """Return all that an image's mark is computed from; None where its source does not know."""
        origin = self.source.origin(item)
        return None if origin is None else ("mark", *self._readers, sides(self.size), origin)

    @cached_property
    def _readers(self) -> tuple[str, ...]:
        """The versions of the code that reads the images."""
        packages, source = {"unlearnkit"}, cast("object", self.source)
        while isinstance(source, Images):
            packages.add(type(source).__module__.partition(".")[0])
            source = getattr(source, "source", None)  # of one that wraps another
        versions = (version(package) for package in sorted(packages))
        return *versions, PIL.__version__, *(str(features.version(name)) for name in CODECS)


def _parts(rows: Iterable[int]) -> Sequence[Tensor]:
    found = torch.tensor([*rows]).long()
    return found.split(CHUNK) if len(found) else ()


def _sha256(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def shrunk(size: Size, scale: int) -> Size:
    """Return a size with both sides divided by `scale`."""
    return size // scale if isinstance(size, int) else (size[0] // scale, size[1] // scale)


def weight(size: Size, paired: bool = False, scale: int = 1) -> int:
    """Return the bytes of an image, or of a pair whose target is of that size and `scale` times the input."""
    return 3 * math.prod(sides(size)) + (3 * math.prod(sides(shrunk(size, scale))) if paired else 0)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.float() / 255


def in_memory(sizes: Sequence[int], room: int) -> list[bool]:
    """Return which sets, of so many bytes, are held in `room` bytes: each all or nothing, small ones first."""
    held = [False] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: sizes[place]):
        held[place] = sizes[place] <= room
        room -= sizes[place] * held[place]
    return held


def load(
    chosen: Mapping[str, Chosen], size: Size, data: Data, device: torch.device, scale: int = 1
) -> dict[str, dict[str, Pixels]]:
    """Return the images of each set by split, the training images on `device`, once each has been looked at here.

    What `data.memory_mib` does not hold is decoded for each batch, to the same bytes. Raise one `UserError` of all that
    cannot be read.
    """
    halves = [(name, half, getattr(part, half)) for name, part in chosen.items() for half in ("train", "validation")]
    each = {name: weight(size, part.source.paired, scale) for name, part in chosen.items()}
    held = in_memory([len(items) * each[name] for name, _, items in halves], data.memory_mib * MIB)
    found: dict[str, dict[str, Pixels]] = {name: {} for name in chosen}
    problems = list[UserError]()
    for (name, half, items), fits in zip(halves, held, strict=True):
        place = device if half == "train" else torch.device("cpu")
        try:
            pixels = Pixels(chosen[name].source, items, size, place, None if fits else data.workers, scale)
            found[name][half], _ = pixels, pixels.marks
        except UserError as error:
            problems.append(error)
    refuse(problems)
    return found


def load_apart(
    chosen: Mapping[str, Chosen], size: Size, data: Data, device: torch.device, scale: int = 1
) -> tuple[dict[str, Chosen], dict[str, dict[str, Pixels]]]:
    """Return the sets and what `load` does, without copies; raise `UserError` where none are left to train on.

    No retain image has the pixels of a forget image, where of pairs both images count, and no validation image, or both
    of a pair, those of a training image of its set. Retain images that are nearly forget images stay, and a note tells
    of them.
    """
    images = load(chosen, size, data, device, scale)
    forget, rest = ([look for half in images[name].values() for look in half.looks()] for name in ("forget", "retain"))
    forgotten = {mark for _, mark, _ in forget}
    copied = {item.key: item for item, mark, _ in rest if mark in forgotten}
    twice = {name: _copies(halves["validation"], halves["train"]) for name, halves in images.items()}
    twice["retain"] = {key: item for key, item in twice["retain"].items() if key not in copied}
    gone = {"forget": twice["forget"], "retain": copied | twice["retain"]}
    rest = [look for look in rest if look[0].key not in gone["retain"]]
    near = alike([like for _, _, like in forget], [like for _, _, like in rest])
    pairs = [*dict.fromkeys((rest[ours][0].key, forget[theirs][0].key) for ours, theirs in near.items())]
    notes = {name: [*part.notes, *told_twice(name, [*twice[name].values()])] for name, part in chosen.items()}
    notes["retain"] += [*told([*copied.values()]), *resembling(pairs)]

    def apart(name: str, items: Sequence[Item]) -> list[Item]:
        return [item for item in items if item.key not in gone[name]]

    chosen = {
        name: replace(
            part, train=apart(name, part.train), validation=apart(name, part.validation), notes=tuple(notes[name])
        )
        for name, part in chosen.items()
    }
    if not chosen["retain"].train:
        raise UserError(f"data.retain: nothing is left to train on. {told([*copied.values()])[0]}")
    return chosen, load(chosen, size, data, device, scale) if any(gone.values()) else images


def _copies(ours: Pixels, others: Pixels) -> dict[str, Item]:
    """Return by its key each image that is one of `others`, target included."""
    seen = {*others.whole}
    return {item.key: item for item, marks in zip(ours.items, ours.whole, strict=True) if marks in seen}
