"""Decoded images as uint8 [N, 3, S, S]: held in memory, or decoded for each batch, to the same bytes."""

import hashlib
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnkit.contracts import Images, Item, Statistics
from unlearnkit.device import send
from unlearnkit.errors import Exit, UserError

CHUNK = 128
"""Images of one pass over a whole set."""

AHEAD = 2
"""Batches that are decoded ahead, for each process."""

Rows = tuple[int, ...]
Found = NDArray[np.uint8] | tuple[str, Exit]
"""What a process hands back: uint8 [B, 3, S, S], or the message and exit code of what went wrong."""


def decode(source: Images, items: Sequence[Item], size: int) -> Tensor:
    """Return the images as uint8 [N, 3, size, size], decoded by threads, in the order of `items`."""
    images = torch.empty(len(items), 3, size, size, dtype=torch.uint8)

    def fill(row: int) -> None:
        images[row] = source.read(items[row], size)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(items))):
            pass
    return images


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.float() / 255


class Pixels:
    """The images of a set, in the order of `items`; `pixels[rows]` is uint8 [B, 3, S, S] on `device`.

    With `workers` None they are decoded once, here, and held on the device. Otherwise a batch is decoded when it is
    asked for, or ahead of time by so many processes where `expect` announced it: what is announced changes no byte.
    An image that cannot be read raises `UserError`.
    """

    def __init__(
        self, source: Images, items: Sequence[Item], size: int, device: torch.device, workers: int | None = None
    ) -> None:
        self.source, self.items, self.size, self.device, self.workers = source, items, size, device, workers or 0
        self.held = decode(source, items, size).to(device) if workers is None else None
        self._orders: list[_Order] = []
        self._pool: ProcessPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Return the images of `rows` [B] as uint8 [B, 3, S, S] on the device."""
        if self.held is not None:
            return self.held[send(rows, self.held.device)]
        wanted = tuple(rows.tolist())
        found = self._announced(wanted)
        if found is None:
            return send(decode(self.source, [self.items[row] for row in wanted], self.size), self.device)
        if isinstance(found, tuple):
            raise UserError(*found)
        return send(torch.from_numpy(found), self.device)

    @contextmanager
    def expect(self, batches: Iterable[Tensor]) -> Iterator[None]:
        """Decode `batches` (rows, in the order they will be asked for; it may go on for ever) ahead inside the block.

        A batch outside that order is decoded when it is asked for. Blocks may be nested, such as a look at the whole
        set amid training. The processes live as long as the outermost block.
        """
        if self.held is not None or not self.workers:
            yield
            return
        if not self._orders:
            self._pool = ProcessPoolExecutor(
                self.workers, initializer=_begin, initargs=(os.getpid(), self.source, self.items, self.size)
            )
        order = _Order(batches, AHEAD * self.workers)
        self._orders.append(order)
        try:
            self._fill(order)
            yield
        finally:
            self._orders.remove(order)
            order.cancel()
            if not self._orders and self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None

    def _announced(self, wanted: Rows) -> Found | None:
        """Return a batch that was announced, None for any other."""
        order = next((order for order in reversed(self._orders) if order.holds(wanted)), None)
        if order is None or self._pool is None:
            return None
        try:
            found = order.take(wanted)
        except BrokenProcessPool:
            self._ended()
            return None
        self._fill(order)
        return found

    def _fill(self, order: "_Order") -> None:
        try:
            order.fill(self._pool)
        except BrokenProcessPool:
            self._ended()

    def _ended(self) -> None:
        """Go on without the processes: a signal to all of a job ends them, and the last step is still to be saved."""
        warnings.warn("the processes that decode images have ended; going on without them", stacklevel=4)
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None

    def chunks(self, size: int = CHUNK) -> Iterator[Tensor]:
        """Yield all images in order, on the device, `size` at a time."""
        rows = torch.arange(len(self)).split(size) if len(self) else ()
        with self.expect(rows):
            for part in rows:
                yield self[part]


class _Order:
    """Batches that were announced together, the first of them on their way."""

    def __init__(self, batches: Iterable[Tensor], room: int) -> None:
        self._rest, self._room = iter(batches), room
        self._sent: deque[tuple[Rows, Future[Found]]] = deque()

    def fill(self, pool: ProcessPoolExecutor | None) -> None:
        while pool is not None and len(self._sent) < self._room and (batch := next(self._rest, None)) is not None:
            rows = tuple(batch.tolist())
            self._sent.append((rows, pool.submit(_decoded, rows)))

    def holds(self, wanted: Rows) -> bool:
        return any(rows == wanted for rows, _ in self._sent)

    def take(self, wanted: Rows) -> Found:
        """Wait for a batch that is on its way, and forget those announced before it."""
        while True:
            rows, future = self._sent.popleft()
            if rows == wanted:
                return future.result()
            future.cancel()

    def cancel(self) -> None:
        for _, future in self._sent:
            future.cancel()


_mine: tuple[Images, Sequence[Item], int]
"""In a decoding process: what it decodes."""


def _begin(parent: int, source: Images, items: Sequence[Item], size: int) -> None:
    """Make a new process ready to decode."""
    global _mine
    _mine = source, items, size
    torch.set_num_threads(1)  # the thread pool of the process that this one is a copy of is not here
    # Signals are for the main process, which saves first and ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this process with its parent, which may be killed and then ends nothing itself."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _decoded(rows: Rows) -> Found:
    # An array and no tensor, so that it comes through a pipe: shared memory is scarce in containers.
    source, items, size = _mine
    images = np.empty((len(rows), 3, size, size), np.uint8)
    try:
        for place, row in enumerate(rows):
            images[place] = source.read(items[row], size).numpy()
    except UserError as error:
        return str(error), error.code
    return images


def _parts(images: Tensor | Pixels) -> Iterable[Tensor]:
    return images.chunks() if isinstance(images, Pixels) else images.split(CHUNK) if len(images) else ()


def digest(*sets: Tensor | Pixels) -> str:
    """Return the SHA-256 of decoded images, one set after the other."""
    hashed = hashlib.sha256()
    for images in sets:
        for part in _parts(images):
            hashed.update(part.cpu().numpy().tobytes())
    return hashed.hexdigest()


def colour_statistics(images: Tensor | Pixels) -> Statistics:
    """Return mean [3] and covariance [3, 3] of the pixel colours of uint8 images [N, 3, H, W], N · H · W > 1.

    The sums are of whole numbers and exact, so that it does not matter where the images are or what the parts are.
    """
    count, sums, products = 0, torch.zeros(3, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int64)
    for part in _parts(images):
        channels = part.permute(1, 0, 2, 3).flatten(1).double()
        count += channels.shape[1]
        sums += channels.sum(1).long().cpu()
        products += (channels @ channels.T).long().cpu()
    single, joint = sums.tolist(), products.tolist()
    mean = [total / (count * 255) for total in single]
    covariance = [
        [(count * joint[a][b] - single[a] * single[b]) / (count * (count - 1) * 255**2) for b in range(3)]
        for a in range(3)
    ]
    return Statistics(torch.tensor(mean), torch.tensor(covariance))
