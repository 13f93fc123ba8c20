"""Processes that share the batches of one run, as torchrun starts them; the only place that knows torch.distributed.

The first process leads: it alone has optimiser, λ, folder and report. The others wait for what it says, and compute
their parts of it.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from unlearnkit.errors import Exit, UserError

T = TypeVar("T")

_met: list[Any] = []
"""The group of all processes and whether each has a CUDA device of its own, once they have met."""
POLL = 0.1
"""Seconds between two looks at whether the others are done."""
PATIENCE = timedelta(days=30)
"""How long a process waits for the next word; one that has died is noticed at once, by its connection."""


def count() -> int:
    """Return how many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return which of them this is; the first is 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def join() -> None:
    """Meet the other processes, each on a CUDA device of its own as far as there are enough of them."""
    if count() == 1 or _met:
        return
    devices = torch.cuda.device_count()
    if devices:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % devices)
    enough = devices >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    dist.init_process_group("cpu:gloo,cuda:nccl" if enough else "gloo", timeout=PATIENCE)
    _met.extend((dist.group.WORLD, enough))
    dist.group.WORLD = None


@contextmanager
def leading() -> Iterator[None]:
    """Send the other processes home behind the block, if it comes to its end."""
    yield
    if _met:
        say(None)
        with _connected():
            dist.destroy_process_group()
        _met.clear()


@contextmanager
def following() -> Iterator[None]:
    """Meet the others, leave signals to the first process inside the block, and end in silence where it is gone."""
    join()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    except LostError:
        return


class LostError(UserError):
    """Another process of the run has ended."""


@contextmanager
def _connected() -> Iterator[None]:
    """Let the processes see each other inside the block alone: torchmetrics would add up its states over all."""
    dist.group.WORLD = _met[0]
    try:
        yield
    except RuntimeError as error:  # of all kinds that the backends raise
        found = "a process of this run has ended before its time"
        raise LostError(f"ranks: {found}; what it said stands above, and resume goes on", Exit.DEVICE) from error
    finally:
        dist.group.WORLD = None


def say(word: object) -> None:
    """Tell all other processes something that can be pickled."""
    with _connected():
        dist.broadcast_object_list([word], 0, device=torch.device("cpu"))


def hear() -> Any:
    """Return what the first process says next."""
    word = [None]
    with _connected():
        dist.broadcast_object_list(word, 0, device=torch.device("cpu"))
    return word[0]


def gathered(mine: T) -> list[T]:
    """Return what each process gives, by rank, at the first one; nothing at the others."""
    found: list[Any] = [None] * count()
    with _connected():
        dist.gather_object(mine, None if rank() else found, 0)
    return [] if rank() else found


def awaited(meanwhile: Callable[[], None]) -> None:
    """Wait until all have come here; the first process calls `meanwhile` over and over, where signals can reach it."""
    with _connected():
        here = dist.all_reduce(torch.zeros(1), async_op=True)
    while not rank() and not here.is_completed():
        meanwhile()
        time.sleep(POLL)
    with _connected():
        here.wait()


def shared(scalars: tuple[Tensor | None, Tensor] | None, device: torch.device) -> tuple[Tensor | None, Tensor]:
    """Return on `device` two scalars that the first process knows; the others give None."""
    if rank():
        first, second = hear()
        return None if first is None else first.to(device), second.to(device)
    assert scalars is not None
    say(tuple(None if one is None else one.cpu() for one in scalars))
    return scalars


def share(vector: Tensor) -> None:
    """Copy a vector of the first process to all others, in place."""
    wired = _wired(vector)
    with _connected():
        dist.broadcast(wired, 0)
    if wired is not vector:
        vector.copy_(wired)


def mine(leaves: int, spread: bool) -> range:
    """Return the leaves of this process: all of them where they are not spread."""
    if not spread:
        return range(leaves)
    return range(-(-rank() * leaves // count()), -(-(rank() + 1) * leaves // count()))


def total(leaves: int, leaf: Callable[[int], Tensor], spread: bool) -> Tensor | None:
    """Return the sum of `leaf(0)`, `leaf(1)`, ... at the first process, None at the others.

    It is taken in one binary tree, so that its bits do not depend on which process has which leaves. Each leaf is a
    tensor that may be added to, all of one shape.
    """

    def node(first: int, behind: int) -> Tensor | None:
        if behind - first == 1:
            return leaf(first) if owner(first) == me else None
        middle = first + (1 << (behind - first - 1).bit_length() - 1)
        left, right = node(first, middle), node(middle, behind)
        if owner(first) == owner(middle):
            return None if left is None or right is None else left.add_(right)
        if right is not None and owner(middle) == me:
            _send(right, owner(first))
            return None
        return None if left is None else left.add_(_received(left, owner(middle)))

    def owner(leaf: int) -> int:
        return leaf * count() // leaves if spread else me

    me = rank()
    return node(0, leaves)


def _send(tensor: Tensor, to: int) -> None:
    with _connected():
        dist.send(_wired(tensor), to)


def _received(like: Tensor, sender: int) -> Tensor:
    found = torch.empty_like(_wired(like))
    with _connected():
        dist.recv(found, sender)
    return found.to(like.device)


def _wired(tensor: Tensor) -> Tensor:
    """Return a tensor where the processes can exchange it: on the host, unless each has a CUDA device of its own."""
    return tensor if _met[1] else tensor.cpu()
