"""A checkpoint is one directory: tensors, and a record of the facts with their hash, renamed into place whole."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from unlearnkit.disk import new_folder, parsed_record, read_plain, read_record, remove_folder, write_file, write_record
from unlearnkit.errors import Exit, UserError

TENSORS, FACTS = "tensors.safetensors", "facts.json"
KEPT = 2
"""Checkpoints kept, so that one is left should the newest be damaged."""


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the checkpoint `path`: it exists whole afterwards, or nothing of it does."""
    data = save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
    with new_folder(path, replace=True) as part:
        write_file(part / TENSORS, data)
        write_record(part / FACTS, {"tensors": hashlib.sha256(data).hexdigest(), **facts})


def read(path: Path, take: Callable[[Path], bytes] = read_plain) -> tuple[dict[str, Tensor], Any]:
    """Return tensors and facts of files that are read by `take`; raise `UserError` naming one not as it was written."""
    facts, data = parsed_record(take(path / FACTS), path / FACTS), take(path / TENSORS)
    if hashlib.sha256(data).hexdigest() != facts.pop("tensors", None):
        raise UserError(f"{path / TENSORS}: damaged, its SHA-256 is not the recorded one", Exit.FOLDER)
    return load(data), facts


def facts(path: Path) -> Any:
    """Return the facts of a checkpoint; raise `UserError` naming them where they are not as they were written."""
    return read_record(path / FACTS)


def names(folder: Path) -> list[Path]:
    """Return the finished checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir()) if folder.is_dir() else []


def rotate(folder: Path) -> None:
    """Remove all but the newest checkpoints."""
    for path in names(folder)[:-KEPT]:
        remove_folder(path)


def newest(folder: Path, warn: Callable[[str], None]) -> tuple[dict[str, Tensor], Any] | None:
    """Return the newest whole checkpoint of a folder, telling `warn` of each damaged one that was passed over."""
    for path in reversed(names(folder)):
        try:
            return read(path)
        except UserError as error:
            warn(f"{error}; it was passed over")
    return None
