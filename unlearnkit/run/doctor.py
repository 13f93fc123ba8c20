"""What a bug report and a new user need to know of this machine, whatever on it is broken."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Any

from unlearnkit import __version__
from unlearnkit.plugins import Plugins
from unlearnkit.plugins.catalogue import plugin_rows
from unlearnkit.plugins.faults import raised

PACKAGES = ("torch", "torchvision", "diffusers", "timm", "open-clip-torch", "numpy", "pydantic")
DRIVER = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]


def describe(plugins: Plugins) -> dict[str, Any]:
    """Return what there is here."""
    facts: dict[str, Any] = {"unlearnkit": __version__, "python": platform.python_version()}
    facts |= {"platform": platform.platform(), "packages": {name: _version(name) for name in PACKAGES}}
    facts |= dict.fromkeys(("threads", "disk_free_gib", "driver", "no_device")) | {"devices": []}
    with suppress(OSError):  # of a folder that has gone
        facts["disk_free_gib"] = round(shutil.disk_usage(".").free / 2**30, 1)
    with suppress(OSError, subprocess.SubprocessError):  # it may be missing, and hangs where the driver does
        facts["driver"] = subprocess.check_output(DRIVER, text=True, timeout=20).partition("\n")[0]  # noqa: S603
    try:
        import torch

        facts["packages"]["torch"], facts["threads"] = str(torch.__version__), torch.get_num_threads()
        torch.cuda.init()
        facts["devices"] = [_device(torch, f"cuda:{number}") for number in range(torch.cuda.device_count())]
    except Exception as error:  # torch's own words say why
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        facts["no_device"] = raised(error) + f" (CUDA_VISIBLE_DEVICES is '{visible}')" * (visible is not None)
    try:
        import torchvision  # noqa: F401
    except Exception as error:
        if there := facts["packages"]["torchvision"]:
            facts["packages"]["torchvision"] = f"{there} cannot be imported ({raised(error)})"
    facts["plugins"] = plugin_rows(plugins)
    packages = dict.fromkeys(row["package"] for row in facts["plugins"])
    return facts | {"missing": [extra for package in packages for extra in _missing(package)]}


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _missing(package: str) -> list[str]:
    """Return what installs each extra of a package that lacks something, but for those who work on the package."""
    needs: list[str] = []
    with suppress(PackageNotFoundError):  # of a plugin that no package brings
        needs = distribution(package).requires or needs
    extras = [found for need in needs for found in re.findall(r"^([\w.-]+).*extra == ['\"](.+?)['\"]", need)]
    lacking = dict.fromkeys(extra for name, extra in extras if _version(name) is None)
    return [f"pip install '{package}[{extra}]'" for extra in lacking if extra not in ("dev", "docs", "test")]


def _device(torch: Any, name: str) -> dict[str, Any]:
    """Return what a CUDA device is, and what a sum on it raised."""
    found = {"device": name, "name": torch.cuda.get_device_name(name), "memory_gib": None, "free_gib": None}
    try:
        torch.ones(1, device=name).add(1).item()
        found["free_gib"], found["memory_gib"] = (round(size / 2**30, 1) for size in torch.cuda.mem_get_info(name))
    except RuntimeError as error:
        return found | {"error": raised(error)}
    return found | {"error": None}


def lines(facts: dict[str, Any]) -> Iterator[str]:
    """Yield the same as a person reads it."""
    yield "unlearnkit {unlearnkit}, Python {python}, {platform}".format_map(facts)
    yield ", ".join(f"{name} {found or 'is not installed'}" for name, found in facts["packages"].items())
    driver = f", NVIDIA driver {facts['driver']}" if facts["driver"] else ""
    yield "{threads} threads in PyTorch, {disk_free_gib} GiB free in this folder".format_map(facts) + driver
    for one in facts["devices"] or [{"error": facts["no_device"], "device": "no CUDA device", "name": "PyTorch says"}]:
        yield f"{one['device']}: {one['name']}: {one['error'] or '{free_gib} of {memory_gib} GiB free'.format_map(one)}"
    for row in (row for row in facts["plugins"] if row["error"] or row["package"] != "unlearnkit"):
        said = " FAILED: {error}" if row["error"] else ""
        yield f"plugin {{name}} of {{package}} {{version}}{said}".format_map(row)
    yield from (f"an extra is missing: {install}" for install in facts["missing"])
