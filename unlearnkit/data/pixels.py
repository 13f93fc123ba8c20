"""Decoded images as uint8 [N, 3, S, S]: held in memory, or decoded for each batch, to the same bytes."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from itertools import tee

import torch
from torch import Tensor

from unlearnkit.contracts import Images, Item, Size, sides
from unlearnkit.data.decoding import Decoders, Found, Order, Rows, decode
from unlearnkit.data.likeness import alike, perceptual
from unlearnkit.data.lists import refuse
from unlearnkit.data.sets import Chosen, resembling, told
from unlearnkit.device import send
from unlearnkit.disk import MIB
from unlearnkit.errors import UserError
from unlearnkit.recipe.data import Data

CHUNK = 128
"""Images of one pass over a whole set."""


class Targets(Images):
    """The targets of a source's pairs, as images of their own."""

    def __init__(self, source: Images) -> None:
        self.source, self.items, self.labels = source, source.items, source.labels

    def read(self, item: Item, size: Size) -> Tensor:
        """Return the target of an image."""
        return self.source.target(item, size)

    def describe(self) -> Mapping[str, object]:
        """Return the facts of the source."""
        return self.source.describe()


class Pixels:
    """The images of a set, in the order of `items`; `pixels[rows]` is uint8 [B, 3, S, S] on `device`.

    Where the source has pairs these are the inputs, `size` is that of the targets, which are `scale` times as large.
    With `workers` None they are decoded once, here, and held on the device. Otherwise a batch is decoded when it is
    asked for, or ahead of time by so many processes where `expect` announced it: what is announced changes no byte.
    Images that cannot be read raise one `UserError`.
    """

    def __init__(
        self, source: Images, items: Sequence[Item], size: Size, device: torch.device, workers: int | None = None,
        scale: int = 1,
    ) -> None:  # fmt: skip
        self.targets = Pixels(Targets(source), items, size, device, workers) if source.paired else None
        size = shrunk(size, scale) if source.paired else size
        self.source, self.items, self.size, self.device, self.workers = source, items, size, device, workers or 0
        self.held = decode(source, items, size).to(device) if workers is None else None
        self._orders: list[Order] = []
        self._decoders: Decoders | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images of `rows` [B] as uint8 [B, 3, S, S] on the device."""
        if self.held is not None:
            return self.held[send(rows, self.held.device)]
        wanted = tuple(rows.tolist())
        found = self._announced(wanted)
        if found is not None:
            return send(torch.from_numpy(found), self.device)
        return send(decode(self.source, [self.items[row] for row in wanted], self.size), self.device)

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
        yield from zip(self.items, *self.hashes[1:], strict=True)
        if self.targets is not None:
            yield from self.targets.looks()

    @cached_property
    def hashes(self) -> tuple[str, list[bytes], list[bytes]]:
        """The SHA-256 of all images as one, with their targets, that of each, and its perceptual hash, from one look.

        Raise one `UserError` of all that cannot be read.
        """
        whole, each, alike, problems = hashlib.sha256(), list[bytes](), list[bytes](), list[UserError]()
        rows = torch.arange(len(self)).split(CHUNK) if len(self) else ()
        with self.expect(rows):
            for part in rows:
                try:
                    images = self[part].cpu().numpy()
                except UserError as error:
                    problems.append(error)
                    continue
                whole.update(images.tobytes())
                each += [hashlib.sha256(image.tobytes()).digest() for image in images]
                alike += map(perceptual, images)
        if self.targets is not None:
            try:
                whole.update(self.targets.hashes[0].encode())
            except UserError as error:
                problems.append(error)
        refuse(problems)
        return whole.hexdigest(), each, alike


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
    """Return the images of each set by split, the training images on `device`, after a look at each of them.

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
            found[name][half], _ = pixels, pixels.hashes
        except UserError as error:
            problems.append(error)
    refuse(problems)
    return found


def load_apart(
    chosen: Mapping[str, Chosen], size: Size, data: Data, device: torch.device, scale: int = 1
) -> tuple[dict[str, Chosen], dict[str, dict[str, Pixels]]]:
    """Return the sets and what `load` does, without retain images of a forget image's pixels; `UserError` of none.

    Of pairs both images count.
    Retain images that are nearly forget images stay, and a note tells of them.
    """
    images, retain = load(chosen, size, data, device, scale), chosen["retain"]
    forget, rest = ([look for half in images[name].values() for look in half.looks()] for name in ("forget", "retain"))
    forgotten = {mark for _, mark, _ in forget}
    gone = {item.key: item for item, mark, _ in rest if mark in forgotten}
    rest = [look for look in rest if look[0].key not in gone]
    near = alike([like for _, _, like in forget], [like for _, _, like in rest])
    pairs = [*dict.fromkeys((rest[ours][0].key, forget[theirs][0].key) for ours, theirs in near.items())]
    copied = told(list(gone.values()))
    notes = [*retain.notes, *copied, *resembling(pairs)]
    if not gone:
        return {**chosen, "retain": replace(retain, notes=notes)}, images
    train, validation = ([item for item in half if item.key not in gone] for half in (retain.train, retain.validation))
    if not train:
        raise UserError(f"data.retain: nothing is left to train on. {copied[0]}")
    apart = {**chosen, "retain": replace(retain, train=train, validation=validation, notes=notes)}
    return apart, load(apart, size, data, device, scale)
