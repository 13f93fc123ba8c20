"""Which device a recipe runs on, and how what the host draws gets there."""

import os
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from unlearnkit.errors import Exit, UserError


def choose_device(name: str) -> torch.device:
    """Return the device of a recipe; raise `UserError` where it asks for a CUDA device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        found = f"'{name}' is asked for, but this machine shows {count} CUDA devices to PyTorch"
        raise UserError(f"training.device: {found}; use --set training.device=cpu, or auto", Exit.DEVICE)
    return device


def memory(device: torch.device) -> int | None:
    """Return the bytes that a device has, or this machine as far as its control group may use them; None if untold."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    found = []
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # the word "max" where there is no limit
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(found, default=None)


def make_deterministic(device: torch.device) -> None:
    """Ask for deterministic kernels on a CUDA device, before the first of them runs; on a CPU all of ours are."""
    # Where kernels are deterministic torch fills new memory, which takes time; none here reads what none has written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`, without waiting for what a CUDA device is at."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # A copy from memory that is not pinned waits for the device's whole queue.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
