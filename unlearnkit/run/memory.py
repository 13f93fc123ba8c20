"""How much memory a step takes, counted on one image rather than guessed, and how much was taken in the end."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from unlearnkit.contracts import ModelAdapter, Part, Task, staged, trainable
from unlearnkit.contracts.checks import rows
from unlearnkit.data import random_view
from unlearnkit.disk import MIB

T = TypeVar("T")


@dataclass(frozen=True)
class Need:
    """Bytes that one image takes."""

    activations: int
    """Kept for the backward pass of the encoder."""
    embedding: int
    """Its embedding in fp32: what is kept of the reference."""
    stage: int
    """The output of the frozen first stage."""


def saved_bytes(function: Callable[[], T], own: set[int]) -> tuple[int, T]:
    """Return the bytes that autograd keeps for `function`, but for the storages in `own`, and what it returned."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = function()  # held until the count is done, so that no storage is counted under a freed address
        return sum(seen.values()), kept


aten = torch.ops.aten
PRODUCTS = {aten.convolution.default, aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}
"""What nearly all time of a pass goes to."""


class _Sizes(TorchDispatchMode):
    """Products as large as they are, and all 0: a CPU without bf16 of its own takes minutes for a large network's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        args, kwargs = tree_map_only(Tensor, lambda one: one.to("meta"), (args, kwargs or {}))
        return torch.zeros_like(func(*args, **kwargs), device="cpu")


def need(
    adapter: ModelAdapter, task: Task, part: Part, precision: str, device: torch.device, paired: bool = False
) -> Need:
    """Return what one image, or one pair, takes on the device, from passes of one and of two images."""
    adapter.module.to(device).requires_grad_(False)
    for parameter in trainable(adapter, part):
        parameter.requires_grad_(True)
    own = {tensor.untyped_storage().data_ptr() for tensor in adapter.module.state_dict().values()}

    def once(count: int) -> tuple[int, int, int]:
        view = random_view(adapter, task, count, "plan", device, paired)
        stage = staged(adapter, view)
        half = precision == "bf16"
        with (
            _Sizes() if half and device.type == "cpu" else nullcontext(),
            torch.autocast(device.type, torch.bfloat16, enabled=half),
        ):
            kept, embedding = saved_bytes(lambda: adapter.embed(view), own)
        found = rows(embedding, count, adapter, "embed", "model")
        return kept, sum(4 * tensor.numel() for tensor in found), sum(tensor.nbytes for tensor in stage)

    return Need(*(two - one for one, two in zip(once(1), once(2), strict=True)))


def reset_peak(device: torch.device) -> None:
    """Let `peak` count from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # Linux forgets the largest resident set here; elsewhere the peak is not known
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak(device: torch.device) -> int | None:
    """Return the most MiB since `reset_peak`, of tensors on a CUDA device, else of the process; None if untold."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MIB)
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) // 2**10 for line in lines if line.startswith("VmHWM:")), None)
    return None
