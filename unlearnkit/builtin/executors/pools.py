"""Processes of this machine: a pool of one for each, so that one that dies takes no other with it."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any

import torch

from unlearnkit.recipe.sections import Submit


@dataclass
class _Place:
    """One of the processes."""

    device: str | None
    """The GPU that it sees, None for all there are."""
    pool: ProcessPoolExecutor | None = None
    last: Future[Any] | None = None

    def idle(self) -> bool:
        return self.last is None or self.last.done()

    def submit(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        try:
            if self.pool is None:
                raise BrokenExecutor
            self.last = self.pool.submit(work, *given)
        except BrokenExecutor:  # its process has died, or is the first
            self.pool = ProcessPoolExecutor(1, get_context("spawn"), _begin, (self.device,))
            self.last = self.pool.submit(work, *given)
        return self.last


@contextmanager
def pools(workers: int) -> Iterator[Submit]:
    """Yield what has so many processes work, which share the GPUs in turn; what is at work at the end is killed."""
    before, gpus = active_children(), _gpus()
    places = [_Place(gpus[number % len(gpus)] if gpus else None) for number in range(workers)]

    def submit(work: Callable[..., Any], *given: Any) -> Future[Any]:
        return next(place for place in places if place.idle()).submit(work, *given)

    try:
        yield submit
    finally:
        for child in (child for child in active_children() if child not in before):
            child.kill()
        for place in places:
            if place.pool is not None:
                place.pool.shutdown(cancel_futures=True)


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(torch.cuda.device_count())] if visible is None else visible.split(",")


def _begin(device: str | None) -> None:
    """Prepare a process: it leaves Ctrl-C to that of the command, and ends when that does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    command = parent_process()
    assert command is not None
    command.join()
    os._exit(1)
