"""What is frozen is computed once for all problems of a run: the first stage's and the reference's outputs.

Rows are kept in memory as far as its budget goes, then in memory-mapped files inside the run folder as far as theirs
goes; beyond both they are computed at every step again. Each row is computed from its one image alone, so that the
numbers do not depend on which of the three it is.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnkit.device import send
from unlearnkit.disk import MIB, PART, disk_errors, read_record, sha256, write_record
from unlearnkit.errors import UserError

ALIGNED = 64

Compute = Callable[[int], Sequence[Tensor]]


def joined(rows: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Return single rows as parts [N, ...]."""
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


class Rows:
    """The frozen outputs of a set: parts [N, ...], one row an image."""

    def __init__(self, parts: Sequence[Tensor], device: torch.device) -> None:
        self.parts, self.device = parts, device

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the rows, each part [B, ...] on the device."""
        return tuple(send(part[send(rows, part.device)], self.device) for part in self.parts)


_shelf: ContextVar[dict[tuple[str, str], tuple[Rows, dict[str, object]]] | None] = ContextVar("shelf", default=None)
"""Inside `lasting`, the rows of the last identity by that and by their name, with what is said of where they are."""


@contextmanager
def lasting() -> Iterator[None]:
    """Let every store that is made inside the block use what the one before it has, where that is of the same."""
    token = _shelf.set({})
    try:
        yield
    finally:
        _shelf.reset(token)


class Store:
    """Where frozen outputs are kept, and how many images have passed through each frozen part."""

    def __init__(self, folder: Path | None, memory: int, disk: int, identity: str, device: torch.device) -> None:
        """Keep up to `memory` bytes on the device and `disk` bytes below `folder`; `identity` names model and data."""
        self.folder, self.memory, self.disk, self.identity, self.device = folder, memory, disk, identity, device
        self.passes: Counter[str] = Counter()
        self.damaged: list[Path] = []
        """Files that were not as they had been written, and were computed again."""
        self.kept: dict[str, dict[str, object]] = {}

    def rows(self, name: str, count: int, compute: Compute) -> Rows | None:
        """Return all rows of `compute`, made now, found on disk or lasting; None where they do not fit."""
        shelf, key = _shelf.get(), (self.identity, name)
        if shelf is not None and key in shelf:
            rows, self.kept[name] = shelf[key]
            return rows
        first = [part.cpu() for part in compute(0)]
        size = count * sum(part.nbytes for part in first)
        if size <= self.memory:
            self.memory -= size
            parts = [torch.empty(count, *part.shape[1:], dtype=part.dtype, device=self.device) for part in first]
            self._fill(parts, count, compute, first)
            where = "memory"
        elif self.folder is not None and size <= self.disk:
            self.disk -= size
            parts = self._mapped(self.folder, name, count, compute, first)
            where = "disk"
        else:
            self.kept[name] = {"where": "nowhere", "mib": round(size / MIB, 1)}
            return None
        self.kept[name] = {"where": where, "mib": round(size / MIB, 1)}
        made = Rows(parts, self.device)
        if shelf is not None:
            for other in [other for other in shelf if other[0] != self.identity]:
                del shelf[other]
            shelf[key] = made, self.kept[name]
        return made

    def _fill(self, parts: Sequence[Tensor], count: int, compute: Compute, first: Sequence[Tensor]) -> None:
        for row in range(count):
            for part, value in zip(parts, compute(row) if row else first, strict=True):
                part[row] = value[0]

    def _mapped(self, folder: Path, name: str, count: int, compute: Compute, first: Sequence[Tensor]) -> list[Tensor]:
        """Return memory-mapped rows: those of an earlier start if whole and of the same origin, or new ones."""
        facts_path, data_path = folder / f"{name}.json", folder / f"{name}.bin"
        layout = [[count, *part.shape[1:], str(part.numpy().dtype)] for part in first]
        if self._intact(facts_path, data_path, {"identity": self.identity, "layout": layout}):
            return _open(data_path, layout)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            part_path = folder / f".{name}{PART}"
            with part_path.open("wb") as stream:
                # Reserved at once: a mapped page that finds the disk full would kill the process.
                os.posix_fallocate(stream.fileno(), 0, sum(_bytes(entry) for entry in layout))
            parts = _open(part_path, layout, mode="r+")
            self._fill(parts, count, compute, first)
            del parts
            part_path.rename(data_path)
            write_record(facts_path, {"identity": self.identity, "layout": layout, "data": sha256(data_path)})
        return _open(data_path, layout)

    def _intact(self, facts_path: Path, data_path: Path, wanted: dict[str, Any]) -> bool:
        if not (facts_path.exists() and data_path.exists()):
            return False
        try:
            facts = read_record(facts_path)
        except UserError:
            self.damaged.append(facts_path)
            return False
        if {name: facts.get(name) for name in wanted} != wanted:
            return False
        if (same := facts["data"] == sha256(data_path)) is False:
            self.damaged.append(data_path)
        return same


def _bytes(entry: list[Any]) -> int:
    """Return the bytes of a part, rounded up so that the next one is aligned."""
    return -(-math.prod(entry[:-1]) * np.dtype(entry[-1]).itemsize // ALIGNED) * ALIGNED


def _open(path: Path, layout: list[list[Any]], mode: Any = "c") -> list[Tensor]:
    """Return the parts of a file; copy-on-write by default, because torch knows no read-only memory."""
    parts, offset = [], 0
    for entry in layout:
        mapped = np.memmap(path, dtype=entry[-1], mode=mode, offset=offset, shape=tuple(entry[:-1]))
        parts.append(torch.from_numpy(mapped))
        offset += _bytes(entry)
    return parts
