"""What was run, on what, with which plugins, data and weights; clocks and paths live here and nowhere else."""

import platform
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from unlearnkit import __version__
from unlearnkit.errors import Exit, UserError
from unlearnkit.plugins import Plugins
from unlearnkit.solver import ranks
from unlearnkit.solver.origin import differences, software, told
from unlearnkit.solver.workbench import Workbench

PACKAGES = (
    "torch", "torchvision", "torchmetrics", "numpy", "pydantic", "pluggy", "safetensors", "pillow", "torchjd",
    "cooper-optim", "peft",
)  # fmt: skip


def describe(bench: Workbench, plugins: Plugins) -> dict[str, object]:
    """Return what the manifest of a run that starts now says of what is at work, and of weights and data."""
    packages = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "unlearnkit": __version__, "started": now(), "finished": None, "python": sys.version.split()[0],
        "torch": torch.__version__, "platform": platform.platform(), "device": device(bench.device),
        "processes": ranks.count(),
        "packages": packages,
        "plugins": [{n: getattr(plugin, n) for n in ("name", "package", "version", "error")} for plugin in plugins.all],
        **bench.facts, "basis": inputs(bench), "times": {}, "costs": {}, "resumed": [],
    }  # fmt: skip


def inputs(bench: Workbench) -> dict[str, Any]:
    """Return what a run works with beside its recipe, by name: a resumed one works with the same."""
    return {
        "software": bench.basis["software"] | software([bench.recipe]),
        "device": bench.basis["device"],
        "weights": bench.facts["weights"],
        "image_size": size if isinstance(size := bench.student.image_size, int) else [*size],
        "data": {"train": bench.basis["data"], "validation": bench.validation},
        "target_weights": bench.facts.get("target_weights"),
    }


BEHIND = {
    "weights": ("model",), "data": ("data", "seed"), "device": ("training",),
    "target_weights": ("model", "forget", "retain", "compare"),
}  # fmt: skip
"""By name of what a run works with, the parts of the recipe that a change of it may come from."""


def refuse_other(folder: Path, was: Mapping[str, Any], bench: Workbench, changed: Collection[str]) -> None:
    """Raise `UserError` where a run would go on with something else though the recipe's part behind it is the same.

    `changed` are the parts of the recipe that were changed. Another model may take the images at another size: they are
    held against what they were at theirs.
    """
    now = inputs(bench)
    common = was["software"].keys() & now["software"].keys()  # a changed recipe may use other packages
    before, after = ({name: side["software"][name] for name in common} for side in (was, now))
    found = differences(before, after)
    if (size := was.get("image_size", now["image_size"])) != now["image_size"] and not {"data", "seed"} & set(changed):
        now["data"] = bench.hashes_at(size)
    for name, parts in BEHIND.items():
        if not set(parts) & set(changed):
            found += differences(was.get(name), now.get(name), name.replace("_", " "))
    if found:
        ways = "go back to what it was, say with --set where it is now, or run the recipe again in another folder"
        raise UserError(f"{folder}: changed since the run began: {told(found)}; {ways}", Exit.FOLDER)


def device(found: torch.device) -> dict[str, object]:
    """Return kind and name of a device."""
    if found.type == "cuda":
        properties = torch.cuda.get_device_properties(found)
        return {"kind": "cuda", "name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
    return {"kind": found.type, "name": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def now() -> str:
    """Return the time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
