"""Ratios of things run in turn in one process, and how much memory each takes."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")


def timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    """Return what `work` returns and its seconds: wall time on a CUDA device, this process's on a CPU others share."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    _wait(device)
    begun = clock()
    result = work()
    _wait(device)
    return result, clock() - begun


def in_turn(ways: Mapping[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the time of each way in each round.

    The order rotates from round to round; two rounds before the first, in which caches fill, do not count.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 2):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(timed(ways[name], device)[1])
    return {name: values[2:] for name, values in found.items()}


def ratio(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Return the median and the quartiles of the ratio of two ways in the same round."""
    low, middle, high = statistics.quantiles(
        [a / b for a, b in zip(above, below, strict=True)], n=4, method="inclusive"
    )
    return middle, low, high


def peak_bytes(work: Callable[[], None], device: torch.device) -> int:
    """Return the most bytes of tensors that `work` made and that were alive at one time."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with _Counter() as counter:
        work()
    return counter.peak


def operations(work: Callable[[], None]) -> int:
    """Return the floating-point operations of the matrix products, convolutions and attentions in `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


class _Counter(TorchDispatchMode):
    """Counts the storages that operators return for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.given: set[int] = set()
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.given |= {key for key, _ in map(_storage, _tensors((args, kwargs or {}))) if key not in self.alive}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            key, size = _storage(tensor)
            if key not in self.given and key not in self.alive:
                self.alive[key] = StorageWeakRef(tensor.untyped_storage()), size
        for key in [key for key, (reference, _) in self.alive.items() if reference.expired()]:
            del self.alive[key]
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
