"""What was run, on what, with which plugins, data and weights; clocks and paths live here and nowhere else."""

import hashlib
import platform
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from unlearnkit import __version__
from unlearnkit.plugins import Plugins
from unlearnkit.solver.workbench import Workbench

PACKAGES = (
    "torch", "torchvision", "torchmetrics", "numpy", "pydantic", "pluggy", "safetensors", "pillow", "torchjd",
    "cooper-optim",
)  # fmt: skip


def describe(bench: Workbench, plugins: Plugins, recipe_text: str, base: Path) -> dict[str, object]:
    """Return the manifest of a run that starts now."""
    packages = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "format": 1,
        "unlearnkit": __version__,
        "started": now(),
        "finished": None,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device(bench.device),
        "packages": packages,
        "plugins": [
            {name: getattr(plugin, name) for name in ("name", "package", "version", "error")} for plugin in plugins.all
        ],
        "recipe_sha256": hashlib.sha256(recipe_text.encode()).hexdigest(),
        "base": str(base.resolve()),
        **bench.facts,
        "times": {},
        "costs": {},
        "resumed": [],
    }


def device(found: torch.device) -> dict[str, object]:
    """Return kind and name of a device."""
    if found.type == "cuda":
        properties = torch.cuda.get_device_properties(found)
        return {"kind": "cuda", "name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
    return {"kind": found.type, "name": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def now() -> str:
    """Return the time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
