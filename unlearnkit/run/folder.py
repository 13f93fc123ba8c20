"""A run's folder: its lock, its room, and the recipe that it was made with."""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnkit.disk import (
    MIB,
    PART,
    as_json,
    disk_errors,
    read_plain,
    refuse_links,
    remove_folder,
    write_file,
    write_json,
)
from unlearnkit.errors import Exit, UserError
from unlearnkit.seal import MANIFEST, read_formatted

if TYPE_CHECKING:
    from unlearnkit.contracts import Size

LOCK, RECIPE, RESOLVED = "lock", "recipe.yaml", "recipe.resolved.json"
TASKS, TOKEN = "tasks", "tasks/token"
"""While workers do the tasks of a run: a folder of each task, and what says for whom they work."""
EVENTS = "events.jsonl"
MARK = b"unlearnkit\n"
"""What the lock holds, which makes the folder ours from its first instant."""


@contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock, which the system frees even when the process is killed; a missing folder is made.

    Raise `UserError` where another process holds it, or `wait` for that.
    """
    path = folder / LOCK
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    with open(descriptor, "r+b", buffering=0) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            busy = "another process is working in this run folder; wait for it"
            raise UserError(f"{folder}: {busy}", Exit.FOLDER) from None
        with disk_errors(path):
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and os.fstat(descriptor).st_size == 0:
                stream.write(MARK)
        yield


def refuse_used(folder: Path, advice: str) -> None:
    """Raise `UserError` with advice (`... with --to`) where a command would write over something, or can't write."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; {advice} with --to", Exit.FOLDER)
    if folder.absolute() == Path.cwd():  # which is replaced as a whole
        raise UserError(f"{folder}: this is the folder that the command runs in; {advice} with --to", Exit.FOLDER)
    above = _standing(folder)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "nothing can be written in" if above.is_dir() else "a file stands at"
        raise UserError(f"{folder}: {why} {above}; give another folder with --to", Exit.FOLDER)


def refuse_begun(folder: Path) -> None:
    """Raise `UserError` where a new run would write over something, which what a start left half done is not."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not path.name.endswith(PART)}
        lock = folder / LOCK
        ours = lock.is_file() and (lock.read_bytes() == MARK or names == {LOCK})
        if ours and names <= {LOCK, RECIPE, RESOLVED, EVENTS}:
            return
    refuse_used(folder, f"continue it with `unlearnkit resume {folder}`, or give another")


def recall(folder: Path) -> None:
    """Have workers of a process that is gone leave a held folder; raise `UserError` where one is still at work."""
    (folder / TOKEN).unlink(missing_ok=True)
    for task in (path for path in (folder / TASKS).glob("*") if path.is_dir()):
        if busy(task):
            found = "a worker of an earlier command is still at work here; it saves and leaves, so wait a moment"
            raise UserError(f"{task}: {found}, or cancel its job", Exit.FOLDER)
    remove_folder(folder / TASKS)


def busy(folder: Path) -> bool:
    """Tell whether a process holds a folder, which need not be there."""
    try:
        if folder.is_dir():
            with held(folder):
                pass
    except UserError:
        return True
    return False


def begin(folder: Path, text: str, resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Write both forms of the recipe into a held folder, and return what its manifest, written last, says of them."""
    write_file(folder / RECIPE, text.encode())
    write_json(folder / RESOLVED, resolved)
    hashes = {"recipe_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return hashes | {"resolved_sha256": [_hash(folder / RESOLVED)]}


def change(folder: Path, resolved: Mapping[str, Any], save: Callable[[list[str]], None]) -> None:
    """Replace the resolved recipe of a held folder; `save` stores the hashes that are right: both on the way."""
    data = as_json(resolved).encode()
    after = hashlib.sha256(data).hexdigest()
    save([_hash(folder / RESOLVED), after])
    write_file(folder / RESOLVED, data)
    save([after])


def begun(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run; raise `UserError` where there is none, or it or the recipe is not as written."""
    if not folder.is_dir():
        raise UserError(f"{folder}: this is no run folder; give one that `unlearnkit run` wrote", Exit.FOLDER)
    refuse_links(folder)
    if not (folder / MANIFEST).exists():
        advice = f"no run was begun here; `unlearnkit run RECIPE --to {folder}` begins one"
        raise UserError(f"{folder}: there is no {MANIFEST}: {advice}", Exit.FOLDER)
    manifest = read_formatted(folder / MANIFEST)
    for name, hashes in ((RESOLVED, manifest["resolved_sha256"]), (RECIPE, [manifest["recipe_sha256"]])):
        if _hash(folder / name) not in hashes:
            damaged = "damaged: it is not as unlearnkit wrote it; change a recipe with `unlearnkit resume --set`"
            raise UserError(f"{folder / name}: {damaged}", Exit.FOLDER)
    return manifest


def changed(folder: Path, resolved: Mapping[str, Any]) -> set[str]:
    """Return which parts of the whole recipe of a run are others in `resolved`."""
    known = json.loads(read_plain(folder / RESOLVED))
    return {name for name in known.keys() | resolved.keys() if known.get(name) != resolved.get(name)}


def basis_of(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run works with beside the recipe that is in its folder, of which a change may have been killed."""
    before = manifest.get("basis_before")
    if before is None or _hash(folder / RESOLVED) != manifest["resolved_sha256"][0]:
        before = manifest["basis"]
    return dict(before)


def base_of(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Return where relative paths of a run's recipe start, also where it was moved together with the run folder."""
    base = Path(manifest["base"])
    near = folder / manifest["near"]
    return near if not base.is_dir() and near.is_dir() else base


def places(folder: Path, base: Path) -> dict[str, str]:
    """Return what `base_of` reads."""
    return {"base": str(base.resolve()), "near": os.path.relpath(base.resolve(), folder.resolve())}


def _hash(path: Path) -> str:
    return hashlib.sha256(read_plain(path)).hexdigest()


def refuse_full(folder: Path, needed: int) -> None:
    """Raise `UserError` where the disk cannot hold so many bytes more."""
    free = shutil.disk_usage(_standing(folder)).free
    if needed > free:
        short = f"the run needs about {needed / MIB:.0f} MiB and the disk has {free / MIB:.0f} MiB"
        advice = "free some space or give a folder on another disk with --to"
        raise UserError(f"{folder}: {short}; {advice}", Exit.FOLDER)


def _standing(folder: Path) -> Path:
    """Return a folder, or where it is not there what it is to be made in."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def disk_bytes(sizes: Sequence[int], images: int, size: "Size", model: int = 0) -> int:
    """Return about how much a run folder grows to: a vector a solution, three a checkpoint, pictures and the original.

    `sizes` are the entries of each solution's vector; `images` of `size` px are shown of both sets; `model` are the
    entries of the whole model.
    """
    from unlearnkit.data import weight
    from unlearnkit.run import checkpoint  # which takes seconds to import

    pictures = 2 * (len(sizes) + 3) * images * weight(size)
    return 4 * (model + sum(sizes) + 3 * (checkpoint.KEPT + 1) * max(sizes)) + 4 * pictures + MIB
