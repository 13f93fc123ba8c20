"""What is frozen is computed once for all problems of a run: the first stage's and the reference's outputs.

Each row is made when it is first asked for, and is kept in memory as far as its budget goes, then in memory-mapped
files as far as theirs goes; beyond both it is computed at every step again. Each is computed from its one image alone,
so that the numbers do not depend on which of the three it is. A file is named by what its rows depend on, and each row
stands in it with a check of its own: processes and runs that share a folder fill it together, and what one left torn or
a disk has damaged is made again.
"""

import fcntl
import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from unlearnkit.device import send
from unlearnkit.disk import MIB, disk_errors
from unlearnkit.solver.origin import digest

ALIGNED = 64
CHECK = 16
"""Bytes of the check of a row; zeros stand where there is none yet."""
BLOCK = 128
"""Rows that one process makes while others that want them wait."""

Compute = Callable[[Tensor], Iterable[Sequence[Tensor]]]
"""Returns the outputs of each of some rows, in their order, parts [1, ...]."""


def joined(rows: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Return single rows as parts [N, ...]."""
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


class Rows:
    """The frozen outputs of a set: parts [N, ...], one row an image, made when it is first asked for."""

    def __init__(self, parts: Sequence[Tensor], count: int, compute: Compute, device: torch.device) -> None:
        self.parts, self.compute, self.device = parts, compute, device
        self.ready = torch.zeros(count, dtype=torch.bool)

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the rows, each part [B, ...] on the device."""
        asked = rows.cpu()
        if len(left := asked[~self.ready[asked]].unique()):
            self.make(left)
            self.ready[left] = True
        return tuple(send(part[send(rows, part.device)], self.device) for part in self.parts)

    def make(self, rows: Tensor) -> None:
        """Compute rows."""
        for row, values in zip(rows.tolist(), self.compute(rows), strict=True):
            self.put(row, values)

    def put(self, row: int, values: Sequence[Tensor]) -> None:
        """Keep a row, parts [1, ...]."""
        for part, value in zip(self.parts, values, strict=True):
            part[row] = value[0]


class Filed(Rows):
    """Rows in a file that others fill as well."""

    def __init__(self, path: Path, layout: Sequence[Any], compute: Compute, device: torch.device) -> None:
        """Open the file, which is made where it is not there; raise `UserError` where the disk has no room for it."""
        count, size = layout[0][0], sum(_bytes(entry) for entry in layout)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            finalize(self, os.close, self.file)
            with self._alone(count):
                if os.fstat(self.file).st_size < size:
                    # Reserved at once: a mapped page that finds the disk full would kill the process.
                    os.posix_fallocate(self.file, 0, size)
            *parts, self.checks = _open(path, layout)
        super().__init__(parts, count, compute, device)

    def make(self, rows: Tensor) -> None:
        """Compute what nobody else has computed."""
        for block in (blocks := rows // BLOCK).unique().tolist():
            own = rows[blocks == block]
            with self._alone(block):
                left = [self.checks[row].numpy().tobytes() != self._check(row) for row in own.tolist()]
                super().make(own[left])

    def put(self, row: int, values: Sequence[Tensor]) -> None:
        """Keep a row with its check."""
        super().put(row, values)
        self.checks[row] = torch.frombuffer(bytearray(self._check(row)), dtype=torch.uint8)

    def _check(self, row: int) -> bytes:
        hashed = hashlib.sha256(str(row).encode())
        for part in self.parts:
            hashed.update(part[row].contiguous().view(-1).view(torch.uint8).numpy().data)
        return hashed.digest()[:CHECK]

    @contextmanager
    def _alone(self, block: int) -> Iterator[None]:
        """Let no other process into a block; where the file system knows no locks the same is computed twice."""
        with suppress(OSError):
            fcntl.lockf(self.file, fcntl.LOCK_EX, 1, block)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.lockf(self.file, fcntl.LOCK_UN, 1, block)


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
        self.kept: dict[str, dict[str, object]] = {}

    def rows(self, name: str, count: int, compute: Compute) -> Rows | None:
        """Return all rows of `compute`, those that lasted or were found in a file; None where they do not fit."""
        shelf, key = _shelf.get(), (self.identity, name)
        if shelf is not None and key in shelf:
            rows, self.kept[name] = shelf[key]
            rows.compute = compute
            return rows
        (first,) = ([part.cpu() for part in parts] for parts in compute(torch.tensor([0])))
        layout = [[count, *part.shape[1:], str(part.numpy().dtype)] for part in first]
        layout.append([count, CHECK, "uint8"])
        size = sum(map(_bytes, layout))
        made: Rows | None = None
        if size <= self.memory:
            self.memory -= size
            parts = [torch.empty(count, *part.shape[1:], dtype=part.dtype, device=self.device) for part in first]
            made, where = Rows(parts, count, compute, self.device), "memory"
        elif self.folder is not None and size <= self.disk:
            self.disk -= size
            path = self.folder / f"{name}-{digest([self.identity, name, layout])[:32]}.bin"
            made, where = Filed(path, layout, compute, self.device), "disk"
        else:
            where = "nowhere"
        self.kept[name] = {"where": where, "mib": round(size / MIB, 1)}
        if made is not None:
            made.put(0, first)
            made.ready[0] = True
        if made is not None and shelf is not None:
            for other in [other for other in shelf if other[0] != self.identity]:
                del shelf[other]
            shelf[key] = made, self.kept[name]
        return made


def _bytes(entry: Sequence[Any]) -> int:
    """Return the bytes of a part, rounded up so that the next one is aligned."""
    return -(-math.prod(entry[:-1]) * np.dtype(entry[-1]).itemsize // ALIGNED) * ALIGNED


def _open(path: Path, layout: Sequence[Any]) -> list[Tensor]:
    """Return the parts of a file."""
    parts, offset = [], 0
    for entry in layout:
        mapped = np.memmap(path, dtype=entry[-1], mode="r+", offset=offset, shape=tuple(entry[:-1]))
        parts.append(torch.from_numpy(mapped))
        offset += _bytes(entry)
    return parts
