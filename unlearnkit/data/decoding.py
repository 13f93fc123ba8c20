"""Images decoded: here and now by threads, or ahead of time by processes, to the same bytes."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe, Process, parent_process
from multiprocessing.connection import Connection
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnkit.contracts import Images, Item, Size, sides
from unlearnkit.data.lists import refuse
from unlearnkit.errors import UserError

AHEAD = 2
"""Batches that are decoded ahead, for each process."""
PATIENCE = 10.0
"""Seconds after which a process that has not begun is taken for one that never will; doubled each time."""

Rows = tuple[int, ...]
Found = NDArray[np.uint8] | None
"""What a process hands back: uint8 [B, 3, S, S], or None where reading failed, which it leaves to the main process."""


def decode(source: Images, items: Sequence[Item], size: Size) -> Tensor:
    """Return the images as uint8 [N, 3, size, size], decoded by threads, in the order of `items`.

    Raise one `UserError` of all that cannot be read.
    """

    def read(item: Item) -> Tensor | UserError:
        try:
            return source.read(item, size)
        except UserError as error:
            return error

    with ThreadPoolExecutor() as pool:
        return gathered(pool.map(read, items), len(items), size)


def gathered(images: Iterable[Tensor | UserError], count: int, size: Size) -> Tensor:
    """Return so many images [3, size, size] as one uint8 [count, 3, size, size]; raise what stands in their place."""
    whole, problems = torch.empty(count, 3, *sides(size), dtype=torch.uint8), list[UserError]()
    for row, image in enumerate(images):
        if isinstance(image, UserError):
            problems.append(image)
        else:
            whole[row] = image
    refuse(problems)
    return whole


class Decoders:
    """Processes that decode batches of one set, each asked by a thread through a pipe of its own."""

    def __init__(self, count: int, source: Images, items: Sequence[Item], size: Size) -> None:
        self.count, patience = count, PATIENCE
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._processes: list[Process] = []
        while left := count - len(self._processes):
            # A copy made while a thread of PyTorch's enters Python or leaves it hangs (CPython 3.11, gh-112275).
            for process, pipe in _begun(left, patience, source, items, size):
                self._processes.append(process)
                self._idle.put(pipe)
            patience *= 2
        self._threads = ThreadPoolExecutor(count)

    def submit(self, rows: Rows) -> Future[Found]:
        """Have a batch decoded; the future raises `EOFError` or `OSError` where its process has died."""
        return self._threads.submit(self._ask, rows)

    def _ask(self, rows: Rows) -> Found:
        pipe = self._idle.get()
        try:
            pipe.send(rows)
            return pipe.recv()
        finally:
            self._idle.put(pipe)

    def close(self) -> None:
        """End the processes, and wait for them."""
        self._threads.shutdown(cancel_futures=True)
        for _ in self._processes:
            with self._idle.get() as pipe, suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join()


def _begun(
    count: int, patience: float, source: Images, items: Sequence[Item], size: Size
) -> list[tuple[Process, Connection]]:
    """Start so many processes; return those that have begun within so many seconds, and kill the others."""
    started = dict[Process, Connection]()
    try:
        for _ in range(count):
            ours, theirs = Pipe()
            process = Process(target=_serve, args=(theirs, source, items, size), daemon=True)
            process.start()
            theirs.close()  # the process alone has this end, so that the pipe breaks with it
            started[process] = ours
        end = time.monotonic() + patience
        begun = [one for one in started.items() if one[1].poll(max(0.0, end - time.monotonic()))]
        for process, pipe in begun:
            with suppress(EOFError, OSError):  # of one that has died, which is told where it is asked for a batch
                pipe.recv()
            del started[process]
    finally:
        for process, pipe in started.items():
            process.kill()
            process.join()
            pipe.close()
    return begun


def _serve(pipe: Connection, source: Images, items: Sequence[Item], size: Size) -> None:
    """Decode the batches that the main process names, until it names none."""
    torch.set_num_threads(1)  # the thread pool of the process that this one is a copy of is not here
    # Signals are for the main process, which saves first and ends this one itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_watch, daemon=True).start()
    pipe.send(None)
    while (rows := pipe.recv()) is not None:
        found = None
        with suppress(Exception):  # the main process tries again, and says what is wrong
            found = gathered((source.read(items[row], size) for row in rows), len(rows), size).numpy()
        pipe.send(found)  # an array and no tensor, which would come in shared memory: that is scarce in containers


def _watch() -> None:
    """End this process with its parent, which may be killed and then ends nothing itself."""
    if (parent := parent_process()) is not None:
        parent.join()
    os._exit(1)


class Order:
    """Batches that were announced together, the first of them on their way."""

    def __init__(self, batches: Iterable[Tensor], decoders: Decoders) -> None:
        self._rest = ((rows, decoders.submit(rows)) for rows in (tuple(batch.tolist()) for batch in batches))
        self._sent: deque[tuple[Rows, Future[Found]]] = deque()
        self._room = AHEAD * decoders.count

    def fill(self) -> None:
        """Have as many decoded as there is room for."""
        self._sent.extend(islice(self._rest, self._room - len(self._sent)))

    def take(self, wanted: Rows) -> Future[Found] | None:
        """Return a batch that is on its way, and forget those announced before it; None where it is not."""
        if all(rows != wanted for rows, _ in self._sent):
            return None
        rows, future = self._sent.popleft()
        while rows != wanted:
            future.cancel()
            rows, future = self._sent.popleft()
        self.fill()
        return future

    def cancel(self) -> None:
        """Forget what is on its way."""
        for _, future in self._sent:
            future.cancel()
