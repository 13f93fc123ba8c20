"""A run's folder: its lock, its room, its files."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unlearnkit.disk import MIB
from unlearnkit.errors import Exit, UserError
from unlearnkit.run import checkpoint


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, which the system frees even when the process is killed."""
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = "another process is working in this run folder; wait for it"
            raise UserError(f"{folder}: {busy}", Exit.FOLDER) from None
        yield


def refuse_used(folder: Path, advice: str) -> None:
    """Raise `UserError` with advice (`... with --to`) where a command would write over something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; {advice} with --to", Exit.FOLDER)


def refuse_begun(folder: Path) -> None:
    """Raise `UserError` where a new run would write over something."""
    refuse_used(folder, f"continue it with `unlearnkit resume {folder}`, or give another")


def read_json(path: Path) -> Any:
    """Return a JSON file of a run folder; raise `UserError` where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        wanted = f"this is no run folder with a readable {path.name}; give one that `unlearnkit run` wrote"
        raise UserError(f"{path.parent}: {wanted}", Exit.FOLDER) from None


def refuse_full(folder: Path, needed: int) -> None:
    """Raise `UserError` where the disk cannot hold so many bytes more."""
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        short = f"the run needs about {needed / MIB:.0f} MiB and the disk has {free / MIB:.0f} MiB"
        advice = "free some space or give a folder on another disk with --to"
        raise UserError(f"{folder}: {short}; {advice}", Exit.FOLDER)


def disk_bytes(sizes: Sequence[int], images: int, side: int) -> int:
    """Return about how much a run folder grows to: a vector a solution, three a checkpoint, and pictures.

    `sizes` are the entries of each solution's vector; `images` of `side` px are shown of both sets.
    """
    pictures = 2 * (len(sizes) + 3) * images * 3 * side**2
    return 4 * (sum(sizes) + 3 * (checkpoint.KEPT + 1) * max(sizes)) + 4 * pictures + MIB
