"""What a stored thing was computed from, as plain data: it is used again only where all of that is the same."""

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from unlearnkit.disk import sha256
from unlearnkit.errors import UserError
from unlearnkit.packages import beside, version
from unlearnkit.recipe.sections import Section
from unlearnkit.weights import resolve

Origin = dict[str, Any]
"""By name, all that a stored thing depends on."""

SHOWN = 4
"""Differences named of many."""


def digest(value: object) -> str:
    """Return the SHA-256 of plain data, wherever its keys stand."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def plain(value: object, base: Path) -> Any:
    """Return a section, or what holds some, as plain data, where a file that it names stands as its content."""
    if isinstance(value, Section):
        return {name: part if name == "kind" else plain(part, base) for name, part in value}
    if isinstance(value, Mapping):
        return {str(name): plain(part, base) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, base) for part in value]
    return _content(value, base) if isinstance(value, str) else value


def _content(text: str, base: Path) -> str:
    try:
        path = None if text.startswith("hub:") else resolve(text, base)  # a pinned reference is its content
        return text if path is None or path == base else f"sha256:{_hashed(path, _state(path))}"
    except (UserError, OSError, ValueError):  # a word, not a file
        return text


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what of the files at a path changes with them."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@cache
def _hashed(path: Path, state: tuple[tuple[str, int, int], ...]) -> str:
    """Return the SHA-256 of a file or folder, once for each state of it: every solution asks for it."""
    return sha256(path)


def software(values: Iterable[object]) -> dict[str, str]:
    """Return the version, and the hash of the source, of unlearnkit and of each package that brought a section.

    torch and what such a package asks to be installed beside it come with their versions alone.
    """
    found = {"torch": torch.__version__, "unlearnkit": version("unlearnkit")}
    for package in {type(section).__module__.partition(".")[0] for section in _sections(values)}:
        found |= {package: version(package)} | dict(beside(package) if package != "unlearnkit" else ())
    return found


def _sections(value: object) -> Iterator[Section]:
    if isinstance(value, Section):
        yield value
    parts = (part for _, part in value) if isinstance(value, Section) else value
    if isinstance(parts, Iterable) and not isinstance(parts, str):
        for part in parts.values() if isinstance(parts, Mapping) else parts:
            yield from _sections(part)


def processor(device: torch.device) -> dict[str, object]:
    """Return what of a device changes bits: a GPU's name; of a CPU its vector instructions and the threads in use."""
    if device.type == "cuda":
        return {"kind": "cuda", "name": torch.cuda.get_device_properties(device).name}
    vectors = torch.backends.cpu.get_cpu_capability()
    return {"kind": device.type, "name": f"{platform.machine()} {vectors}", "threads": torch.get_num_threads()}


def differences(was: object, now: object, name: str = "") -> list[str]:
    """Return what differs between two origins, each with its name and both values where they are short."""
    if was == now:
        return []
    if isinstance(was, dict) and isinstance(now, dict):
        keys = {**was, **now}
        return [text for key in keys for text in differences(was.get(key), now.get(key), f"{name}.{key}".strip("."))]
    said = [json.dumps(value, ensure_ascii=False).strip('"') for value in (was, now)]
    return [f"{name} ({said[0]} → {said[1]})" if max(map(len, said)) <= 40 else name]


def told(found: list[str]) -> str:
    """Return differences in one line."""
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
