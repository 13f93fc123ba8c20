"""The seal of a finished run or an exported model: the hash of each file, without which none of them is read again."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from unlearnkit.disk import PART, read_plain, read_record, refuse_links, sha256, write_record
from unlearnkit.errors import Exit, UserError

FORMAT = 2
"""Of a run folder and of all that is in it; raised whenever another version would misread one."""
SEAL, MANIFEST = "seal.json", "manifest.json"
UNSEALED = frozenset({"lock", SEAL})
LONGEST = 256
"""Letters that no file's name has."""


def read_formatted(path: Path) -> dict[str, Any]:
    """Return a record that has the format of a run folder; raise `UserError` for another format, as for damage."""
    value = read_record(path)
    if (found := value.pop("format", None)) != FORMAT:
        by = f"unlearnkit {value['unlearnkit']}" if "unlearnkit" in value else "another version of unlearnkit"
        wrong = f"of format {found}, as {by} writes it, and this version reads format {FORMAT}"
        raise UserError(f"{path}: {wrong}; use that version, or run the recipe again", Exit.FOLDER)
    return value


def refuse_unsealed(folder: Path) -> None:
    """Raise `UserError` where a folder is none that an export left."""
    if not (folder / SEAL).is_file():
        advice = f"give a folder that `unlearnkit export` wrote, with its {SEAL}"
        code = Exit.REFUSED if folder.is_dir() else Exit.USAGE
        raise UserError(f"{folder}: this is no exported model; {advice}", code)


def refuse_sealed(folder: Path) -> None:
    """Raise `UserError` where what is written into a folder would change sealed files."""
    if (folder / SEAL).exists():
        wrong = "there is a finished run or an exported model, whose files are sealed"
        raise UserError(f"--to {folder}: {wrong}; give another folder", Exit.USAGE)


class Sealed:
    """A finished run folder or an exported model, of which nothing is read that is not as it was when it was sealed."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder, self.files = folder, dict(files)

    @classmethod
    def of(cls, folder: Path) -> "Sealed":
        """Return a sealed folder; raise `UserError` for one with a link in it or without a seal as it was written."""
        if folder.is_dir():
            refuse_links(folder)
        if not (folder / SEAL).is_file():
            if (folder / MANIFEST).is_file():
                read_formatted(folder / MANIFEST)  # which tells a folder of another version
                unfinished = f"the run has not finished; try `unlearnkit resume {folder}`"
                raise UserError(f"{folder / SEAL}: not there, so {unfinished}", Exit.FOLDER)
            raise UserError(f"{folder}: this is no run folder; give one that `unlearnkit run` wrote", Exit.FOLDER)
        files = read_formatted(folder / SEAL).get("files")
        if not isinstance(files, dict) or not all(isinstance(one, str) for one in files.values()):
            raise UserError(f"{folder / SEAL}: it names no files with their hashes, so it is no seal", Exit.FOLDER)
        return cls(folder, files)

    @classmethod
    def measured(cls, folder: Path) -> "Sealed":
        """Return a folder as it is now, to be sealed; folders in it with a seal of their own are left to that."""
        inner = {path.parent for path in folder.rglob(SEAL)} - {folder}
        files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not inner.intersection(path.parents))
        named = {path.relative_to(folder).as_posix(): path for path in files if not path.name.endswith(PART)}
        return cls(folder, {name: sha256(path) for name, path in named.items() if name not in UNSEALED})

    def read(self, name: str) -> bytes:
        """Return a file of the folder; raise `UserError` naming it where it is not part of the run, or has changed."""
        if name not in self.files or ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(f"{self.folder / name}: not sealed with the rest, so it is not read", Exit.FOLDER)
        data = read_plain(self.folder / name)
        self._hold(name, hashlib.sha256(data).hexdigest())
        return data

    def json(self, name: str) -> Any:
        """Return what a JSON file of the folder says, without its hash where it is a record."""
        value = json.loads(self.read(name))
        return {key: part for key, part in value.items() if key != "sha256"} if isinstance(value, dict) else value

    def verify(self, below: str = "") -> None:
        """Look at every file whose name starts so; raise `UserError` for the first that is not as it was."""
        for name in (name for name in self.files if name.startswith(below)):
            path = self.folder / name
            there = all(len(part) < LONGEST for part in path.parts) and path.is_file()
            self._hold(name, sha256(path) if there else None)

    def _hold(self, name: str, found: str | None) -> None:
        if found != self.files[name]:
            how = "is not there any more" if found is None else "has another SHA-256 than in the seal"
            changed = f"changed since it was sealed: it {how}; put the file back as it was"
            raise UserError(f"{self.folder / name}: {changed}", Exit.FOLDER)

    def write(self, written: Iterable[Path] = (), anew: Callable[[str], bool] = lambda name: False) -> None:
        """Seal the folder, with files that were `written` into it since; of those that are `anew`, with these alone."""
        self.files = {name: its for name, its in self.files.items() if not anew(name)}
        self.files |= {path.relative_to(self.folder).as_posix(): sha256(path) for path in written}
        write_record(self.folder / SEAL, {"format": FORMAT, "files": dict(sorted(self.files.items()))})
