"""A checkpoint is one directory: safetensors and JSON, hashed, fsynced, then renamed into place."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from unlearnkit.disk import disk_errors, flush
from unlearnkit.errors import Exit, UserError

TENSORS, FACTS, HASHES = "tensors.safetensors", "facts.json", "hashes.json"
FORMAT = 1
KEPT = 2
"""Checkpoints kept, so that one is left should the newest be damaged."""


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint `path`: it exists whole afterwards, or nothing of it does."""
    part = path.with_name(f".{path.name}.part")
    host = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    files = {TENSORS: save(host), FACTS: json.dumps({"format": FORMAT, **facts}, indent=2).encode()}
    files[HASHES] = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in files.items()}).encode()
    with disk_errors(path):
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for name, data in files.items():
                (part / name).write_bytes(data)
                flush(part / name)
            flush(part)
            # What stands in the way is a damaged checkpoint of the same step, which was passed over.
            shutil.rmtree(path, ignore_errors=True)
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        flush(path.parent)


def read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Return tensors and facts; raise `UserError` naming a file that is damaged or of another format."""
    try:
        hashes = json.loads((path / HASHES).read_bytes())
        data = {name: (path / name).read_bytes() for name in (TENSORS, FACTS)}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: this is no whole checkpoint ({error})", Exit.FOLDER) from None
    for name, content in data.items():
        if hashlib.sha256(content).hexdigest() != hashes.get(name):
            raise UserError(f"{path / name}: damaged, its SHA-256 is not the recorded one", Exit.FOLDER)
    facts = json.loads(data[FACTS])
    if facts.pop("format") != FORMAT:
        raise UserError(f"{path}: written by another version of unlearnkit; run the recipe again", Exit.FOLDER)
    return load(data[TENSORS]), facts


def names(folder: Path) -> list[Path]:
    """Return the finished checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir()) if folder.is_dir() else []


def rotate(folder: Path) -> None:
    """Remove all but the newest checkpoints."""
    for path in names(folder)[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def newest(folder: Path, warn: Callable[[str], None]) -> tuple[dict[str, Tensor], Any] | None:
    """Return the newest whole checkpoint of a folder, telling `warn` of each damaged one that was passed over."""
    for path in reversed(names(folder)):
        try:
            return read(path)
        except UserError as error:
            warn(f"{error}; it was passed over")
    return None
